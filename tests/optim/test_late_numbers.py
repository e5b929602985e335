"""Where nobody waits for the device, a step that is not finite moves nothing, and the error comes with the numbers.

The guard is the same on every device, so the CPU shows it; that no step waits is for a GPU to show.
"""

import copy

import numpy as np
import optim_problems as P
import pytest
import torch

from roga_domainbed.optim import SAM, NonFiniteError, RoGA

BASES = {
    "Adam": (torch.optim.Adam, {"lr": 0.02}),
    "AdamW": (torch.optim.AdamW, {"lr": 0.02}),
    "SGD": (torch.optim.SGD, {"lr": 0.2, "momentum": 0.9}),
    "plain SGD": (torch.optim.SGD, {"lr": 0.2}),
}


def make(cls, base, late, device="cpu"):
    net = P.make_net(batch_norm=True).to(device)
    optimizer_class, kwargs = BASES[base]
    optimizer = cls(net.parameters(), optimizer_class, rho=0.1, model=net, fused=True, **kwargs)
    optimizer.look_late = late
    return net, optimizer


def step(optimizer, net, seed, factor=1.0):
    """``factor`` multiplies the loss of the second domain."""
    domains = P.make_domains(3, seed=seed)
    domains = [(x.to(next(net.parameters()).device), y.to(next(net.parameters()).device)) for x, y in domains]
    closures = P.closures(net, domains)
    closures[1] = lambda c=closures[1]: c() * factor
    if isinstance(optimizer, RoGA):
        return optimizer.step(closures)
    return optimizer.step(lambda: sum(c() for c in closures) / 3)


def everything(net, optimizer):
    """Weights, buffers and the base optimizer's state, flat."""
    state = [v for values in optimizer.state.values() for v in values.values() if isinstance(v, torch.Tensor)]
    return torch.cat([t.detach().double().flatten() for t in (*net.parameters(), *net.buffers(), *state)])


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("cls", [RoGA, SAM])
def test_finite_steps_are_the_same_and_so_are_their_reports(cls, base):
    results = []
    for late in (False, True):
        net, optimizer = make(cls, base, late)
        losses = [step(optimizer, net, seed) for seed in range(4)]
        report = {name: float(value) for name, value in optimizer.report.items()}
        results.append((everything(net, optimizer), torch.stack(losses), report))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert results[0][2] == results[1][2]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("cls", [RoGA, SAM])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_from_a_step_that_is_not_finite_on_nothing_moves_until_somebody_looks(cls, base, bad):
    net, optimizer = make(cls, base, late=True)
    for seed in range(2):
        step(optimizer, net, seed)
    before = everything(net, optimizer)
    step(optimizer, net, 2, factor=bad)
    assert torch.equal(everything(net, optimizer), before)
    step(optimizer, net, 3)
    assert torch.equal(everything(net, optimizer), before), "a good step after it would hide it"
    with pytest.raises(NonFiniteError, match="step 2: the loss") as caught:
        float(optimizer.report["loss"])
    assert caught.value.domain == (1 if cls is RoGA else None)
    assert optimizer.steps_taken == 2
    # As if the bad steps had never been asked for.
    reference, its_optimizer = make(cls, base, late=False)
    for seed in (0, 1, 4):
        step(its_optimizer, reference, seed)
    step(optimizer, net, 4)
    assert torch.equal(everything(net, optimizer), everything(reference, its_optimizer))


@pytest.mark.parametrize("cls", [RoGA, SAM])
def test_the_first_step_is_looked_at_at_once(cls):
    # Fused SGD leaves the moments of a first step that it skips without values.
    net, optimizer = make(cls, "SGD", late=True)
    with pytest.raises(NonFiniteError, match="step 0"):
        step(optimizer, net, 0, factor=float("nan"))


def test_saving_the_state_looks():
    net, optimizer = make(RoGA, "Adam", late=True)
    step(optimizer, net, 0)
    assert optimizer.state_dict()["steps_taken"] == 1
    step(optimizer, net, 1, factor=float("nan"))
    with pytest.raises(NonFiniteError, match="step 1: the loss of domain 1 is nan"):
        optimizer.state_dict()
    assert optimizer.state_dict()["steps_taken"] == 1


def test_unread_numbers_are_looked_at_before_they_fill_the_memory(monkeypatch):
    monkeypatch.setattr("roga_domainbed.optim.sharpness.UNREAD_STEPS", 3)
    net, optimizer = make(RoGA, "Adam", late=True)
    for seed in range(2):
        step(optimizer, net, seed)
    step(optimizer, net, 2, factor=float("nan"))
    step(optimizer, net, 3)
    with pytest.raises(NonFiniteError, match="step 2"):
        step(optimizer, net, 4)


def test_late_numbers_are_read_by_numpy_and_copied_with_their_optimizer():
    net, optimizer = make(RoGA, "Adam", late=True)
    for seed in range(2):
        step(optimizer, net, seed)
    late = list(optimizer.report.values())
    assert np.mean(late) == pytest.approx(np.mean([float(value) for value in late]), abs=1e-15)
    twin, its_optimizer = copy.deepcopy((net, optimizer))
    step(optimizer, net, 2)
    step(its_optimizer, twin, 2)
    assert torch.equal(P.weights(net), P.weights(twin))


@pytest.mark.gpu
@pytest.mark.parametrize("cls", [RoGA, SAM])
def test_on_a_gpu_no_step_waits_for_the_device(cls):
    net, optimizer = make(cls, "Adam", late=None, device="cuda")
    x, y = (t.cuda() for t in P.make_domains(1)[0])
    closure = P.closures(net, [(x, y)])[0]
    for _ in range(2):
        optimizer.step([closure] * 3 if cls is RoGA else closure)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(10):
            optimizer.step([closure] * 3 if cls is RoGA else closure)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert float(optimizer.report["loss"]) > 0
