"""What loops that are not ours do with an optimizer: scalers, clipping, hooks, hosts that pass a closure on."""

import copy

import optim_problems as P
import pytest
import torch
import torch.nn.functional as F
from test_properties import ALL, PER_DOMAIN, ROGA, SINGLE, step

from roga_domainbed.optim import GSAM, SAGM, SAM, LookSAM, NonFiniteError, RoGA
from roga_domainbed.optim.cheaper import CheaperRoGA

# --- the scaler of fp16 ------------------------------------------------------------------------------------


def make_scaler(**kwargs):
    return torch.amp.GradScaler("cpu", **{"init_scale": 2.0**10, **kwargs})


def scaled_step(name, optimizer, closures, scaler):
    if name in PER_DOMAIN:
        return optimizer.step(closures, scaler=scaler)
    return optimizer.step(lambda: sum(closure() for closure in closures) / len(closures), scaler=scaler)


@pytest.mark.parametrize("name", ALL)
def test_a_scaler_whose_scale_is_a_power_of_two_changes_no_bit(name):
    domains = P.make_domains(3)
    plain, scaled = P.twins(P.make_net(batch_norm=True))
    ours = ALL[name](plain.parameters(), torch.optim.Adam, lr=0.01, model=plain)
    other = ALL[name](scaled.parameters(), torch.optim.Adam, lr=0.01, model=scaled)
    scaler = make_scaler()
    for number in range(3):
        torch.manual_seed(number)
        scaled_step(name, ours, P.closures(plain, domains), None)
        torch.manual_seed(number)
        scaled_step(name, other, P.closures(scaled, domains), scaler)
        scaler.update()
    assert other.steps_taken == 3
    assert torch.allclose(P.weights(plain), P.weights(scaled), rtol=0, atol=1e-14)


@pytest.mark.parametrize("overflowing_pass", [0, 1])
@pytest.mark.parametrize("name", [*SINGLE, *ROGA, "GACFAS", "DGSAM"])
def test_a_step_that_overflows_in_any_pass_is_skipped_and_the_scale_is_halved(name, overflowing_pass):
    net = P.make_net(batch_norm=True).float()
    domains = [(x.float(), y) for x, y in P.make_domains(2)]
    optimizer = ALL[name](net.parameters(), torch.optim.Adam, lr=0.01, model=net)
    scaler = make_scaler()
    calls = {"n": 0, "overflow": None}

    def closure(x, y):
        def of_domain():
            calls["n"] += 1
            with torch.autocast("cpu", torch.float16):
                logits = net(x)
            loss = F.cross_entropy(logits.float(), y)
            # A gradient of some thousand times the scale is beyond 65,504, the largest number of fp16.
            return loss * 1e5 if calls["n"] == calls["overflow"] else loss

        return of_domain

    closures = [closure(x, y) for x, y in domains]
    one_step = lambda: scaled_step(name, optimizer, closures, scaler)  # noqa: E731
    one_step()
    scaler.update()
    per_step = calls["n"]
    assert scaler.get_scale() == 2.0**10
    before = copy.deepcopy((net.state_dict(), optimizer.base_optimizer.state_dict()["state"]))
    calls |= {"n": 0, "overflow": 1 if overflowing_pass == 0 else per_step}
    if name == "LookSAM":
        optimizer.steps_taken += optimizer.steps_taken % 2  # a step with both passes
    losses = one_step()
    scaler.update()
    after = net.state_dict(), optimizer.base_optimizer.state_dict()["state"]
    assert all(torch.equal(value, after[0][key]) for key, value in before[0].items())
    for moments, now in zip(before[1].values(), after[1].values(), strict=True):
        assert all(torch.equal(value, now[key]) for key, value in moments.items())
    assert scaler.get_scale() == 2.0**9
    assert losses.numel() == (2 if name in PER_DOMAIN else 1)
    calls |= {"n": 0, "overflow": None}
    one_step()
    scaler.update()
    assert scaler.get_scale() == 2.0**9
    assert not torch.equal(
        P.weights(net), torch.cat([before[0][k].flatten() for k, _ in net.named_parameters()])
    )


def test_a_scaler_that_is_off_is_none():
    net = P.make_net()
    optimizer = SAM(net.parameters(), lr=0.1)
    before = P.weights(net)
    optimizer.step(P.pooled_closure(net, P.make_domains(1)), scaler=make_scaler(enabled=False))
    assert not torch.equal(before, P.weights(net))


@pytest.mark.parametrize("cls", [SAM, RoGA])
def test_the_scalers_own_step_says_what_to_do_instead(cls):
    net, scaler = P.make_net(), make_scaler()
    optimizer = cls(net.parameters(), lr=0.1)
    scaler.scale(P.pooled_closure(net, P.make_domains(1))()).backward()
    with pytest.raises(TypeError, match=r"scaler=scaler\) in place of scaler.step\(optimizer\)"):
        scaler.step(optimizer)
    (closure,) = P.closures(net, P.make_domains(1))
    with pytest.raises(ValueError, match="a scaler or a loss_scale"):
        optimizer.step([closure] if cls is RoGA else closure, 2.0, scaler=scaler)


