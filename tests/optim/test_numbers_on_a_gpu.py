"""On a GPU no step waits: numbers that are not finite stay there until somebody reads them.

The bookkeeping is the same on every device, so the CPU shows it; that no step waits is for a GPU to show.
"""

import copy

import optim_problems as P
import pytest
import torch

from roga_domainbed.optim import DGSAM, FAD, GACFAS, GAM, SAM, LookSAM, NonFiniteError, PCGrad, RoGA
from roga_domainbed.optim.per_domain import PerDomain

POOLED = [SAM, LookSAM, GAM, FAD]
PER_DOMAIN = [RoGA, GACFAS, DGSAM, PCGrad]  # CAGrad waits for its gradients


@pytest.fixture
def not_waiting(monkeypatch):
    monkeypatch.setattr("roga_domainbed.optim.finite.checked_at_once", lambda device: False)


def make(cls, device="cpu"):
    net = P.make_net(batch_norm=True).to(device)
    settings = {} if cls is PCGrad else {"rho": 0.1}
    return net, cls(net.parameters(), torch.optim.Adam, lr=0.02, model=net, **settings)


def step(optimizer, net, seed, factor=1.0):
    """``factor`` multiplies the loss of the second domain."""
    closures = P.closures(net, P.make_domains(3, seed=seed))
    closures[1] = lambda c=closures[1]: c() * factor
    optimizer.step(closures if isinstance(optimizer, PerDomain) else lambda: sum(c() for c in closures) / 3)


@pytest.mark.usefixtures("not_waiting")
@pytest.mark.parametrize("read", ["check_finite", "state_dict"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("cls", [*POOLED, *PER_DOMAIN])
def test_reading_names_the_first_step_and_domain_that_were_not_finite(cls, bad, read):
    net, optimizer = make(cls)
    for seed in range(2):
        step(optimizer, net, seed)
    getattr(optimizer, read)()
    step(optimizer, net, 2)
    step(optimizer, net, 3, factor=bad)
    step(optimizer, net, 4)
    with pytest.raises(NonFiniteError, match=r"step 3: the loss .*resume from the last checkpoint") as caught:
        getattr(optimizer, read)()
    assert caught.value.step == 3
    assert caught.value.domain == (1 if cls in PER_DOMAIN else None)


@pytest.mark.usefixtures("not_waiting")
def test_a_change_in_the_number_of_domains_reads_what_is_there_and_a_copy_keeps_it():
    net, optimizer = make(RoGA)
    step(optimizer, net, 0, factor=float("nan"))
    _, twin = copy.deepcopy((net, optimizer))
    for read in (lambda: optimizer.step(P.closures(net, P.make_domains(2))), twin.check_finite):
        with pytest.raises(NonFiniteError, match="step 0: the loss of domain 1 is nan"):
            read()


@pytest.mark.gpu
@pytest.mark.parametrize("cls", [*POOLED, *PER_DOMAIN])
def test_on_a_gpu_no_step_waits_for_the_device(cls):
    net, optimizer = make(cls, "cuda")
    x, y = (t.cuda() for t in P.make_domains(1)[0])
    closure = P.closures(net, [(x, y)])[0]
    for _ in range(2):
        optimizer.step([closure] * 3 if cls in PER_DOMAIN else closure)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(20):
            optimizer.step([closure] * 3 if cls in PER_DOMAIN else closure)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    optimizer.check_finite()
    assert float(optimizer.report["loss"]) > 0
