"""The rule of each algorithm from Fishr to ADRMX, against numpy or a computation by hand."""

import copy
from statistics import NormalDist

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from roga_domainbed.engine import algorithms, networks
from roga_domainbed.engine.algorithms._contrastive_bottleneck import bottleneck
from roga_domainbed.engine.algorithms._minibatches import domain_labels
from roga_domainbed.engine.algorithms._steps import descend
from roga_domainbed.engine.algorithms.adrmx import remixed_pairs, supervised_contrast
from roga_domainbed.engine.algorithms.eqrm import risk_quantile
from roga_domainbed.engine.algorithms.fishr import per_sample_gradients
from roga_domainbed.engine.algorithms.transfer import project
from roga_domainbed.engine.algorithms.trm import hessian_product, solved, weight_gradient
from roga_domainbed.engine.hparams_registry import default_hparams


@pytest.fixture(autouse=True)
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make(name, n_domains=3, **overrides):
    torch.manual_seed(0)
    hparams = {**default_hparams(name, "Debug28"), "mlp_width": 8, "mlp_depth": 2, "mlp_dropout": 0.0}
    return algorithms.get_algorithm_class(name)((6,), 2, n_domains, {**hparams, **overrides})


def minibatches(sizes=(4, 4, 4), seed=2):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(rows, 6, generator=generator), torch.arange(rows) % 2) for rows in sizes]


def labelled(n=9, width=4, n_classes=3, n_domains=2, seed=0):
    """Features, labels and environments. Class 9 and environment 9 have one sample each."""
    draw = np.random.default_rng(seed)
    y, domain = draw.integers(0, n_classes, n), draw.integers(0, n_domains, n)
    y[0], domain[1] = 9, 9
    return draw.normal(size=(n, width)), y, domain


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


# Fishr


def test_per_sample_gradients_of_a_linear_classifier_are_the_error_times_the_features():
    torch.manual_seed(0)
    classifier, z, y = torch.nn.Linear(3, 2), torch.randn(5, 3), torch.tensor([0, 1, 1, 0, 1])
    error = softmax(classifier(z).detach().numpy()) - np.eye(2)[y]
    expected = [
        np.concatenate([np.outer(e, row).ravel(), e]) for e, row in zip(error, z.numpy(), strict=True)
    ]
    got = per_sample_gradients(classifier, z, y).detach().numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_per_sample_gradients_of_any_classifier_are_those_of_one_sample_at_a_time():
    torch.manual_seed(0)
    classifier, z, y = networks.Classifier(8, 3, True), torch.randn(4, 8), torch.tensor([0, 2, 1, 2])
    got = per_sample_gradients(classifier, z, y)
    for row, sample, label in zip(got, z, y, strict=True):
        gradients = torch.autograd.grad(
            F.cross_entropy(classifier(sample), label), list(classifier.parameters())
        )
        torch.testing.assert_close(row, torch.cat([gradient.flatten() for gradient in gradients]))


def gradient_variances(algorithm, batches):
    """(environments, weights), from the closed form of a linear classifier, in numpy."""
    rows = []
    for x, y in batches:
        z = algorithm.featurizer(x).detach().numpy()
        error = softmax(algorithm.predict(x).detach().numpy()) - np.eye(2)[y]
        weights = np.einsum("nc,nd->ncd", error, z).reshape(len(x), -1)
        rows.append(np.concatenate([weights, error], 1).var(0))
    return np.array(rows)


def test_fishrs_penalty_is_the_mean_squared_distance_of_averaged_variances_from_their_mean():
    algorithm = make("Fishr", ema=0.8, lr=0.0)
    average = 0.0
    for seed in (2, 3, 4):
        batches = minibatches((4, 5, 6), seed)
        average = 0.8 * average + 0.2 * gradient_variances(algorithm, batches)
        distance = (average - average.mean(0)) / 0.2
        assert algorithm.update(batches)["penalty"] == pytest.approx((distance**2).mean(), rel=1e-9)


@pytest.mark.parametrize(("steps", "weight"), [(0, 0.0), (1, 0.0), (2, 50.0), (3, 50.0)])
def test_fishrs_penalty_counts_after_its_annealing(steps, weight):
    algorithm = make("Fishr", **{"lambda": 50.0, "penalty_anneal_iters": 2})
    for _ in range(steps):
        algorithm.update(minibatches())
    result = algorithm.update(minibatches())
    assert result["loss"] == pytest.approx(result["nll"] + weight * result["penalty"])
    assert algorithm.update_count.tolist() == [steps + 1]


