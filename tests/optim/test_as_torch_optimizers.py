"""What any torch optimizer can do, these can: groups, schedulers, state, copies."""

import copy

import optim_problems as P
import pytest
import torch

from roga_domainbed.optim import ASAM, DGSAM, FAD, GACFAS, GAM, GSAM, SAGM, SAM, CAGrad, LookSAM, PCGrad, RoGA
from roga_domainbed.optim.per_domain import PerDomain

CLASSES = [SAM, ASAM, GSAM, SAGM, LookSAM, GAM, FAD, RoGA, GACFAS, DGSAM]
WITHOUT_RADIUS = [PCGrad, CAGrad]


def step(optimizer, net, domains):
    torch.manual_seed(optimizer.steps_taken)  # as in the trainer, what a step draws depends on the step alone
    if isinstance(optimizer, PerDomain):
        optimizer.step(P.closures(net, domains))
    else:
        optimizer.step(P.pooled_closure(net, domains))


@pytest.mark.parametrize("cls", [*CLASSES, *WITHOUT_RADIUS])
def test_state_dict_round_trip_continues_as_if_unbroken(cls):
    domains = P.make_domains(2)
    net = P.make_net()
    settings = {} if cls in WITHOUT_RADIUS else {"rho": 0.07}
    optimizer = cls(net.parameters(), torch.optim.Adam, lr=0.02, **settings)
    for _ in range(2):
        step(optimizer, net, domains)
    resumed = copy.deepcopy(net)
    state = copy.deepcopy(optimizer.state_dict())
    for _ in range(2):
        step(optimizer, net, domains)
    again = cls(resumed.parameters(), torch.optim.Adam, lr=0.5)
    again.load_state_dict(state)
    assert again.param_groups[0].get("rho") == settings.get("rho")
    assert again.steps_taken == 2
    for _ in range(2):
        step(again, resumed, domains)
    assert torch.equal(P.weights(net), P.weights(resumed))


@pytest.mark.parametrize("cls", CLASSES)
def test_the_state_of_a_plain_base_optimizer_loads(cls):
    net = P.make_net()
    plain = torch.optim.Adam(net.parameters(), lr=0.3)
    optimizer = cls(net.parameters(), torch.optim.Adam, lr=0.1, rho=0.07)
    optimizer.load_state_dict(plain.state_dict())
    assert optimizer.param_groups[0]["lr"] == 0.3
    assert optimizer.param_groups[0]["rho"] == 0.07


