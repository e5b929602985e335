"""What every algorithm of the plugin must do, on either backend."""

import pytest
import torch
import torch.nn.functional as F
from cases import ODD_VALUES, OTHERS_ODD_VALUES, SHARED_ODD_VALUES

from roga_domainbed.catalog import ALGORITHMS
from roga_domainbed.catalog.registry import load
from roga_domainbed.upstream import bridge

HOST = bridge.register()
PLUGIN = [info.name for info in ALGORITHMS if info.plugin]


def build(name, seed=0, dataset="Debug28", **overrides):
    torch.manual_seed(seed)
    hparams = {**HOST.hparams_registry.default_hparams(name, dataset), **overrides}
    size = hparams.get("image_size", 28)
    return HOST.algorithms.get_algorithm_class(name)((3, size, size), 2, 3, hparams)


def minibatches(k=3, n=8, seed=0, size=28):
    """Images whose mean tells the class: something every method learns in a few steps."""
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for _ in range(k):
        y = torch.randint(0, 2, (n,), generator=generator)
        x = torch.randn(n, 3, size, size, generator=generator) + (2.0 * y - 1).view(-1, 1, 1, 1)
        batches.append((x, y))
    return batches


def seeded_update(algorithm, step):
    """As the trainer does it: what an algorithm draws depends on the step alone."""
    torch.manual_seed(step)
    return algorithm.update(minibatches(seed=step))


def test_every_plugin_algorithm_has_its_row():
    assert set(PLUGIN) == {*ODD_VALUES, *OTHERS_ODD_VALUES}


@pytest.mark.parametrize("name", PLUGIN)
def test_it_is_one_of_the_hosts_algorithms_under_its_registered_name(name):
    cls = HOST.algorithms.get_algorithm_class(name)
    assert cls is load(ALGORITHMS.get(name).target)
    assert cls.__name__ == name
    brings_its_network = name == "ForensicTransfer"
    assert issubclass(cls, HOST.algorithms.Algorithm if brings_its_network else HOST.algorithms.ERM)


@pytest.mark.parametrize("name", PLUGIN)
def test_it_lowers_the_loss_and_returns_floats(name):
    algorithm = build(name)
    values = [algorithm.update(minibatches(seed=step)) for step in range(8)]
    assert values[-1]["loss"] < 0.6 * values[0]["loss"]
    for value in values:
        assert all(type(number) is float for number in value.values())
        assert "loss" in value
    if name in ODD_VALUES:
        assert {"perturbed_loss", "grad_norm"} <= set(values[0])


@pytest.mark.parametrize("name", PLUGIN)
def test_it_is_deterministic_and_its_state_dict_gives_the_same_predictions(name):
    first, second, other = build(name), build(name), build(name, seed=1)
    for step in range(2):
        assert seeded_update(first, step) == seeded_update(second, step)
    other.load_state_dict(first.state_dict())
    first.eval(), other.eval()
    x = minibatches()[0][0]
    assert torch.equal(first.predict(x), other.predict(x))


@pytest.mark.parametrize(
    ("name", "hparam"), [(name, hparam) for name, odd in OTHERS_ODD_VALUES.items() for hparam in odd]
)
def test_every_declared_hparam_has_a_default_a_draw_and_changes_the_steps(name, hparam):
    specs = {spec.name: spec for spec in load(ALGORITHMS.get(name).target).HPARAMS}
    assert set(specs) == {
        *OTHERS_ODD_VALUES[name],
        "optimizer",
        "momentum",
    }  # which test_base_optimizer.py tests
    assert type(specs[hparam].draw(7)) is type(specs[hparam].default)
    assert specs[hparam].meaning
    plain, odd = build(name), build(name, **{hparam: OTHERS_ODD_VALUES[name][hparam]})
    for algorithm in (plain, odd):
        for step in range(2):
            seeded_update(algorithm, step)
    weights, changed = ([p.flatten() for p in algorithm.parameters()] for algorithm in (plain, odd))
    assert not torch.equal(torch.cat(weights), torch.cat(changed))


@pytest.mark.parametrize("name", ODD_VALUES)
def test_every_declared_hparam_has_a_default_a_draw_and_arrives(name):
    cls = load(ALGORITHMS.get(name).target)
    odd = {**ODD_VALUES[name], **SHARED_ODD_VALUES}
    assert {spec.name for spec in cls.HPARAMS} == set(odd)
    for spec in cls.HPARAMS:
        assert type(spec.draw(7)) is type(spec.default), spec.name
        assert spec.meaning
    algorithm = build(name, **odd)
    optimizer = algorithm.optimizer
    group = optimizer.param_groups[0]
    assert isinstance(optimizer.base_optimizer, torch.optim.SGD)
    assert group["momentum"] == 0.789
    assert optimizer.replay_rng is True
    assert optimizer.model is algorithm.network
    assert group["rho"] == 0.123
    if "alpha" in odd:
        assert group["alpha"] == 0.0456
    if "asam_eta" in odd:
        assert group["eta"] == 0.0456
    if name == "LookSAM":
        assert (group["alpha"], optimizer.every) == (0.0456, 3)
    for own in ("gam", "fad"):
        for hparam in odd:
            if hparam.startswith(f"{own}_"):
                assert group[hparam.removeprefix(f"{own}_")] == odd[hparam]
    if name == "RoGA":
        assert (optimizer.terms, optimizer.anchor, optimizer.gradient) == ("align", "pooled", "exact")