# What begins after some steps


@pytest.mark.parametrize(
    ("name", "begins", "lr"),
    [
        ("Fishr", {"penalty_anneal_iters": 2}, 1e-3),
        ("EQRM", {"eqrm_burnin_iters": 2, "eqrm_lr": 0.5}, 0.5),
        ("EQRM", {"eqrm_burnin_iters": 1.5, "eqrm_lr": 0.5}, 0.5),
        ("RDM", {"rdm_penalty_anneal_iters": 2, "rdm_lr": 0.5}, 0.5),
    ],
)
def test_adam_starts_anew_with_its_learning_rate_when_the_loss_changes(name, begins, lr):
    algorithm = make(name, **begins)
    counts, rates = [], []
    for _ in range(4):
        algorithm.update(minibatches())
        counts.append(int(algorithm.optimizer.state[algorithm.classifier.weight]["step"]))
        rates.append(algorithm.optimizer.param_groups[0]["lr"])
    assert counts == [1, 2, 1, 2]
    assert rates == [1e-3, 1e-3, lr, lr]


@pytest.mark.parametrize(
    ("name", "attributes"), [("Fishr", {"variances"}), ("TRM", {"head_weights", "head_biases", "alpha"})]
)
def test_what_domainbeds_checkpoints_lack_is_not_in_the_state_dict(name, attributes):
    algorithm = make(name)
    assert attributes <= dict(algorithm.named_buffers()).keys()
    assert not attributes & algorithm.state_dict().keys()


def test_a_second_step_under_autocast_sees_the_weights_of_the_first():
    network = torch.nn.Linear(3, 1).float()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    x = torch.ones(2, 3, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        before = network(x).mean()
        descend(before, optimizer)
        after = network(x).mean()
    # The gradient is 1 in each of the three weights and in the bias.
    assert after.item() == pytest.approx(before.item() - 4, abs=0.05)


# CausIRL


@pytest.mark.parametrize("name", ["CausIRL_CORAL", "CausIRL_MMD"])
def test_the_penalty_is_the_distance_of_the_first_parts_and_the_second_parts_of_all_minibatches(name):
    algorithm, batches = make(name), minibatches()
    np.random.seed(5)  # noqa: NPY002
    cuts = [np.random.randint(0, 4) for _ in batches]  # noqa: NPY002
    z = [algorithm.featurizer(x).detach() for x, _ in batches]
    first = torch.cat([each[:cut] for each, cut in zip(z, cuts, strict=True)])
    second = torch.cat([each[cut:] for each, cut in zip(z, cuts, strict=True)])
    assert min(len(first), len(second)) > 1
    np.random.seed(5)  # noqa: NPY002
    assert algorithm.update(batches)["penalty"] == pytest.approx(algorithm.distance(first, second).item())


@pytest.mark.parametrize("name", ["CausIRL_CORAL", "CausIRL_MMD"])
@pytest.mark.parametrize("cuts", [[0, 0, 0], [1, 0, 0]])
def test_a_mixture_of_fewer_than_two_samples_has_no_penalty(name, cuts, monkeypatch):
    monkeypatch.setattr(np.random, "randint", lambda low, high, left=list(cuts): left.pop(0))
    assert make(name).update(minibatches())["penalty"] == 0


# EQRM


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.75, 0.99])
def test_the_quantile_of_the_risks_is_that_of_the_mean_of_normal_distributions(alpha):
    risks = np.array([0.3, 0.9, 1.0, 2.5])
    width = 1.06 * risks.std(ddof=1) * 4**-0.2
    quantile = risk_quantile(torch.tensor(risks), torch.tensor(alpha)).item()
    assert np.mean([NormalDist(risk, width).cdf(quantile) for risk in risks]) == pytest.approx(
        alpha, abs=1e-8
    )


def test_the_median_of_symmetric_risks_is_halfway_between_the_ends_and_moves_with_them_alone():
    risks = torch.tensor([3.0, 1.0, 2.0], requires_grad=True)
    median = risk_quantile(risks, torch.tensor(0.5))
    median.backward()
    assert median.item() == pytest.approx(2.0, abs=1e-8)
    # Φ⁻¹(½) = 0: the width has no part in the ends.
    assert risks.grad.tolist() == pytest.approx([0.5, 0.5, 0.0], abs=1e-8)


