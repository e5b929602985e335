"""The base optimizer of every algorithm: Adam unless another is named, and then the step is that one's."""

import pytest
import torch
import torch.nn.functional as F
from torch.optim.optimizer import register_optimizer_step_pre_hook

from roga_domainbed.catalog import ALGORITHMS, OPTIMIZER_HPARAMS
from roga_domainbed.engine import algorithms
from roga_domainbed.engine.hparams_registry import default_hparams
from roga_domainbed.engine.lib.misc import split_meta_train_test
from roga_domainbed.input.minibatches import seed_everything
from roga_domainbed.optim.base import base_class_and_kwargs, base_optimizer, other_optimizers
from roga_domainbed.optim.optimizer import SharpnessOptimizer

FEATURES = 6
IMAGES = {"ARM", "CORE", "ForensicTransfer"}  # take images only
LR, MOMENTUM, DECAY = 0.1, 0.7, 0.01
SGD = {"optimizer": "sgd", "momentum": MOMENTUM}
CLASSES = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


def make(name, n_domains=3, **overrides):
    torch.manual_seed(0)
    hparams = {**default_hparams(name, "Debug28"), "mlp_width": 8, "mlp_depth": 2, "mlp_dropout": 0.0}
    hparams |= {"lr": LR, "weight_decay": DECAY, "n_meta_test": 1, "backbone": "mlp" * (name in IMAGES)}
    return algorithms.get_algorithm_class(name)(shape(name), 2, n_domains, {**hparams, **overrides}).double()


def shape(name):
    return (1, 16, 16) if name in IMAGES else (FEATURES,)


def batches(step, n_domains=3, rows=4, x=(FEATURES,)):
    generator = torch.Generator().manual_seed(step)
    y = torch.arange(rows) % 2
    return [(torch.randn(rows, *x, generator=generator, dtype=torch.float64), y) for _ in range(n_domains)]


def gradients(network, params, minibatch):
    """The gradient of the mean cross-entropy at ``params``, which the network need not hold."""
    x, y = minibatch
    named = dict(zip((name for name, _ in network.named_parameters()), params, strict=True))
    return torch.autograd.grad(F.cross_entropy(torch.func.functional_call(network, named, (x,)), y), params)


def free(tensors):
    return [t.detach().clone().requires_grad_() for t in tensors]


class Momentum:
    """Heavy-ball SGD with L2 weight decay, written out: v ← μ v + g + λ θ, θ ← θ − η v."""

    def __init__(self, params, momentum=MOMENTUM):
        self.velocity = [torch.zeros_like(p) for p in params]
        self.momentum = momentum

    def step(self, params, grads):
        self.velocity = [
            self.momentum * v + g + DECAY * p.detach()
            for v, g, p in zip(self.velocity, grads, params, strict=True)
        ]
        return free(p - LR * v for p, v in zip(params, self.velocity, strict=True))


def assert_close(algorithm, params):
    for ours, expected in zip(algorithm.network.parameters(), params, strict=True):
        torch.testing.assert_close(ours.detach(), expected.detach(), rtol=0, atol=1e-13)


def test_two_steps_of_sgd_with_momentum_on_a_parabola_by_hand():
    # f(w) = w², w = 3, lr 0.1, momentum 0.5: gradient 6, velocity 6, w = 2.4; then 4.8, 0.5·6 + 4.8 = 7.8, w = 1.62.
    weight = torch.tensor([3.0], dtype=torch.float64, requires_grad=True)
    hparams = {"lr": 0.1, "weight_decay": 0.0, "optimizer": "sgd", "momentum": 0.5}
    optimizer = base_optimizer([weight], hparams)
    seen = []
    for _ in range(2):
        optimizer.zero_grad()
        (weight**2).sum().backward()
        optimizer.step()
        seen.append(weight.item())
    assert seen == pytest.approx([2.4, 1.62], abs=1e-15)


def test_the_first_steps_of_adamw_by_hand():
    # At its first step m/√v is the gradient's sign (up to ε = 1e-8): θ ← θ (1 − lr·wd) − lr · sign. A gradient of
    # the same value at the second step gives the same.
    weight = torch.tensor([3.0, -2.0], dtype=torch.float64, requires_grad=True)
    optimizer = base_optimizer([weight], {"lr": 0.1, "weight_decay": 0.5, "optimizer": "adamw"})
    for expected in ([2.75, -1.8], [2.5125, -1.61]):
        weight.grad = torch.tensor([4.0, -4.0], dtype=torch.float64)
        optimizer.step()
        assert weight.tolist() == pytest.approx(expected, abs=1e-8)


def test_steps_of_erm_with_sgd_are_those_written_out():
    erm = make("ERM", **SGD)
    params = free(erm.network.parameters())
    rule = Momentum(params)
    for step in range(3):
        pooled = tuple(torch.cat(parts) for parts in zip(*batches(step), strict=True))
        params = rule.step(params, gradients(erm.network, params, pooled))
        erm.update(batches(step))
    assert_close(erm, params)


def test_steps_of_mldg_with_sgd_are_those_of_its_paper_written_out():
    # Algorithm 1, first order: an inner step θ' = θ − η (∇F(θ) + λθ), then the momentum's step along ∇F(θ) + β ∇G(θ').
    beta = 0.6
    mldg = make("MLDG", **SGD, mldg_beta=beta)
    params = free(mldg.network.parameters())
    rule = Momentum(params)
    for step in range(3):
        torch.manual_seed(step)
        direction = [torch.zeros_like(p) for p in params]
        for train, test in split_meta_train_test(batches(step), 1):
            grads = gradients(mldg.network, params, train)
            inner = Momentum(params, momentum=0.0).step(params, grads)
            ahead = gradients(mldg.network, inner, test)
            direction = [d + (g + beta * h) / 3 for d, g, h in zip(direction, grads, ahead, strict=True)]
        params = rule.step(params, direction)
        torch.manual_seed(step)
        mldg.update(batches(step))
    assert_close(mldg, params)


