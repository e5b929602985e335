"""The rule of each algorithm, against numpy or a computation by hand."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from roga_domainbed.engine import algorithms
from roga_domainbed.engine.algorithms._adversarial import class_weights
from roga_domainbed.engine.algorithms._distances import (
    GAMMAS,
    maximum_mean_discrepancy,
    mean_and_covariance_distance,
)
from roga_domainbed.engine.algorithms.and_mask import masked_mean
from roga_domainbed.engine.algorithms.irm import invariance_penalty, scale_gradient
from roga_domainbed.engine.algorithms.rsc import below_quantile
from roga_domainbed.engine.algorithms.self_reg import two_partners
from roga_domainbed.engine.hparams_registry import default_hparams
from roga_domainbed.errors import RogaError


def make(name, n_domains=3, **overrides):
    torch.manual_seed(0)
    hparams = {
        **default_hparams(name, "Debug28"),
        "mlp_width": 8,
        "mlp_depth": 2,
        "mlp_dropout": 0.0,
        **overrides,
    }
    return algorithms.get_algorithm_class(name)((6,), 2, n_domains, hparams)


def minibatches(n_domains=3, rows=4):
    generator = torch.Generator().manual_seed(2)
    return [(torch.randn(rows, 6, generator=generator), torch.arange(rows) % 2) for _ in range(n_domains)]


def risks(algorithm, batches):
    with torch.no_grad():
        return [F.cross_entropy(algorithm.predict(x), y).item() for x, y in batches]


def two_samples():
    draw = np.random.default_rng(0)
    return draw.normal(size=(7, 3)), draw.normal(1, 2, size=(5, 3))


def test_irms_scale_gradient_of_one_sample_is_the_wrong_classs_probability_times_the_margin():
    logits, y = torch.tensor([[0.0, 2.0]]), torch.tensor([0])
    # d/dw log(1 + exp(2w)) at w = 1
    assert scale_gradient(logits, y).item() == pytest.approx(2 / (1 + np.exp(-2)))


def test_irms_penalty_is_the_product_of_two_autograd_gradients_over_halves():
    torch.manual_seed(0)
    logits, y = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    scale = torch.ones((), requires_grad=True)
    halves = [F.cross_entropy(logits[i::2] * scale, y[i::2]) for i in (0, 1)]
    even, odd = (torch.autograd.grad(half, scale)[0] for half in halves)
    torch.testing.assert_close(invariance_penalty(logits, y), even * odd)


@pytest.mark.parametrize(("steps", "weight"), [(0, 1.0), (1, 1.0), (2, 50.0), (3, 50.0)])
def test_a_penalty_has_weight_one_until_its_annealing_ends(steps, weight):
    algorithm = make("VREx", vrex_lambda=50.0, vrex_penalty_anneal_iters=2)
    for _ in range(steps):
        algorithm.update(minibatches())
    result = algorithm.update(minibatches())
    assert result["loss"] == pytest.approx(result["nll"] + weight * result["penalty"])
    assert algorithm.update_count.tolist() == [steps + 1]


def test_adam_starts_anew_when_the_penalty_gets_its_full_weight():
    algorithm = make("IRM", irm_penalty_anneal_iters=2)
    counts = []
    for _ in range(4):
        algorithm.update(minibatches())
        counts.append(int(algorithm.optimizer.state[algorithm.classifier.weight]["step"]))
    assert counts == [1, 2, 1, 2]


def test_vrex_penalizes_the_population_variance_of_the_risks():
    algorithm = make("VREx")
    expected = risks(algorithm, minibatches())
    result = algorithm.update(minibatches())
    assert result["nll"] == pytest.approx(np.mean(expected))
    assert result["penalty"] == pytest.approx(np.var(expected))


def test_group_dros_weights_grow_exponentially_with_the_loss_and_sum_to_one():
    algorithm = make("GroupDRO", groupdro_eta=0.5)
    losses = np.array(risks(algorithm, minibatches()))
    result = algorithm.update(minibatches())
    q = np.exp(0.5 * losses) / np.exp(0.5 * losses).sum()
    np.testing.assert_allclose(algorithm.q.numpy(), q, rtol=1e-5)
    assert result["loss"] == pytest.approx(q @ losses)


def test_group_dro_reads_the_empty_weights_of_an_untrained_domainbed_model_as_uniform():
    algorithm = make("GroupDRO")
    algorithm.load_state_dict({**algorithm.state_dict(), "q": torch.Tensor()})
    assert algorithm.q.tolist() == pytest.approx([1 / 3] * 3)


def test_corals_distance_is_numpys_means_and_covariances():
    x, y = two_samples()
    expected = ((x.mean(0) - y.mean(0)) ** 2).mean() + ((np.cov(x.T) - np.cov(y.T)) ** 2).mean()
    got = mean_and_covariance_distance(torch.tensor(x), torch.tensor(y))
    assert got.item() == pytest.approx(expected)


def test_mmd_is_the_sum_over_all_pairs_and_kernels_in_numpy():
    x, y = two_samples()

    def kernel(a, b):
        squared = ((a[:, None] - b[None]) ** 2).sum(2)
        return sum(np.exp(-gamma * squared) for gamma in GAMMAS).mean()

    got = maximum_mean_discrepancy(torch.tensor(x), torch.tensor(y))
    assert got.item() == pytest.approx(kernel(x, x) + kernel(y, y) - 2 * kernel(x, y))


@pytest.mark.parametrize("name", ["MMD", "CORAL"])
def test_the_penalty_is_the_mean_distance_of_all_pairs_of_environments(name):
    algorithm = make(name)
    with torch.no_grad():
        a, b, c = (algorithm.featurizer(x) for x, _ in minibatches())
        pairs = [algorithm.distance(*pair).item() for pair in ((a, b), (a, c), (b, c))]
    assert algorithm.update(minibatches())["penalty"] == pytest.approx(np.mean(pairs), rel=1e-4)


def test_sd_penalizes_the_mean_square_of_the_logits():
    algorithm = make("SD")
    with torch.no_grad():
        logits = algorithm.predict(torch.cat([x for x, _ in minibatches()])).numpy()
    assert algorithm.update(minibatches())["penalty"] == pytest.approx((logits**2).mean())


@pytest.mark.parametrize(
    ("tau", "expected"),
    [
        (1, [2.0 * 2, 0.0]),  # signs agree in half of the entries, so what is left counts twice
        (0.3, [2.0, 1.0]),
    ],
)
def test_andmask_keeps_the_entries_whose_signs_agree(tau, expected):
    gradients = [torch.tensor([1.0, 1.0]), torch.tensor([2.0, 3.0]), torch.tensor([3.0, -1.0])]
    torch.testing.assert_close(masked_mean(gradients, tau), torch.tensor(expected))


def test_fish_moves_a_fraction_of_the_way_of_adam_steps_on_each_environment_in_turn():
    algorithm = make("Fish", meta_lr=0.25, lr=0.01)
    start = copy.deepcopy(algorithm.network)
    inner = copy.deepcopy(algorithm.network)
    optimizer = torch.optim.Adam(inner.parameters(), lr=0.01)
    losses = []
    for x, y in minibatches():
        loss = F.cross_entropy(inner(x), y)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    result = algorithm.update(minibatches())

    assert result["loss"] == pytest.approx(np.mean(losses))
    parameters = zip(algorithm.network.parameters(), start.parameters(), inner.parameters(), strict=True)
    for got, before, after in parameters:
        torch.testing.assert_close(got, 0.75 * before + 0.25 * after)


def test_fish_reads_a_domainbed_checkpoint_with_its_inner_network():
    algorithm = make("Fish")
    state = algorithm.state_dict()
    inner = {name.replace("network.", "network_inner.", 1): value + 1 for name, value in state.items()}
    make("Fish").load_state_dict({**state, **inner})


def test_mldg_descends_along_the_sum_of_the_meta_train_and_meta_test_gradients():
    algorithm = make("MLDG", n_domains=2, n_meta_test=1, mldg_beta=3.0, lr=0.01)
    torch.manual_seed(7)
    train, test = (minibatches(2)[i] for i in torch.randperm(2).tolist())
    inner = copy.deepcopy(algorithm.network)
    optimizer = torch.optim.Adam(inner.parameters(), lr=0.01)
    train_loss = F.cross_entropy(inner(train[0]), train[1])
    train_loss.backward()
    at_start = [p.grad.clone() for p in inner.parameters()]
    optimizer.step()
    test_loss = F.cross_entropy(inner(test[0]), test[1])
    at_copy = torch.autograd.grad(test_loss, list(inner.parameters()))

    torch.manual_seed(7)
    result = algorithm.update(minibatches(2))

    assert result["loss"] == pytest.approx((train_loss.item() + 3 * test_loss.item()) / 2)
    for p, first, second in zip(algorithm.network.parameters(), at_start, at_copy, strict=True):
        torch.testing.assert_close(p.grad, (first + 3 * second) / 2)


def test_mldg_says_that_its_default_leaves_no_environment_of_two_for_meta_training():
    with pytest.warns(
        UserWarning, match="n_meta_test 2 of 2 training environments leaves none .* 1 held out"
    ):
        algorithm = make("MLDG", n_domains=2)
    assert algorithm.num_meta_test == 1


def test_mldg_refuses_a_single_environment():
    with pytest.raises(RogaError, match="MLDG needs at least 2 training environments"):
        make("MLDG", n_domains=1)


def test_rsc_keeps_what_is_strictly_below_the_quantile_of_its_row():
    values = torch.tensor([[0.0, 1.0, 2.0, 3.0], [3.0, 2.0, 1.0, 0.0]])
    # rank 2/3 · 3 = 2: the threshold is the third smallest, which is muted with the largest
    assert below_quantile(values, 2 / 3).int().tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]


@pytest.mark.parametrize("q", [1 / 3, 0.5, 2 / 3, 0.83])
def test_rscs_threshold_is_numpys_percentile(q):
    values = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    threshold = np.percentile(values.numpy(), q * 100, axis=1, keepdims=True)
    np.testing.assert_array_equal(below_quantile(values, q).numpy(), values.numpy() < threshold)


def test_discriminator_and_generator_take_turns_and_leave_each_other_alone():
    algorithm = make("DANN", d_steps_per_g_step=2)
    sides = []
    for _ in range(6):
        before = copy.deepcopy(algorithm.state_dict())
        (key,) = algorithm.update(minibatches())
        sides.append(key)
        moved = {
            name.split(".")[0]
            for name, value in algorithm.state_dict().items()
            if not value.equal(before[name])
        }
        expected = {"discriminator"} if key == "disc_loss" else {"featurizer", "classifier"}
        assert moved - {"update_count"} == expected
    assert sides == ["disc_loss", "gen_loss", "disc_loss"] * 2


def test_dann_adds_the_squared_gradient_of_the_discriminator_to_its_loss():
    plain, penalized = (
        make("DANN", d_steps_per_g_step=2, grad_penalty=penalty).update(minibatches())["disc_loss"]
        for penalty in (0.0, 10.0)
    )
    algorithm = make("DANN")
    features = algorithm.featurizer(torch.cat([x for x, _ in minibatches()])).detach().requires_grad_()
    loss = F.cross_entropy(algorithm.discriminator(features), torch.arange(12) // 4, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, features)
    assert penalized - plain == pytest.approx(10 * gradient.pow(2).sum(1).mean().item(), rel=1e-3)


def test_cdann_gives_every_class_the_same_share():
    weights = class_weights(torch.tensor([0, 0, 0, 2]))
    torch.testing.assert_close(weights, torch.tensor([1 / 6, 1 / 6, 1 / 6, 1 / 2]))


def test_selfregs_partners_are_permutations_within_the_class():
    y = torch.tensor([1, 1, 1, 4, 4])
    for partners in two_partners(y):
        assert sorted(partners.tolist()) == list(range(5))
        assert torch.equal(y[partners], y)


def test_mixup_of_one_environment_with_itself_is_erm():
    mixup, erm = make("Mixup", n_domains=1), make("ERM", n_domains=1)
    batch = minibatches(1)
    assert mixup.update(batch)["loss"] == pytest.approx(erm.update(batch)["loss"], rel=1e-5)
    torch.testing.assert_close(mixup.state_dict(), erm.state_dict(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "lr"), [("Fish", 0.3), ("MLDG", 0.3), ("SagNet", 3.0)])
def test_inner_steps_see_their_own_weights_in_16_bits(name, lr):
    # Autocast keeps 16-bit copies of weights; with those from before an inner step, the losses after it are others.
    settings = {"lr": lr, "optimizer": "sgd", "momentum": 0.0}
    expected = make(name, **settings).update(minibatches())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = make(name, **settings).update(minibatches())
    assert got == pytest.approx(expected, rel=0.01)