def test_equal_risks_and_a_single_one_are_their_own_quantile_and_have_a_finite_gradient():
    risks = torch.full((3,), 0.7, requires_grad=True)
    quantile = risk_quantile(risks, torch.tensor(0.9))
    quantile.backward()
    assert quantile.item() == pytest.approx(0.7)
    assert risks.grad.sum().item() == pytest.approx(1.0, abs=0.01)
    assert risk_quantile(risks[:1], torch.tensor(0.9)).item() == 0.7


def test_eqrm_minimizes_the_mean_and_after_the_burn_in_the_quantile():
    algorithm = make("EQRM", eqrm_burnin_iters=1, eqrm_quantile=0.9, lr=0.0)
    risks = torch.stack([F.cross_entropy(algorithm.predict(x), y) for x, y in minibatches()])
    first, second = (algorithm.update(minibatches())["loss"] for _ in range(2))
    assert first == pytest.approx(risks.mean().item())
    assert second == pytest.approx(risk_quantile(risks, torch.tensor(0.9)).item())
    assert second > first


# RDM


def test_rdm_compares_the_losses_in_the_worst_environment_with_all_of_them():
    algorithm = make("RDM", rdm_penalty_anneal_iters=1, rdm_lambda=3.0, variance_weight=0.5, lr=0.0)
    batches = minibatches((4, 5, 6))  # of three sizes
    with torch.no_grad():
        losses = [F.cross_entropy(algorithm.predict(x), y, reduction="none").numpy() for x, y in batches]
    worst, every = max(losses, key=np.mean), np.concatenate(losses)

    def kernel(a, b):
        squared = (a[:, None] - b[None]) ** 2
        return sum(np.exp(-(10.0**power) * squared) for power in range(-4, 4)).mean()

    risk = np.mean([each.mean() for each in losses])
    matching = kernel(worst, worst) + kernel(every, every) - 2 * kernel(worst, every)
    variance = every.var(ddof=1) + worst.var(ddof=1)
    for step, total in ((1, risk), (2, risk + 3 * matching + 0.5 * variance)):
        assert algorithm.update(batches) == pytest.approx(
            {
                "update_count": step,
                "total_loss": total,
                "erm_loss": risk,
                "matching_penalty": matching,
                "variance_penalty": variance,
                "rdm_lambda": 3.0,
            }
        )


# Transfer


def test_a_head_is_projected_onto_the_ball_around_the_centre():
    head, centre = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    for module, values in ((centre, (1.0, 1.0)), (head, (4.0, 5.0))):  # 5 from each other
        for parameter, value in zip(module.parameters(), values, strict=True):
            torch.nn.init.constant_(parameter, value)
    project(head, centre, 6.0)
    assert [p.item() for p in head.parameters()] == pytest.approx([4.0, 5.0])
    project(head, centre, 2.0)
    assert [p.item() for p in head.parameters()] == pytest.approx([1 + 2 * 3 / 5, 1 + 2 * 4 / 5])
    project(centre, centre, 2.0)
    assert [p.item() for p in centre.parameters()] == [1.0, 1.0]


def test_an_update_of_transfer_with_gradient_descent_ascent_written_out():
    rates = {"lr": 0.1, "lr_d": 0.3, "delta": 0.2, "t_lambda": 2.0, "d_steps_per_g": 3}
    algorithm, batches = make("Transfer", gda=True, **rates), minibatches((4, 5, 6))
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    expected = copy.deepcopy(algorithm)

    def move(loss, modules, rate):
        parameters = [p for module in modules for p in module.parameters()]
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.data -= rate * gradient

    def gap():
        risks = [F.cross_entropy(expected.adv_classifier(expected.featurizer(x)), y) for x, y in batches]
        return 2.0 * (max(risks) - min(risks))

    for update in range(2):
        loss = F.cross_entropy(expected.predict(x), y)
        move(loss, [expected.featurizer, expected.classifier], 0.1)
        move(gap(), [expected.featurizer], 0.1)
        expected.adv_classifier.load_state_dict(expected.classifier.state_dict())
        for _ in range(3):
            last = gap()
            move(last, [expected.adv_classifier], -0.3)
            difference = {
                name: p.data - expected.classifier.get_parameter(name)
                for name, p in expected.adv_classifier.named_parameters()
            }
            distance = sum((d**2).sum() for d in difference.values()).sqrt()
            if distance > 0.2:
                for name, d in difference.items():
                    at = expected.classifier.get_parameter(name).data
                    expected.adv_classifier.get_parameter(name).data = at + 0.2 / distance * d
        assert algorithm.update(batches) == pytest.approx({"loss": loss.item(), "gap": last.item()}), update
    torch.testing.assert_close(algorithm.state_dict(), expected.state_dict())
    assert distance > 0.2, "the last step was projected"