def test_the_momentum_of_fish_lives_on_from_copy_to_copy():
    fish = make("Fish", **SGD, meta_lr=0.3)
    params = free(fish.network.parameters())
    rule = Momentum(params)
    for step in range(3):
        inner = params
        for minibatch in batches(step):
            inner = rule.step(inner, gradients(fish.network, inner, minibatch))
        params = free(p + 0.3 * (i - p) for p, i in zip(params, inner, strict=True))
        fish.update(batches(step))
    assert_close(fish, params)


@pytest.mark.parametrize("name", ["DANN", "CDANN"])
def test_both_sides_of_an_adversarial_algorithm_have_the_optimizer_and_their_own_rates(name):
    own = {"lr_g": 0.2, "lr_d": 0.3, "weight_decay_g": 0.02, "weight_decay_d": 0.03, "beta1": 0.4}
    for optimizer in CLASSES:
        algorithm = make(name, **own, optimizer=optimizer, momentum=MOMENTUM)
        for side, found in (("d", algorithm.disc_opt), ("g", algorithm.gen_opt)):
            assert type(found) is CLASSES[optimizer]
            (group,) = found.param_groups
            assert (group["lr"], group["weight_decay"]) == (own[f"lr_{side}"], own[f"weight_decay_{side}"])
            if optimizer == "sgd":
                assert group["momentum"] == MOMENTUM
            else:
                assert group["betas"] == (0.4, 0.9)


@pytest.mark.parametrize("name", ["IRM", "VREx"])
@pytest.mark.parametrize("optimizer", CLASSES)
def test_whatever_optimizer_an_annealed_penalty_has_it_restarts_with_the_full_weight(name, optimizer):
    anneal = {f"{name.lower()}_penalty_anneal_iters": 2, f"{name.lower()}_lambda": 3.0}
    algorithm = make(name, optimizer=optimizer, momentum=MOMENTUM, **anneal)
    for step in range(2):
        algorithm.update(batches(step))
    fresh = make(name, optimizer=optimizer, momentum=MOMENTUM, **anneal)
    fresh.load_state_dict(
        algorithm.state_dict()
    )  # weights and the count of steps, and no state of an optimizer
    for each in (algorithm, fresh):
        each.update(batches(2))
    for ours, expected in zip(algorithm.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("name", algorithms.ALGORITHMS)
@pytest.mark.parametrize("optimizer", CLASSES)
def test_every_step_of_every_algorithm_is_that_of_the_optimizer_it_is_given(name, optimizer):
    stepped = set()
    algorithm = make(name, optimizer=optimizer, momentum=MOMENTUM)

    fixed = {id(getattr(algorithm, each)) for each in getattr(algorithm, "FIXED_OPTIMIZERS", ())}

    def note(each, *_):
        if (
            not isinstance(each, SharpnessOptimizer) and id(each) not in fixed
        ):  # its base optimizer steps, too
            stepped.add((type(each), each.param_groups[0].get("momentum")))

    handle = register_optimizer_step_pre_hook(note)
    try:
        for step in range(3):
            seed_everything(step)
            algorithm.update(batches(step, x=shape(name)))
    finally:
        handle.remove()
    assert stepped == {(CLASSES[optimizer], MOMENTUM if optimizer == "sgd" else None)}


@pytest.mark.parametrize("name", algorithms.ALGORITHMS)
def test_adam_is_the_default_to_the_bit(name):
    weights = []
    for own in ({}, {"optimizer": "adam"}):
        algorithm = make(name, **own)
        for step in range(3):
            seed_everything(step)
            algorithm.update(batches(step, x=shape(name)))
        weights.append(torch.cat([p.detach().flatten() for p in algorithm.parameters()]))
    assert torch.equal(*weights)


def test_adam_has_torchs_own_arguments():
    cls, kwargs = base_class_and_kwargs({"lr": 0.1, "weight_decay": 0.2})
    assert (cls, kwargs) == (torch.optim.Adam, {"lr": 0.1, "weight_decay": 0.2})


def test_momentum_is_0_9_where_only_sgd_is_given():
    _, kwargs = base_class_and_kwargs({"lr": 0.1, "weight_decay": 0.2, "optimizer": "sgd"})
    assert kwargs["momentum"] == 0.9


@pytest.mark.parametrize("name", sorted(info.name for info in ALGORITHMS if info.target and not info.plugin))
def test_the_hparams_of_domainbeds_algorithms_do_not_have_them_unless_they_are_given(name):
    assert not {spec.name for spec in OPTIMIZER_HPARAMS} & set(default_hparams(name, "Debug28"))


def test_optimizers_that_a_class_makes_itself_are_found():
    erm, sam = make("ERM"), make("SAM", optimizer="sgd")
    assert other_optimizers(erm, {}) == []
    assert other_optimizers(erm, {"optimizer": "adam"}) == []
    assert other_optimizers(erm, {"optimizer": "sgd"}) == ["Adam"]
    assert other_optimizers(sam, {"optimizer": "sgd"}) == []
    assert other_optimizers(sam, {"optimizer": "adamw"}) == ["SGD"]
    # Gradient descent ascent is sgd's.
    gda = make("Transfer", gda=True)
    assert other_optimizers(gda, {"optimizer": "adam"}) == ["SGD"]
    assert gda.optimizer.param_groups[0]["momentum"] == 0
