"""The cheaper forms of RoGA: each at its neutral value is RoGA bit for bit, and each equals a computation by hand."""

import copy

import optim_problems as P
import pytest
import torch

from roga_domainbed.optim import RoGA
from roga_domainbed.optim.cheaper import CheaperRoGA


def unit(v):
    return v / v.norm()


def trained(net, make, steps=5, *, same_ascent=False, **kwargs):
    """The weights and buffers after some steps with Adam, dropout on."""
    net = copy.deepcopy(net)
    torch.manual_seed(3)
    optimizer = make(net.parameters(), torch.optim.Adam, lr=0.02, model=net, **kwargs)
    for _ in range(steps):
        closures = P.closures(net, P.make_domains(3))
        optimizer.step(closures, **({"ascent_closures": closures} if same_ascent else {}))
    return torch.cat([P.weights(net), *(b.double().flatten() for b in net.buffers())])


@pytest.mark.parametrize("anchor", ["domain", "pooled"])
@pytest.mark.parametrize("neutral", [{"every": 1}, {"same_ascent": True}], ids=lambda kw: next(iter(kw)))
def test_at_its_neutral_value_it_is_roga_bit_for_bit(neutral, anchor):
    net = P.make_net(batch_norm=True, dropout=0.3)
    assert torch.equal(trained(net, CheaperRoGA, anchor=anchor, **neutral), trained(net, RoGA, anchor=anchor))


# --- every -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("anchor", ["domain", "pooled"])
def test_every_reuses_the_displacements_of_the_last_full_step(anchor):
    A, B, theta = P.spd(4, 1), P.spd(4, 2), P.vector(4, 3)
    rho, alpha, lr = 0.1, 0.02, 0.5
    w = torch.nn.Parameter(theta.clone())
    optimizer = CheaperRoGA([w], rho=rho, alpha=alpha, anchor=anchor, every=3, lr=lr)
    for step in range(7):
        if step % 3 == 0:
            a, b = A @ theta, B @ theta
            anchors = (a, b) if anchor == "domain" else ((a + b) / 2,) * 2
            d = [rho * unit(g) - alpha * v for g, v in zip((a, b), anchors, strict=True)]
        theta = theta - lr * (A @ (theta + d[0]) + B @ (theta + d[1])) / 2
        optimizer.step([P.quadratic(A, w), P.quadratic(B, w)])
        assert torch.allclose(w.detach(), theta, rtol=0, atol=1e-13), step
        assert ("loss" in optimizer.report) == (step % 3 == 0)
        assert "perturbed_loss" in optimizer.report


def test_a_step_that_reuses_evaluates_each_closure_once_and_returns_the_losses_it_saw():
    net, domains = P.make_net(), P.make_domains(2)
    calls = []
    optimizer = CheaperRoGA(net.parameters(), lr=0.1, every=2)
    closures = [lambda c=c, i=i: calls.append(i) or c() for i, c in enumerate(P.closures(net, domains))]
    optimizer.step(closures)
    assert calls == [0, 0, 1, 1]
    calls.clear()
    losses = optimizer.step(closures)
    assert calls == [0, 1]
    assert losses.mean().item() == pytest.approx(optimizer.report["perturbed_loss"], abs=1e-14)


def test_a_step_that_reuses_moves_the_batch_norm_buffers_by_its_only_passes():
    net, domains = P.make_net(batch_norm=True), P.make_domains(2)
    optimizer = CheaperRoGA(net.parameters(), lr=0.1, every=2, rho=0.5, model=net)
    optimizer.step(P.closures(net, domains))
    expected = []
    for i in range(2):
        twin = copy.deepcopy(net)
        with torch.no_grad():
            for p, d in zip(twin.parameters(), optimizer.state_dict()["displacements"][i], strict=True):
                p += d
        P.closures(twin, domains)[i]()
        expected.append(twin.layers[1].running_mean)
    optimizer.step(P.closures(net, domains))
    assert torch.allclose(net.layers[1].running_mean, sum(expected) / 2, rtol=0, atol=1e-14)
    assert net.layers[1].num_batches_tracked == 2


def test_every_resumes_bit_for_bit_between_two_full_steps():
    net, domains = P.make_net(dropout=0.3), P.make_domains(2)

    def make(params):
        return CheaperRoGA(params, torch.optim.Adam, lr=0.02, every=3)

    def steps(optimizer, net, numbers):
        for number in numbers:
            torch.manual_seed(number)  # as in the trainer, what is drawn depends on the step alone
            optimizer.step(P.closures(net, domains))

    optimizer = make(net.parameters())
    steps(optimizer, net, range(5))
    resumed, state = copy.deepcopy(net), copy.deepcopy(optimizer.state_dict())
    steps(optimizer, net, range(5, 8))
    again = make(resumed.parameters())
    again.load_state_dict(state)
    steps(again, resumed, range(5, 8))
    assert torch.equal(P.weights(net), P.weights(resumed))


def test_without_displacements_of_these_domains_a_step_measures_them():
    net = P.make_net()
    optimizer = CheaperRoGA(net.parameters(), lr=0.1, every=10)
    optimizer.step(P.closures(net, P.make_domains(2)))
    optimizer.step(P.closures(net, P.make_domains(3)))
    assert "loss" in optimizer.report
    state = optimizer.state_dict()
    del state["displacements"]
    optimizer.load_state_dict(state)
    optimizer.step(P.closures(net, P.make_domains(3)))
    assert "loss" in optimizer.report


def test_displacements_of_other_parameters_are_refused():
    net = P.make_net()
    saved = CheaperRoGA(net.parameters(), lr=0.1, every=2)
    saved.step(P.closures(net, P.make_domains(2)))
    other = CheaperRoGA(net.layers[4].parameters(), lr=0.1, every=2)
    with pytest.raises(ValueError, match="belong to other parameters"):
        other.load_state_dict({**other.state_dict(), "displacements": saved.state_dict()["displacements"]})


# --- a part of the minibatch -----------------------------------------------------------------------------


def test_the_ascent_may_see_other_samples_than_the_descent():
    A, B, theta = P.spd(4, 1), P.spd(4, 2), P.vector(4, 3)
    rho, alpha = 0.1, 0.02
    w = torch.nn.Parameter(theta.clone())
    optimizer = CheaperRoGA([w], rho=rho, alpha=alpha, lr=1.0)
    losses = optimizer.step([P.quadratic(A, w)], ascent_closures=[P.quadratic(B, w)])
    b = B @ theta
    assert torch.allclose(w.detach(), theta - A @ (theta + rho * unit(b) - alpha * b), rtol=0, atol=1e-13)
    assert losses[0].item() == pytest.approx((0.5 * theta @ B @ theta).item(), abs=1e-14)


# --- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"every": 0}, "every must be a whole number of at least 1; got 0"),
        ({"every": 1.5}, "every must be a whole number of at least 1; got 1.5"),
        ({"every": 2, "gradient": "exact"}, "every above 1 goes with gradient 'first_order'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        CheaperRoGA(P.make_net().parameters(), lr=0.1, **kwargs)


def test_ascent_closures_must_be_as_many_and_allow_no_replay():
    net = P.make_net()
    closures = P.closures(net, P.make_domains(2))
    with pytest.raises(ValueError, match="2 closures and 1 ascent closures"):
        CheaperRoGA(net.parameters(), lr=0.1).step(closures, ascent_closures=closures[:1])
    with pytest.raises(ValueError, match="replay_rng needs the same samples"):
        CheaperRoGA(net.parameters(), lr=0.1, replay_rng=True).step(closures, ascent_closures=closures)