# CAD and CondCAD


@pytest.mark.parametrize("flipped", [True, False])
@pytest.mark.parametrize("conditional", [True, False])
def test_the_bottleneck_is_the_probability_of_choosing_the_own_environment(conditional, flipped):
    z, y, domain = labelled()
    losses = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i and (y[j] == y[i] or not conditional)]
        wanted = [j for j in others if (domain[j] != domain[i]) == flipped]
        if not wanted or not any(y[j] == y[i] for j in others):
            continue
        odds = {j: np.exp(z[i] @ z[j] / 0.5) for j in others}
        probability = sum(odds[j] for j in wanted) / sum(odds.values())
        losses.append(-np.log(probability) if flipped else np.log(probability))
    assert 0 < len(losses) < len(z)
    tensors = torch.tensor(z), torch.tensor(y), torch.tensor(domain)
    got = bottleneck(*tensors, temperature=0.5, conditional=conditional, flipped=flipped)
    assert got.item() == pytest.approx(0.5 / 0.07 * np.mean(losses))


@pytest.mark.parametrize("flipped", [True, False])
@pytest.mark.parametrize("conditional", [True, False])
def test_the_bottleneck_has_a_finite_gradient_where_samples_have_nothing_to_choose(conditional, flipped):
    y = torch.tensor([0, 0, 1, 2])
    for domain in ([0, 0, 0, 0], [0, 1, 2, 3], [0, 1, 0, 1]):
        z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
        bottleneck(
            z, y, torch.tensor(domain), temperature=0.1, conditional=conditional, flipped=flipped
        ).backward()
        assert z.grad.isfinite().all()


@pytest.mark.parametrize("settings", [{}, {"is_normalized": True}, {"is_project": True}])
def test_cad_adds_the_weighted_bottleneck_of_its_features(settings):
    algorithm, batches = make("CondCAD", lmbda=10.0, temperature=0.05, **settings), minibatches()
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    z = algorithm.featurizer(x)
    if settings.get("is_project"):
        z = algorithm.project(z)
        assert z.shape == (12, 128)
    if settings.get("is_normalized"):
        z = z / z.norm(dim=1, keepdim=True)
    expected = bottleneck(
        z, y, torch.arange(12) // 4, temperature=0.05, conditional=True, flipped=True
    ).item()
    risk = F.cross_entropy(algorithm.predict(x), y).item()
    result = algorithm.update(batches)
    assert result == pytest.approx(
        {"clf_loss": risk, "bn_loss": expected, "total_loss": risk + 10 * expected}
    )


# ADRMX


def test_the_supervised_contrast_is_that_of_its_loops():
    z, y, _ = labelled()
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    losses = []
    for i in range(len(z)):
        weighted = {j: 0.5 * np.exp(unit[i] @ unit[j] / 0.07) for j in range(len(z)) if j != i}
        positive = [j for j in weighted if y[j] == y[i]]
        if positive:
            total = sum(weighted.values()) + 1e-5
            losses.append(-np.mean([np.log(weighted[j] / total + 1e-5) for j in positive]))
    assert len(losses) < len(z)
    got = supervised_contrast(torch.tensor(z), torch.tensor(y))
    assert got.item() == pytest.approx(sum(losses) / (len(losses) + 1))


