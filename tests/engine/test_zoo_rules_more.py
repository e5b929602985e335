"""The rules of ERM++, MTL, SagNet, ARM, SAND-mask, IGA, IB_ERM, IB_IRM and URM: numpy, or a computation by hand."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from roga_domainbed.engine import algorithms
from roga_domainbed.engine.algorithms.iga import sum_of_squared_deviations
from roga_domainbed.engine.algorithms.irm import invariance_penalty
from roga_domainbed.engine.algorithms.sag_net import distance_from_uniform, mix_styles, swap_contents
from roga_domainbed.engine.algorithms.sand_mask import smooth_agreement
from roga_domainbed.engine.hparams_registry import default_hparams
from roga_domainbed.errors import RogaError
from roga_domainbed.optim.lars import LARS
from roga_domainbed.trainer.object_state import ObjectState

VECTOR = (6,)
IMAGE = (3, 32, 32)


def make(name, n_domains=3, shape=VECTOR, **overrides):
    torch.manual_seed(0)
    mlp = {"mlp_width": 8, "mlp_depth": 2, "mlp_dropout": 0.0}
    hparams = {**default_hparams(name, "Debug28"), **mlp, **overrides}
    return algorithms.get_algorithm_class(name)(shape, 2, n_domains, hparams)


def minibatches(n_domains=3, rows=4, shape=VECTOR, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(rows, *shape, generator=generator), torch.arange(rows) % 2) for _ in range(n_domains)
    ]


def pooled(batches):
    return tuple(torch.cat(parts) for parts in zip(*batches, strict=True))


def moved(algorithm, before):
    """The attributes of which a weight differs from the state dict ``before``."""
    after = algorithm.state_dict()
    return {name.split(".")[0] for name, value in before.items() if not torch.equal(after[name], value)}


# --- MTL ------------------------------------------------------------------------------------------------------------


def test_mtls_embeddings_are_moving_averages_of_the_mean_features():
    algorithm = make("MTL", mtl_ema=0.75, lr=0.0)
    expected = np.zeros((3, 8))
    for seed in (1, 2):
        batches = minibatches(seed=seed)
        with torch.no_grad():
            means = [algorithm.featurizer(x).numpy().mean(0) for x, _ in batches]
        expected = 0.75 * np.stack(means) + 0.25 * expected
        algorithm.update(batches)
    np.testing.assert_allclose(algorithm.embeddings.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_mtls_loss_is_the_sum_over_the_environments_of_a_classifier_that_sees_the_embedding():
    algorithm, batches = make("MTL", mtl_ema=1.0), minibatches()
    weight, bias = (p.detach().numpy() for p in algorithm.classifier.parameters())
    expected = 0.0
    for x, y in batches:
        features = algorithm.featurizer(x).detach().numpy()
        seen = np.hstack([features, np.tile(features.mean(0), (len(x), 1))])
        logits = seen @ weight.T + bias
        expected += np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y.numpy()])
    assert algorithm.update(batches)["loss"] == pytest.approx(expected, rel=1e-5)


def test_mtls_gradient_also_flows_through_the_minibatchs_mean():
    algorithm = make("MTL", mtl_ema=1.0, nonlinear_classifier=True)
    with torch.no_grad():  # a classifier that is blind for the features themselves
        algorithm.classifier[0].weight[:, : algorithm.featurizer.n_outputs] = 0
    algorithm.update(minibatches())
    assert algorithm.featurizer.input.weight.grad.abs().max() > 0


def test_mtl_predicts_with_the_mean_of_the_batch_and_twice_the_same():
    algorithm = make("MTL").eval()
    (x, _), (other, _) = minibatches(2)
    with torch.no_grad():
        features = algorithm.featurizer(x)
        seen = torch.cat([features, features.mean(0).repeat(len(x), 1)], 1)
        torch.testing.assert_close(algorithm.predict(x), algorithm.classifier(seen))
        assert torch.equal(algorithm.predict(x), algorithm.predict(x))
        among_others = algorithm.predict(torch.cat([x, other]))[: len(x)]
    assert not torch.allclose(among_others, algorithm.predict(x))


# --- SagNet ---------------------------------------------------------------------------------------------------------


def style(features):
    return features.mean(1, keepdims=True), features.var(1, ddof=1, keepdims=True)


def content(features):
    mean, variance = style(features)
    return (features - mean) / np.sqrt(variance + 1e-5)


def drawn(n, seed=7):
    """What the functions of SagNet draw after a seed."""
    torch.manual_seed(seed)
    return torch.rand(n, 1).numpy(), torch.randperm(n).numpy()


def test_sagnet_mixes_means_and_variances_and_keeps_the_content():
    features = torch.randn(5, 9, generator=torch.Generator().manual_seed(1))
    share, other = drawn(5)
    (mean, variance), own = style(features.numpy()), content(features.numpy())
    mean = share * mean + (1 - share) * mean[other]
    variance = share * variance + (1 - share) * variance[other]
    torch.manual_seed(7)
    np.testing.assert_allclose(
        mix_styles(features), own * np.sqrt(variance + 1e-5) + mean, rtol=1e-4, atol=1e-5
    )


def test_sagnet_swaps_the_content_and_keeps_mean_and_variance():
    features = torch.randn(5, 9, generator=torch.Generator().manual_seed(1))
    _, other = drawn(5)
    torch.manual_seed(7)
    swapped = swap_contents(features).numpy()
    for got, expected in zip(style(swapped), style(features.numpy()), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(content(swapped), content(features.numpy())[other], rtol=1e-3, atol=1e-4)


def test_no_gradient_flows_through_a_content_that_came_from_another_sample():
    features = torch.randn(2, 9, requires_grad=True)
    swaps = next(seed for seed in range(50) if drawn(2, seed)[1].tolist() == [1, 0])
    torch.manual_seed(swaps)
    (gradient,) = torch.autograd.grad(swap_contents(features)[0].sum(), features)
    assert gradient[1].abs().max() == 0  # the other, whose content it has
    assert gradient[0].abs().max() > 0


def test_the_distance_from_uniform_of_a_quarter_and_three_quarters():
    logits = torch.tensor([[0.0, np.log(3.0)]])
    assert distance_from_uniform(logits).item() == pytest.approx(-(np.log(0.25) + np.log(0.75)) / 2)


def test_the_steps_of_sagnet_move_content_style_and_featurizer():
    algorithm = make("SagNet", sag_w_adv=0.0, optimizer="sgd", momentum=0.0, lr=0.1)
    x, y = pooled(minibatches())
    reference = copy.deepcopy(algorithm)
    torch.manual_seed(3)
    loss = F.cross_entropy(reference.network_c(mix_styles(reference.network_f(x))), y)
    loss.backward()
    expected = [
        p - 0.1 * p.grad for p in (*reference.network_f.parameters(), *reference.network_c.parameters())
    ]

    torch.manual_seed(3)
    result = algorithm.update(minibatches())

    assert result["loss_c"] == pytest.approx(loss.item())
    assert result["loss_adv"] == 0.0
    # without the adversary the featurizer has taken the content's step alone
    got = (*algorithm.network_f.parameters(), *algorithm.network_c.parameters())
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert "network_s" in moved(algorithm, reference.state_dict())


def test_the_adversary_of_sagnet_moves_the_featurizer_towards_a_uniform_style():
    x, _ = batch = pooled(minibatches(1, rows=32))
    algorithm = make("SagNet", 1, sag_w_adv=10.0, lr=0.003)
    gaps = []
    for step in range(60):
        torch.manual_seed(step)
        algorithm.update([batch])
        torch.manual_seed(0)
        with torch.no_grad():
            gaps.append(
                distance_from_uniform(algorithm.network_s(swap_contents(algorithm.network_f(x)))).item()
            )
    assert gaps[-1] == pytest.approx(np.log(2), abs=2e-3)
    assert gaps[-1] < gaps[0]


# --- ARM ------------------------------------------------------------------------------------------------------------


def arm(**overrides):
    return make("ARM", shape=(3, 8, 8), backbone="mlp", batch_size=4, **overrides)


def with_context(algorithm, x):
    """The logits of one group, its mean context beside each image."""
    context = algorithm.context_net(x).mean(0, keepdim=True).repeat(len(x), 1, 1, 1)
    return algorithm.network(torch.cat([x, context], 1))


def test_arm_predicts_groups_of_a_minibatch_each_with_its_own_mean_context():
    algorithm = arm().eval()
    x, _ = pooled(minibatches(3, rows=4, shape=(3, 8, 8)))
    with torch.no_grad():
        expected = torch.cat([with_context(algorithm, group) for group in x.split(4)])
        torch.testing.assert_close(algorithm.predict(x), expected)
        # seven images are no groups of four: one context
        torch.testing.assert_close(algorithm.predict(x[:7]), with_context(algorithm, x[:7]))


def test_arm_trains_each_environment_with_its_own_context_whatever_its_size():
    algorithm = arm(lr=0.0)
    batches = [*minibatches(1, rows=4, shape=(3, 8, 8)), *minibatches(1, rows=2, shape=(3, 8, 8), seed=3)]
    x, y = pooled(batches)
    reference = copy.deepcopy(algorithm)
    with torch.no_grad():
        maps = reference.context_net(x)  # batch norm sees all environments
        contexts = [part.mean(0, keepdim=True).repeat(len(part), 1, 1, 1) for part in (maps[:4], maps[4:])]
        expected = F.cross_entropy(reference.network(torch.cat([x, torch.cat(contexts)], 1)), y)
    assert algorithm.update(batches)["loss"] == pytest.approx(expected.item(), rel=1e-5)


def test_arms_context_network_learns():
    algorithm = arm()
    before = {name: p.detach().clone() for name, p in algorithm.named_parameters()}
    algorithm.update(minibatches(shape=(3, 8, 8)))
    assert moved(algorithm, before) == {"featurizer", "classifier", "context_net"}


def test_arm_refuses_vectors():
    with pytest.raises(RogaError, match=r"ARM takes images .* got inputs of shape \(6,\)"):
        make("ARM")


# --- SAND-mask ------------------------------------------------------------------------------------------------------

GRADIENTS = torch.tensor([[1.0, 1.0, 1.0, 0.0], [2.0, 1.0, 3.0, 0.0], [3.0, 4.0, -1.0, 0.0]])


@pytest.mark.parametrize(("tau", "threshold"), [(0.25, 0.25), (0.75, 0.75), (1.0, 2 / 3)])
def test_sandmasks_mask_is_the_hyperbolic_tangent_of_margin_over_variance(tau, threshold):
    # signs agree in full, in full, to a third and not at all; variances 1, 3, 4 and 0
    margins, variances = np.array([1, 1, 1 / 3]) - threshold, np.array([1.0, 3.0, 4.0])
    expected = np.append(np.maximum(0, np.tanh(0.5 * margins / variances)), 0)
    np.testing.assert_allclose(smooth_agreement(GRADIENTS, tau, 0.5), expected, rtol=1e-5)


def test_sandmask_divides_by_the_masks_mean():
    algorithm = make("SANDMask", tau=0.5, k=0.5)
    mask = np.array([np.tanh(0.25), np.tanh(0.25 / 3), 0, 0])
    expected = mask * np.array([2.0, 2.0, 1.0, 0.0]) / mask.mean()
    np.testing.assert_allclose(algorithm.masked(list(GRADIENTS)), expected, rtol=1e-5)


def test_sandmask_keeps_equal_gradients_whole():
    mask = smooth_agreement(torch.tensor([[2.0, 0.0]] * 3), 0.5, 10.0)
    assert mask.tolist() == [1.0, 0.0]


@pytest.mark.parametrize("tau", [0.3, 1.0])
def test_sandmask_on_one_environment_is_erm(tau):
    sand, erm = make("SANDMask", 1, tau=tau), make("ERM", 1)
    for algorithm in (sand, erm):
        algorithm.update(minibatches(1))
    for ours, theirs in zip(sand.network.parameters(), erm.network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


# --- IGA ------------------------------------------------------------------------------------------------------------


def test_the_squared_deviations_of_two_gradients():
    # the mean is (2, 4): 1 + 4 + 1 + 4
    gradients = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 6.0])
    assert sum_of_squared_deviations(gradients).item() == 10.0


def test_igas_step_descends_along_risk_and_penalty():
    algorithm = make("IGA", penalty=2.5, optimizer="sgd", momentum=0.0, lr=0.1).double()
    batches = [(x.double(), y) for x, y in minibatches()]
    reference = list(copy.deepcopy(algorithm).network.parameters())
    names = [name for name, _ in algorithm.network.named_parameters()]

    def risk(x, y):
        logits = torch.func.functional_call(algorithm.network, dict(zip(names, reference, strict=True)), (x,))
        return F.cross_entropy(logits, y)

    risks = [risk(x, y) for x, y in batches]
    flat = torch.stack(
        [
            torch.cat([g.flatten() for g in torch.autograd.grad(each, reference, create_graph=True)])
            for each in risks
        ]
    )
    # Σ |g_e − ḡ|² = Σ |g_e|² − E |ḡ|², here differentiated with nothing held constant
    penalty = flat.pow(2).sum() - 3 * flat.mean(0).pow(2).sum()
    mean = torch.stack(risks).mean()
    directions = torch.autograd.grad(mean + 2.5 * penalty, reference)

    result = algorithm.update(batches)

    assert result == {"loss": pytest.approx(mean.item()), "penalty": pytest.approx(penalty.item())}
    for ours, start, direction in zip(algorithm.network.parameters(), reference, directions, strict=True):
        torch.testing.assert_close(ours, start - 0.1 * direction)


# --- IB_ERM and IB_IRM ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["IB_ERM", "IB_IRM"])
def test_the_bottleneck_is_the_sample_variance_of_the_features_within_an_environment(name):
    algorithm = make(name)
    with torch.no_grad():
        features = [algorithm.featurizer(x).numpy() for x, _ in minibatches()]
    expected = np.mean([f.var(0, ddof=1) for f in features])
    assert algorithm.update(minibatches())["IB_penalty"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("steps", "irm", "ib"), [(0, 1, 0), (1, 30, 0), (2, 30, 50)])
def test_each_penalty_has_its_own_weight_and_its_own_annealing(steps, irm, ib):
    own = {"irm_lambda": 30.0, "irm_penalty_anneal_iters": 1, "ib_lambda": 50.0, "ib_penalty_anneal_iters": 2}
    algorithm = make("IB_IRM", **own)
    for _ in range(steps):
        algorithm.update(minibatches())
    x, y = pooled(minibatches())
    with torch.no_grad():
        logits = algorithm.predict(x).split(4)
        invariance = np.mean(
            [invariance_penalty(z, t).item() for z, t in zip(logits, y.split(4), strict=True)]
        )
        risk = F.cross_entropy(torch.cat(logits), y).item()
    result = algorithm.update(minibatches())
    assert result["nll"] == pytest.approx(risk, rel=1e-5)
    assert result["IRM_penalty"] == pytest.approx(invariance, rel=1e-4, abs=1e-7)
    whole = result["nll"] + irm * result["IRM_penalty"] + ib * result["IB_penalty"]
    assert result["loss"] == pytest.approx(whole, rel=1e-5)
    assert algorithm.update_count.tolist() == [steps + 1]


def test_adam_starts_anew_at_each_of_the_two_jumps():
    algorithm = make("IB_IRM", irm_penalty_anneal_iters=1, ib_penalty_anneal_iters=3)
    counts = []
    for _ in range(5):
        algorithm.update(minibatches())
        counts.append(int(algorithm.optimizer.state[algorithm.classifier.weight]["step"]))
    assert counts == [1, 1, 2, 1, 2]


# --- URM ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("output", "low"), [("tanh", -1.0), ("relu", 0.0), ("sigmoid", 0.0)])
def test_the_two_steps_of_urm_written_out(output, low):
    own = {"urm_adv_lambda": 0.3, "urm_discriminator_label_smoothing": 0.2, "urm_generator_output": output}
    algorithm = make("URM", **own, urm_discriminator_optimizer="sgd", optimizer="sgd", momentum=0.0, lr=0.1)
    reference = copy.deepcopy(algorithm)
    x, y = pooled(minibatches())
    bce = F.binary_cross_entropy_with_logits
    activation = {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid}[output]

    features = activation(reference.featurizer.output(torch.relu(reference.featurizer.input(x))))
    loss = F.cross_entropy(reference.classifier(features), y)
    loss = loss + 0.3 * bce(reference.discriminator(features), torch.ones(12, 1))
    network = list(reference.network.parameters())
    expected = [p - 0.1 * g for p, g in zip(network, torch.autograd.grad(loss, network), strict=True)]
    # then the discriminator, on noise and on the features before the network's step
    torch.manual_seed(5)
    noise = (1 - low) * torch.rand(12, 8) + low
    is_noise, is_none = 0.8 + 0.2 * torch.rand(12, 1), 0.2 * torch.rand(12, 1)
    of_noise, of_features = reference.discriminator(noise), reference.discriminator(features.detach())
    d_loss = bce(of_noise, is_noise) + 0.3 * bce(of_features, is_none)
    judge = list(reference.discriminator.parameters())
    expected += [p - 1e-3 * g for p, g in zip(judge, torch.autograd.grad(d_loss, judge), strict=True)]

    torch.manual_seed(5)
    result = algorithm.update(minibatches())

    assert result == {"loss": pytest.approx(loss.item())}
    got = (*algorithm.network.parameters(), *algorithm.discriminator.parameters())
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("n_hidden", [0, 1, 3])
def test_urms_discriminator_has_the_layers_that_are_asked_for(n_hidden):
    layers = make("URM", urm_discriminator_hidden_layers=n_hidden).discriminator
    linear = [layer for layer in layers if isinstance(layer, torch.nn.Linear)]
    assert [layer.in_features for layer in linear] == [8, *[100] * (n_hidden + 1)]
    assert linear[-1].out_features == 1


# --- ERM++ and LARS -------------------------------------------------------------------------------------------------


def test_erm_plus_plus_trains_the_classifier_alone_with_its_own_rate_and_then_everything():
    # DomainBed counts one step more than linear_steps
    algorithm = make("ERMPlusPlus", linear_steps=1, linear_lr=0.5, lr=0.1, optimizer="sgd", momentum=0.0)
    for rate, learning in ((0.5, {"classifier"}), (0.5, {"classifier"}), (0.1, {"featurizer", "classifier"})):
        x, y = pooled(minibatches())
        before = {name: p.detach().clone() for name, p in algorithm.named_parameters()}
        reference = copy.deepcopy(algorithm.classifier)
        F.cross_entropy(reference(algorithm.featurizer(x).detach()), y).backward()
        algorithm.update(minibatches())
        assert moved(algorithm, before) - {"network_sma"} == learning
        for ours, start in zip(algorithm.classifier.parameters(), reference.parameters(), strict=True):
            torch.testing.assert_close(ours, start - rate * start.grad)


def test_erm_plus_plus_predicts_with_the_mean_of_the_weights_since_step_599():
    algorithm = make("ERMPlusPlus", lr=0.05)
    algorithm.update_count = 596
    seen = []
    for seed in range(7):  # steps 597 to 603
        algorithm.update(minibatches(seed=seed))
        seen.append([p.detach().numpy().copy() for p in algorithm.network.parameters()])
        averaged = seen[-1:] if algorithm.update_count < 600 else seen[2:]
        for got, weights in zip(algorithm.network_sma.parameters(), zip(*averaged, strict=True), strict=True):
            np.testing.assert_allclose(got.numpy(), np.mean(weights, 0), rtol=1e-4, atol=1e-6)
    (x, _), *_ = minibatches()
    assert torch.equal(algorithm.predict(x), algorithm.network_sma(x))
    assert not torch.allclose(algorithm.predict(x), algorithm.network(x))


def test_an_average_goes_on_where_a_stopped_run_left_it():
    unbroken = make("ERMPlusPlus", lr=0.05)
    unbroken.update_count = 599
    for seed in range(3):
        unbroken.update(minibatches(seed=seed))
    resumed = make("ERMPlusPlus", lr=0.05)
    ObjectState(resumed).restore(copy.deepcopy(ObjectState(unbroken).capture()))
    for algorithm in (unbroken, resumed):
        algorithm.update(minibatches(seed=9))
    torch.testing.assert_close(resumed.state_dict(), unbroken.state_dict(), rtol=0, atol=0)
    assert resumed.update_count == 603


@pytest.mark.parametrize("freeze_bn", [False, True])
def test_the_averages_batch_norms_see_the_minibatch_unless_they_are_frozen(freeze_bn):
    algorithm = make("ERMPlusPlus", shape=IMAGE, backbone="meso4", freeze_bn=freeze_bn)
    algorithm.update(minibatches(shape=IMAGE))
    x, _ = pooled(minibatches(shape=IMAGE))
    norm, averaged = (
        next(layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d))
        for network in (algorithm.network, algorithm.network_sma)
    )
    if freeze_bn:
        assert torch.equal(averaged.running_mean, norm.running_mean)
        return
    seen = []
    averaged.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    algorithm.eval().predict(x)
    expected = 0.9 * norm.running_mean + 0.1 * seen[0].mean((0, 2, 3))
    torch.testing.assert_close(averaged.running_mean, expected)


def test_two_steps_of_lars_by_hand():
    # ‖w‖ = 5, ‖g‖ = 2: g becomes 0.1 · 5/2 · (0, 2) = (0, 0.5). Then ‖w‖ = √21.25, g = (0, 0.460977),
    # v = 0.5 · 0.5 + 0.460977. A bias takes its gradient as it is.
    weight = torch.tensor([[3.0, 4.0]], requires_grad=True)
    bias = torch.tensor([1.0], requires_grad=True)
    optimizer = LARS([weight, bias], lr=1.0, momentum=0.5, trust_coefficient=0.1)
    for expected, expected_bias in (([3.0, 3.5], -1.0), ([3.0, 2.789023], -4.0)):
        weight.grad, bias.grad = torch.tensor([[0.0, 2.0]]), torch.tensor([2.0])
        optimizer.step()
        assert weight.tolist()[0] == pytest.approx(expected)
        assert bias.item() == pytest.approx(expected_bias)


def test_weight_decay_of_lars_is_within_the_scaled_gradient_and_not_for_a_bias():
    weight, bias = torch.tensor([[4.0]], requires_grad=True), torch.tensor([1.0], requires_grad=True)
    weight.grad, bias.grad = torch.tensor([[-1.0]]), torch.tensor([0.0])
    LARS([weight, bias], lr=1.0, weight_decay=0.5, trust_coefficient=0.1).step()
    # −1 + 0.5 · 4 = 1, scaled to 0.1 · 4
    assert weight.item() == pytest.approx(3.6)
    assert bias.item() == 1.0


def test_lars_scales_nothing_where_a_norm_is_zero():
    weight = torch.zeros(1, 2, requires_grad=True)
    weight.grad = torch.tensor([[1.0, 2.0]])
    LARS([weight], lr=0.1).step()
    assert weight.tolist()[0] == pytest.approx([-0.1, -0.2])


def test_erm_plus_plus_takes_lars_where_it_is_asked_for():
    algorithm = make("ERMPlusPlus", lars=True, linear_steps=0)
    assert {type(algorithm.optimizer), type(algorithm.linear_optimizer)} == {LARS}
    assert [algorithm.update(minibatches())["loss"] > 0 for _ in range(3)] == [True] * 3