@pytest.mark.parametrize("cls", [*CLASSES, *WITHOUT_RADIUS])
def test_a_scheduler_moves_the_step_size(cls):
    domains, net = P.make_domains(2), P.make_net()
    optimizer = cls(net.parameters(), lr=0.4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    for expected in (0.4, 0.2, 0.1):
        before = P.weights(net)
        step(optimizer, net, domains)
        direction = torch.cat([p.grad.flatten() for p in net.parameters()])
        assert torch.allclose(before - P.weights(net), expected * direction, rtol=1e-12, atol=1e-15)
        scheduler.step()


@pytest.mark.parametrize("cls", CLASSES)
def test_groups_keep_their_own_learning_rate_and_radius(cls):
    domains, net = P.make_domains(2), P.make_net()
    first, last = net.layers[0], net.layers[4]
    optimizer = cls(
        [
            {"params": first.parameters(), "lr": 0.0},
            {
                "params": last.parameters(),
                "rho": 0.0,
                **({"alpha": 0.0} if cls in (SAGM, RoGA, GACFAS) else {}),
                **({"rho_inner": 0.0} if cls is GAM else {}),
            },
        ],
        lr=0.1,
        rho=0.3,
    )
    before_first, before_last = P.weights(first), P.weights(last)
    seen = []

    def spy(closure):
        def watched():
            seen.append((P.weights(first), P.weights(last)))
            return closure()

        return watched

    if issubclass(cls, PerDomain):
        optimizer.step([spy(c) for c in P.closures(net, domains)])
    else:
        optimizer.step(spy(P.pooled_closure(net, domains)))
    assert torch.equal(P.weights(first), before_first), "lr 0: the first group stays"
    assert not torch.equal(P.weights(last), before_last)
    assert all(torch.equal(weights, before_last) for _, weights in seen), "rho 0: never perturbed"
    assert any(not torch.equal(weights, before_first) for weights, _ in seen), "rho 0.3: perturbed"


@pytest.mark.parametrize("cls", CLASSES)
def test_a_group_added_later_trains(cls):
    domains, net = P.make_domains(2), P.make_net()
    optimizer = cls(net.layers[0].parameters(), lr=0.1, rho=0.2)
    optimizer.add_param_group({"params": list(net.layers[4].parameters()), "lr": 0.05})
    assert optimizer.param_groups[1]["rho"] == 0.2
    assert len(optimizer.param_groups) == len(optimizer.base_optimizer.param_groups) == 2
    before = P.weights(net.layers[4])
    step(optimizer, net, domains)
    assert not torch.equal(P.weights(net.layers[4]), before)


@pytest.mark.parametrize("cls", [*CLASSES, *WITHOUT_RADIUS])
def test_a_deep_copy_steps_on_its_own(cls):
    domains, net = P.make_domains(2), P.make_net()
    optimizer = cls(net.parameters(), torch.optim.Adam, lr=0.1, model=net)
    step(optimizer, net, domains)
    twin, twin_optimizer = copy.deepcopy((net, optimizer))
    assert twin_optimizer.param_groups is twin_optimizer.base_optimizer.param_groups
    step(optimizer, net, domains)
    assert not torch.equal(P.weights(twin), P.weights(net))
    step(twin_optimizer, twin, domains)
    assert torch.equal(P.weights(twin), P.weights(net))


@pytest.mark.parametrize("cls", [*CLASSES, *WITHOUT_RADIUS])
def test_frozen_parameters_and_those_that_no_loss_reaches_are_left_alone(cls):
    net = P.make_net()
    net.layers[0].weight.requires_grad_(False)
    before = net.layers[0].weight.clone()
    unused = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    step(cls([*net.parameters(), unused], torch.optim.SGD, lr=0.1, weight_decay=0.5), net, P.make_domains(2))
    assert torch.equal(net.layers[0].weight, before)
    assert torch.equal(unused.detach(), torch.ones(2, dtype=torch.float64)), "no gradient, no weight decay"
    assert unused.grad is None


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"rho": -0.1}, "rho must be a finite number"),
        ({"rho": float("nan")}, "rho must be a finite number"),
        ({"alpha": -1.0}, "alpha must be a finite number"),
        ({"terms": "all"}, "terms must be one of both, perturb, align; got 'all'"),
        ({"anchor": "mean"}, "anchor must be one of domain, pooled; got 'mean'"),
        ({"gradient": "second"}, "gradient must be one of first_order, exact; got 'second'"),
    ],
)
def test_roga_refuses_settings_it_does_not_have(kwargs, message):
    with pytest.raises(ValueError, match=message):
        RoGA(P.make_net().parameters(), lr=0.1, **kwargs)


def test_a_closure_that_returns_no_scalar_loss_is_refused():
    net = P.make_net()
    ((x, _),) = P.make_domains(1)
    with pytest.raises(TypeError, match=r"scalar loss tensor.*Tensor\(12, 2\)"):
        SAM(net.parameters(), lr=0.1).step(lambda: net(x))
    with pytest.raises(TypeError, match="got float"):
        RoGA(net.parameters(), lr=0.1).step([lambda: 1.0])
    with pytest.raises(ValueError, match="at least one domain"):
        RoGA(net.parameters(), lr=0.1).step([])


def test_the_report_says_what_the_records_need():
    domains, net = P.make_domains(3), P.make_net()
    gradients = [P.flat_gradient(closure(), net) for closure in P.closures(net, domains)]
    losses = [closure().item() for closure in P.closures(net, domains)]
    optimizer = RoGA(net.parameters(), lr=0.1, rho=0.1, alpha=2e-4)
    optimizer.step(P.closures(net, domains))
    report = optimizer.report
    cosines = [
        torch.cosine_similarity(gradients[i], gradients[j], dim=0).item() for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    assert report["loss"] == pytest.approx(sum(losses) / 3, abs=1e-14)
    assert report["grad_norm"] == pytest.approx(sum(g.norm().item() for g in gradients) / 3, abs=1e-13)
    assert report["cosine"] == pytest.approx(sum(cosines) / 3, abs=1e-13)
    assert report["perturbed_loss"] > report["loss"]
    for i, g in enumerate(gradients):
        assert report[f"alpha_ratio_{i}"] == pytest.approx(2e-4 * g.norm().item() / 0.1, rel=1e-12)