def test_a_remixed_pair_is_of_one_class_and_of_two_environments():
    y = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])
    domain = torch.tensor([0, 0, 1, 1, 1, 0, 1, 2])  # class 1 is in one environment
    seen = set()
    for seed in range(200):
        torch.manual_seed(seed)
        pairs = remixed_pairs(y, domain)
        assert y[pairs[:, 0]].tolist() == y[pairs[:, 1]].tolist() == [0, 2]
        assert (domain[pairs[:, 0]] != domain[pairs[:, 1]]).all()
        seen |= set(map(tuple, pairs.tolist()))
    assert seen == {(0, 2), (2, 0), (1, 2), (2, 1), (5, 6), (6, 5), (5, 7), (7, 5), (6, 7), (7, 6)}
    assert remixed_pairs(y, torch.zeros_like(y)).shape == (0, 2)


def test_adrmxs_sides_take_turns_and_leave_each_other_alone():
    algorithm = make("ADRMX")
    sides = []
    for _ in range(6):
        before = copy.deepcopy(algorithm.state_dict())
        result = algorithm.update(minibatches())
        sides.append("loss_total" in result)
        after = algorithm.state_dict()
        moved = {name.split(".")[0] for name, value in after.items() if not value.equal(before[name])}
        rest = {module.split(".")[0] for module, _ in algorithm.named_children()} - {"discriminator"}
        assert moved - {"update_count"} == (rest if sides[-1] else {"discriminator"})
    assert sides == [False, True, False] * 2


def test_adrmxs_loss_is_the_weighted_sum_of_its_terms():
    own = {
        "cnt_lambda": 0.3,
        "dclf_lambda": 0.5,
        "disc_lambda": 0.7,
        "rmxd_lambda": 0.9,
        "weight_decay": 0.01,
    }
    algorithm, batches = make("ADRMX", n_domains=2, d_steps_per_g_step=1, **own), minibatches((2, 2))
    assert [opt.param_groups[0]["weight_decay"] for opt in (algorithm.disc_opt, algorithm.gen_opt)] == [
        0.01
    ] * 2
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    domain = torch.tensor([0, 0, 1, 1])
    label, environment = algorithm.featurizer_label(x), algorithm.featurizer_domain(x)
    invariant = label - environment
    # Each class has one sample in either environment, so it has one pair, in one of two orders.
    remixes = []
    for label_of_pair, pair in ((0, [0, 2]), (1, [1, 3])):
        logits = algorithm.classifier_label_1(invariant[pair] + environment[pair[::-1]])
        remixes.append([F.cross_entropy(row, torch.tensor(label_of_pair)).item() for row in logits])
    terms = {
        "loss_cnt_int": supervised_contrast(label, y),
        "loss_cnt_final": supervised_contrast(invariant, y),
        "loss_clf_int": F.cross_entropy(algorithm.predict(x), y),
        "loss_clf_fin": F.cross_entropy(algorithm.classifier_label_2(invariant), y),
        "loss_dmn": F.cross_entropy(algorithm.classifier_domain(environment), domain),
        "loss_disc": F.cross_entropy(algorithm.discriminator(invariant), domain),
    }
    terms = {name: term.item() for name, term in terms.items()}
    result = algorithm.update(batches)
    assert {name: result[name] for name in terms} == pytest.approx(terms)
    assert any(result["loss_remixed"] == pytest.approx((a + b) / 2) for a in remixes[0] for b in remixes[1])
    weights = [0.3, 0.3, 1, 1, 0.5, -0.7]
    total = sum(weight * term for weight, term in zip(weights, terms.values(), strict=True))
    assert result["loss_total"] == pytest.approx(total + 0.9 * result["loss_remixed"])


# TRM


def a_head():
    torch.manual_seed(0)
    head, z, y = torch.nn.Linear(4, 3), torch.randn(7, 4), torch.arange(7) % 3
    return head.weight.detach(), head.bias.detach(), z, y


def test_the_slope_and_curvature_of_a_linear_head_are_autograds():
    weight, bias, z, y = a_head()

    def risk(flat):
        return F.cross_entropy(F.linear(z, flat.reshape(3, 4), bias), y)

    flat = weight.flatten()
    torch.testing.assert_close(weight_gradient(weight, bias, z, y).flatten(), torch.func.grad(risk)(flat))
    v = torch.randn(12)
    expected = torch.autograd.functional.hessian(risk, flat) @ v
    torch.testing.assert_close(hessian_product(weight, bias, z, v.reshape(3, 4)).flatten(), expected)