@pytest.mark.parametrize(("optimizer", "cls"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_the_base_optimizer_is_chosen_by_hparam(optimizer, cls):
    base = build("SAM", optimizer=optimizer, lr=0.25, weight_decay=0.125).optimizer.base_optimizer
    assert type(base) is cls
    assert (base.param_groups[0]["lr"], base.param_groups[0]["weight_decay"]) == (0.25, 0.125)


@pytest.mark.parametrize("name", ["SAM", "RoGA", "DISAM"])
def test_without_a_perturbation_it_takes_erms_step(name):
    ours, erm = build(name, rho=0.0, **({"alpha": 0.0} if name == "RoGA" else {})), build("ERM")
    ours.double(), erm.double()
    batches = [(x.double(), y) for x, y in minibatches()]
    ours.update(batches)
    erm.update(batches)
    for mine, theirs in zip(ours.parameters(), erm.parameters(), strict=True):
        # Adam divides by √v: a gradient that is zero up to rounding makes a step of its sign, so not 1e-16
        assert torch.allclose(mine, theirs, rtol=0, atol=1e-8)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("name", ["SAM", "RoGA"])
def test_gradients_in_another_memory_order_step_every_weight_by_its_own(name, optimizer):
    # Meso-4 runs channels-last, so autograd's gradients of its kernels lie in another order than the kernels. The
    # step must be the one that torch's plain optimizer makes of the same gradients.
    settings = {"optimizer": optimizer, "backbone": "meso4", "lr": 0.01, "momentum": 0.9}
    ours = build(name, dataset="SynthFake", **settings)
    before = [p.detach().clone() for p in ours.network.parameters()]
    ours.update(minibatches(n=4, size=64))
    plain = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[optimizer]
    reference = [torch.nn.Parameter(p) for p in before]
    for theirs, mine in zip(reference, ours.network.parameters(), strict=True):
        theirs.grad = mine.grad.clone(memory_format=torch.contiguous_format)
    kwargs = {"momentum": 0.9} if optimizer == "sgd" else {}
    plain(reference, lr=0.01, weight_decay=0.0, **kwargs).step()
    for theirs, mine in zip(reference, ours.network.parameters(), strict=True):
        assert torch.allclose(theirs, mine, rtol=0, atol=1e-6)


def test_sagm_follows_the_released_rule():
    # d = (ρ/(‖g‖ + 1e-12) − α) g; direction ½ g + ½ ∇L(θ + d); here with SGD, written out.
    rho, alpha, lr = 0.2, 0.03, 0.1
    sagm = build("SAGM", optimizer="sgd", momentum=0.0, lr=lr, rho=rho, alpha=alpha).double()
    reference = build("ERM").double()
    batches = [(x.double(), y) for x, y in minibatches()]
    x, y = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
    params = list(reference.network.parameters())
    g = torch.autograd.grad(F.cross_entropy(reference.predict(x), y), params)
    norm = torch.sqrt(sum((t**2).sum() for t in g))
    theta = [p.detach().clone() for p in params]
    with torch.no_grad():
        for p, t in zip(params, g, strict=True):
            p += (rho / (norm + 1e-12) - alpha) * t
    h = torch.autograd.grad(F.cross_entropy(reference.predict(x), y), params)
    sagm.update(batches)
    for p, t, a, b in zip(sagm.network.parameters(), theta, g, h, strict=True):
        assert torch.allclose(p, t - lr * (0.5 * a + 0.5 * b), rtol=0, atol=1e-13)


def test_roga_takes_each_minibatch_as_a_domain():
    # Against Eq. 6's first-order direction written out, with SGD.
    rho, alpha, lr = 0.2, 0.03, 0.1
    roga = build("RoGA", optimizer="sgd", momentum=0.0, lr=lr, rho=rho, alpha=alpha).double()
    reference = build("ERM").double()
    batches = [(x.double(), y) for x, y in minibatches()]
    params = list(reference.network.parameters())
    theta = [p.detach().clone() for p in params]
    direction = [torch.zeros_like(p) for p in params]
    for x, y in batches:
        g = torch.autograd.grad(F.cross_entropy(reference.predict(x), y), params)
        norm = torch.sqrt(sum((t**2).sum() for t in g))
        with torch.no_grad():
            for p, t in zip(params, g, strict=True):
                p += (rho / norm - alpha) * t
        h = torch.autograd.grad(F.cross_entropy(reference.predict(x), y), params)
        with torch.no_grad():
            for p, t, d, b in zip(params, theta, direction, h, strict=True):
                p.copy_(t)
                d += b / 3
    roga.update(batches)
    for p, t, d in zip(roga.network.parameters(), theta, direction, strict=True):
        assert torch.allclose(p, t - lr * d, rtol=0, atol=1e-13)