# --- clipping, hooks, maximize -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_the_direction_is_shortened_to_max_grad_norm(name):
    domains = P.make_domains(2)
    plain, clipped = P.twins(P.make_net())
    step(name, ALL[name](plain.parameters(), lr=0.0), plain, domains)
    direction = torch.cat([p.grad.flatten() for p in plain.parameters()])
    most = direction.norm().item() / 3
    step(name, ALL[name](clipped.parameters(), lr=0.0, max_grad_norm=most), clipped, domains)
    found = torch.cat([p.grad.flatten() for p in clipped.parameters()])
    assert torch.allclose(found, direction / 3, rtol=1e-5)
    assert found.norm().item() == pytest.approx(most, rel=1e-5)


def test_a_hook_before_the_step_finds_the_direction():
    net, domains = P.make_net(), P.make_domains(2)
    optimizer = RoGA(net.parameters(), lr=0.1)
    seen = []

    def no_step(given, args, kwargs):
        seen.append(given)
        for p in net.parameters():
            p.grad.zero_()

    handle = optimizer.register_step_pre_hook(no_step)
    before = P.weights(net)
    optimizer.step(P.closures(net, domains))
    assert torch.equal(before, P.weights(net))
    assert seen == [optimizer]
    handle.remove()
    after = []
    optimizer.register_step_post_hook(lambda *_: after.append(P.weights(net)))
    optimizer.step(P.closures(net, domains))
    assert torch.equal(after[0], P.weights(net))
    assert not torch.equal(before, P.weights(net))


@pytest.mark.parametrize("name", ALL)
def test_maximizing_a_loss_is_minimizing_its_negative(name):
    domains = P.make_domains(3)
    up, down = P.twins(P.make_net())
    ours = ALL[name](up.parameters(), torch.optim.Adam, lr=0.01, maximize=True)
    reference = ALL[name](down.parameters(), torch.optim.Adam, lr=0.01)
    for _ in range(3):
        step(name, ours, up, domains)
        step(name, reference, down, domains, wrap=lambda closure: lambda: -closure())
    assert torch.allclose(P.weights(up), P.weights(down), rtol=0, atol=1e-13)
    assert ours.report["loss"] == pytest.approx(-reference.report["loss"])


# --- parameters that take part in one pass, or for a time --------------------------------------------------


class OneEach(torch.nn.Module):
    """``first`` is in the pass at θ alone, ``second`` in the one at the ascent point alone."""

    def __init__(self):
        super().__init__()
        for name in ("always", "first", "second"):
            self.register_parameter(name, torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64)))
        self.calls = 0

    def loss(self):
        self.calls += 1
        return (self.always**2).sum() + ((self.first if self.calls % 2 else self.second) ** 2).sum()


@pytest.mark.parametrize(
    ("cls", "moving"),
    [(SAM, {"always", "second"}), (GSAM, {"always", "first", "second"}), (SAGM, {"always", "first", "second"}),
     (RoGA, {"always", "second"})],
)  # fmt: skip
def test_a_parameter_moves_if_a_gradient_that_the_method_uses_reaches_it(cls, moving):
    net = OneEach()
    optimizer = cls(net.parameters(), lr=0.1, weight_decay=0.5)
    before = copy.deepcopy(net.state_dict())
    optimizer.step([net.loss] if cls is RoGA else net.loss)
    assert {
        name for name, value in net.state_dict().items() if not torch.equal(value, before[name])
    } == moving


def test_displacements_of_other_parameters_or_domains_are_not_reused():
    domains = P.make_domains(3)
    net = P.make_net()
    optimizer = CheaperRoGA(net.layers[4].parameters(), lr=0.1, rho=0.2, every=4)
    calls = []

    def taken(closures):
        calls.clear()
        optimizer.step([c and (lambda c=c: calls.append(1) or c()) for c in closures])
        return len(calls)

    assert taken(P.closures(net, domains)) == 6
    assert taken(P.closures(net, domains)) == 3
    optimizer.add_param_group({"params": list(net.layers[0].parameters())})
    assert taken(P.closures(net, domains)) == 6
    net.layers[0].bias.requires_grad_(False)
    assert taken(P.closures(net, domains)) == 6
    assert taken([*P.closures(net, domains)[:2], None]) == 4  # every fourth step measures anyway
    assert taken([*P.closures(net, domains)[:2], None]) == 2
    assert taken(P.closures(net, domains)) == 6