def test_the_neumann_series_has_eleven_powers_and_ends_where_it_grows():
    weight, bias, z, y = a_head()
    hessian = torch.autograd.functional.hessian(
        lambda flat: F.cross_entropy(F.linear(z, flat.reshape(3, 4), bias), y), weight.flatten()
    )
    rest = np.eye(12) - hessian.numpy()
    v = torch.randn(12) / 10
    expected = sum(np.linalg.matrix_power(rest, k) @ v.numpy() for k in range(11))
    got = solved(weight, bias, z, v.reshape(3, 4))
    np.testing.assert_allclose(got.flatten().numpy(), expected, rtol=1e-9)
    large = torch.full((12,), 20.0) * torch.arange(12)
    got = solved(weight, bias, z, large.reshape(3, 4)).flatten().numpy()
    np.testing.assert_allclose(got, large.numpy() + rest @ large.numpy(), rtol=1e-9)


def test_trms_heads_take_thirty_plain_gradient_steps_on_their_environments_features():
    algorithm, batches = make("TRM", iters=0, lr=0.0), minibatches((4, 5, 6))
    heads = []
    for q, (x, y) in enumerate(batches):
        head = torch.nn.Linear(8, 2)
        head.weight.data, head.bias.data = algorithm.head_weights[q].clone(), algorithm.head_biases[q].clone()
        optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
        for _ in range(30):
            descend(F.cross_entropy(head(algorithm.featurizer(x).detach()), y), optimizer)
        heads.append(head)
    algorithm.update(batches)
    for q, head in enumerate(heads):
        torch.testing.assert_close(algorithm.head_weights[q], head.weight.detach())
        torch.testing.assert_close(algorithm.head_biases[q], head.bias.detach())


def test_trms_loss_is_the_transfer_risk_written_out():
    algorithm = make("TRM", iters=0, lr=0.0, cos_lambda=0.5, groupdro_eta=0.2)
    batches = minibatches((4, 5, 6))
    algorithm.alpha = torch.tensor([[0.0, 1.0, 3.0], [2.0, 0.0, 2.0], [1.0, 4.0, 0.0]])
    alpha = algorithm.alpha / 4
    alpha[2] = algorithm.alpha[2] / 5
    result = algorithm.update(
        batches
    )  # moves the heads first and, with lr 0, nothing else that the loss sees
    z = [algorithm.featurizer(x).detach() for x, _ in batches]
    labels = [y for _, y in batches]
    expected, next_alpha = 0.0, torch.zeros(3, 3)
    for q in range(3):
        weight, bias = algorithm.head_weights[q], algorithm.head_biases[q]
        risks = torch.stack([F.cross_entropy(F.linear(z[p], weight, bias), labels[p]) for p in range(3)])
        slopes = [weight_gradient(weight, bias, z[p], labels[p]) for p in range(3)]
        others = sum(alpha[q, p] * slopes[p] for p in range(3) if p != q)
        expected += alpha[q] @ risks - 0.5 * (solved(weight, bias, z[q], others) * slopes[q]).sum()
        next_alpha[q] = alpha[q] * torch.exp(0.2 * alpha[q] * risks)
    assert result["trm_loss"] == pytest.approx(expected.item() / 3)
    torch.testing.assert_close(algorithm.alpha, next_alpha)


def test_with_balanced_classes_trms_heads_begin_with_the_classifiers_weights():
    algorithm, batches = make("TRM", iters=0, lr=0.0, class_balanced=True), minibatches()
    again = make("TRM", iters=0, lr=0.0)
    again.head_weights = algorithm.classifier.weight.detach().repeat(3, 1, 1)
    assert algorithm.update(batches) == pytest.approx(again.update(batches))
    torch.testing.assert_close(algorithm.head_weights, again.head_weights)


def test_before_the_transfer_risk_trm_is_erm():
    trm, erm = make("TRM", iters=2), make("ERM")
    erm.load_state_dict(trm.state_dict(), strict=False)
    for _ in range(2):
        result = trm.update(minibatches())
        assert result == {"nll": erm.update(minibatches())["loss"], "trm_loss": 0.0}
    assert trm.update(minibatches())["trm_loss"] > 0


def test_environments_of_unequal_size_are_labelled_in_their_order():
    assert domain_labels(minibatches((2, 1, 3))).tolist() == [0, 0, 1, 2, 2, 2]