def test_looksam_reuses_nothing_of_other_parameters():
    (closure,) = P.closures(net := P.make_net(), P.make_domains(1))
    optimizer = LookSAM(net.layers[4].parameters(), lr=0.1, rho=0.2, every=5)
    calls = []

    def passes():
        calls.clear()
        optimizer.step(lambda: calls.append(1) or closure())
        return len(calls)

    assert [passes(), passes()] == [2, 1]
    optimizer.add_param_group({"params": list(net.layers[0].parameters())})
    assert [passes(), passes()] == [2, 1]


# --- what a step takes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PER_DOMAIN)
def test_one_callable_may_return_the_closures_or_the_losses(name):
    domains = P.make_domains(3)
    nets = P.twins(P.make_net(batch_norm=True), 3)
    optimizers = [ALL[name](net.parameters(), lr=0.1, model=net) for net in nets]
    closures = [P.closures(net, domains) for net in nets]
    given = [closures[0], lambda: closures[1], lambda: [closure() for closure in closures[2]]]
    for optimizer, what in zip(optimizers, given, strict=True):
        torch.manual_seed(0)
        if callable(what):
            optimizer.step(closure=what)
        else:
            optimizer.step(what)
    assert torch.equal(P.weights(nets[0]), P.weights(nets[1]))
    assert torch.allclose(P.weights(nets[0]), P.weights(nets[2]), rtol=0, atol=1e-14)


def test_weights_say_what_a_domain_counts_for():
    # By hand: each domain's own direction, of a step of that domain alone.
    domains, net = P.make_domains(3), P.make_net()

    def direction(closures, **kwargs):
        twin = copy.deepcopy(net)
        RoGA(twin.parameters(), lr=0.0, rho=0.2, alpha=0.05).step(closures(twin), **kwargs)
        return torch.cat([p.grad.flatten() for p in twin.parameters()])

    own = [direction(lambda n, i=i: [P.closures(n, domains)[i]]) for i in range(3)]
    weighted = direction(lambda n: P.closures(n, domains), weights=[1, 3, 0])
    assert torch.allclose(weighted, (own[0] + 3 * own[1]) / 4, rtol=0, atol=1e-14)
    without = direction(lambda n: [P.closures(n, domains)[0], None, P.closures(n, domains)[2]])
    assert torch.allclose(without, (own[0] + own[2]) / 2, rtol=0, atol=1e-14)


def test_numbers_of_a_domain_that_is_absent_keep_their_places():
    net = P.make_net()
    optimizer = RoGA(net.parameters(), lr=0.1)
    closures = [None, *P.closures(net, P.make_domains(2))]
    assert optimizer.step(closures).shape == (2,)
    assert {name for name in optimizer.report if "alpha" in name} == {"alpha_ratio_1", "alpha_ratio_2"}
    with pytest.raises(NonFiniteError, match="loss of domain 2 is nan"):
        optimizer.step([None, closures[1], lambda: closures[2]() * float("nan")])


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda net, x: RoGA(net.parameters(), lr=0.1).step([]), "closures is empty"),
        (lambda net, x: RoGA(net.parameters(), lr=0.1).step([None, None]), "every closure is None"),
        (lambda net, x: RoGA(net.parameters(), lr=0.1).step(), "one closure a domain"),
        (lambda net, x: SAM(net.parameters(), lr=0.1).step(), "needs a closure that returns the loss"),
        (lambda net, x: RoGA(net.parameters(), lr=0.1).step([net], weights=[-1]), "weights must be 1 finite numbers"),
        (lambda net, x: ALL["DGSAM"](net.parameters(), lr=0.1).step([net], weights=[1]), "takes no weights"),
        (lambda net, x: SAM(net.parameters(), lr=0.1).step(lambda: None), "must return a scalar loss"),
        (lambda net, x: SAM(net.parameters(), lr=0.1).step(lambda: _went_back(net, x)), "closure called backward"),
        (lambda net, x: SAM(net.parameters(), torch.optim.LBFGS, lr=0.1), "LBFGS evaluates the loss in its own step"),
        (lambda net, x: SAM(net.parameters(), lr=0.1, max_grad_norm=0), "max_grad_norm must be a finite number > 0"),
        (lambda net, x: SAM(net.parameters(), lr=0.1, ascent="far"), "ascent must be one of global, local"),
        (
            lambda net, x: SAM([{"params": [p], "maximize": p.dim() > 1} for p in net.layers[0].parameters()], lr=0.1),
            "maximize must be the same in all groups",
        ),
        (
            lambda net, x: GSAM([torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64))], lr=0.1),
            "a parameter is complex",
        ),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_with_its_cause(act, message):
    net = P.make_net()
    with pytest.raises((ValueError, TypeError), match=message):
        act(net, P.make_domains(1)[0][0])


def _went_back(net, x):
    loss = net(x).sum()
    loss.backward()
    return loss


def test_sparse_gradients_are_refused():
    table = torch.nn.Embedding(5, 2, sparse=True)
    with pytest.raises(TypeError, match="build the embedding with sparse=False"):
        SAM(table.parameters(), lr=0.1).step(lambda: table(torch.tensor([1, 3])).sum())
