"""The nine properties that any correct implementation satisfies, in float64 with dropout off unless said."""

import copy
from functools import partial

import optim_problems as P
import pytest
import torch
import torch.nn.functional as F

from roga_domainbed.optim import (
    ASAM,
    DGSAM,
    FAD,
    GACFAS,
    GAM,
    GSAM,
    SAGM,
    SAM,
    CAGrad,
    LookSAM,
    NonFiniteError,
    PCGrad,
    RoGA,
)

SINGLE = {
    "SAM": partial(SAM, rho=0.1),
    "ASAM": partial(ASAM, rho=0.5),
    "GSAM": partial(GSAM, rho=0.1, alpha=0.4),
    "SAGM": partial(SAGM, rho=0.1, alpha=0.01),
    "LookSAM": partial(LookSAM, rho=0.1, alpha=0.7, every=2),
    "GAM": partial(GAM, rho=0.2, rho_inner=0.1, gamma=0.3),
    "FAD": partial(FAD, rho=0.1, alpha=0.4, beta=0.7),
}
ROGA = {
    "RoGA": partial(RoGA, rho=0.1, alpha=0.05),
    "RoGA-pooled": partial(RoGA, rho=0.1, alpha=0.05, anchor="pooled"),
    "RoGA-exact": partial(RoGA, rho=0.1, alpha=0.05, gradient="exact"),
    "RoGA-exact-pooled": partial(RoGA, rho=0.1, alpha=0.05, gradient="exact", anchor="pooled"),
}
SURGERY = {"PCGrad": PCGrad, "CAGrad": CAGrad}
PER_DOMAIN = {
    **ROGA,
    "GACFAS": partial(GACFAS, rho=0.3, alpha=0.05),
    "DGSAM": partial(DGSAM, rho=0.1),
    **SURGERY,
}
ALL = {**SINGLE, **PER_DOMAIN}
PERTURBING = [name for name in ALL if name not in SURGERY]
#: How long the direction is, in gradients, where all domains' gradients are the same everywhere.
LENGTH = {"GACFAS": 2, "CAGrad": 1.5}


def step(name, optimizer, net, domains, wrap=lambda closure: closure):
    """One step of either kind on the same data; what it draws depends on the step alone, as in the trainer."""
    torch.manual_seed(optimizer.steps_taken)
    if name in PER_DOMAIN:
        return optimizer.step([wrap(closure) for closure in P.closures(net, domains)])
    return optimizer.step(wrap(P.pooled_closure(net, domains)))


def change(make, net, closures):
    """θ's change in one step with lr 1: minus the direction."""
    net = copy.deepcopy(net)
    before = P.weights(net)
    optimizer = make(net.parameters(), lr=1.0)
    optimizer.step(closures(net))
    return P.weights(net) - before


# --- 1: without perturbation it is the base optimizer ----------------------------------------------------


NO_ALPHA = {"alpha": 0.0}


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.Adam], ids=["SGD", "Adam"])
@pytest.mark.parametrize(
    ("name", "cls", "settings"),
    [
        ("RoGA", RoGA, NO_ALPHA),
        ("RoGA-pooled", RoGA, {**NO_ALPHA, "anchor": "pooled"}),
        ("RoGA-exact", RoGA, {**NO_ALPHA, "gradient": "exact"}),
        ("GACFAS", GACFAS, NO_ALPHA),
        ("SAM", SAM, {}),
        ("ASAM", ASAM, {}),
        ("GSAM", GSAM, NO_ALPHA),
        ("SAGM", SAGM, NO_ALPHA),
        ("LookSAM", LookSAM, {}),
        ("GAM", GAM, {"rho_inner": 0.0}),
        ("FAD", FAD, {}),
    ],
)
def test_without_rho_and_alpha_it_is_the_base_optimizer_on_the_mean_loss(name, cls, settings, base):
    domains = P.make_domains(3)
    ours, reference = P.twins(P.make_net())
    optimizer = cls(ours.parameters(), base, rho=0.0, lr=0.05, weight_decay=0.1, **settings)
    plain = base(reference.parameters(), lr=0.05, weight_decay=0.1)
    for _ in range(3):
        step(name, optimizer, ours, domains)
        plain.zero_grad()
        (LENGTH.get(name, 1) * P.pooled_closure(reference, domains)()).backward()
        plain.step()
    assert torch.allclose(P.weights(ours), P.weights(reference), rtol=0, atol=1e-13)


# --- 2: RoGA reduces to SAM ------------------------------------------------------------------------------


@pytest.mark.parametrize("gradient", ["first_order", "exact"])
@pytest.mark.parametrize("k", [1, 3], ids=["one domain", "three identical domains"])
def test_roga_without_alpha_on_one_or_identical_domains_is_sam(k, gradient):
    (domain,) = P.make_domains(1)
    net = P.make_net()
    roga = partial(RoGA, rho=0.1, alpha=0.0, gradient=gradient)
    moved = change(roga, net, lambda n: P.closures(n, [domain] * k))
    sam = change(partial(SAM, rho=0.1), net, lambda n: P.pooled_closure(n, [domain]))
    assert torch.allclose(moved, sam, rtol=0, atol=1e-14)


def test_roga_on_one_domain_visits_the_ascent_point_of_sagm():
    # SAGM averages g with the gradient there, so 2 SAGM − g is that gradient.
    (domain,) = P.make_domains(1)
    net = P.make_net()
    roga = change(partial(RoGA, rho=0.1, alpha=0.05), net, lambda n: P.closures(n, [domain]))
    sagm = change(partial(SAGM, rho=0.1, alpha=0.05), net, lambda n: P.pooled_closure(n, [domain]))
    g = P.flat_gradient(P.pooled_closure(net, [domain])(), net)
    assert torch.allclose(roga, 2 * sagm + g, rtol=0, atol=1e-11)


# --- 3: the order of the domains does not matter ---------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in PER_DOMAIN if name not in ("PCGrad", "DGSAM")])
@pytest.mark.parametrize("order", [[2, 0, 1], [1, 0, 2], [2, 1, 0]])
def test_permuting_the_domains_changes_nothing(name, order):
    domains = P.make_domains(3)
    net = P.make_net(batch_norm=True)
    results = []
    for arrangement in (domains, [domains[i] for i in order]):
        twin = copy.deepcopy(net)
        optimizer = PER_DOMAIN[name](twin.parameters(), lr=0.5, model=twin)
        for _ in range(2):
            step(name, optimizer, twin, arrangement)
        results.append((P.weights(twin), torch.cat([b.flatten().double() for b in twin.buffers()])))
    (weights, buffers), (permuted_weights, permuted_buffers) = results
    searched = 1e-6 if name == "CAGrad" else 1e-13  # its weights are the end of a search
    assert torch.allclose(weights, permuted_weights, rtol=0, atol=searched)
    assert torch.allclose(buffers, permuted_buffers, rtol=0, atol=1e-13)


# --- 4: the two estimators -------------------------------------------------------------------------------


def roga_direction(net, domains, **kwargs):
    return -change(partial(RoGA, **kwargs), net, lambda n: P.closures(n, domains))


def shared_part_of_the_exact_direction(net, domains, rho, alpha):
    """1/K Σ [h_i − α H_i(θ+ε_i) g_i]: what first_order and exact have in common, by double backward."""
    total = 0
    for i in range(len(domains)):
        moved = copy.deepcopy(net)
        g = P.flat_gradient(P.closures(net, domains)[i](), net)
        with torch.no_grad():
            torch.nn.utils.vector_to_parameters(P.weights(net) + rho * g / g.norm(), moved.parameters())
        params = list(moved.parameters())
        h = torch.autograd.grad(P.closures(moved, domains)[i](), params, create_graph=True)
        h = torch.cat([t.flatten() for t in h])
        curved = torch.cat([t.flatten() for t in torch.autograd.grad(h @ g, params)])
        total = total + h.detach() - alpha * curved
    return total / len(domains)


def test_first_order_differs_from_the_shared_part_by_the_square_of_alpha():
    domains, net = P.make_domains(3), P.make_net()
    gaps = []
    for alpha in (0.04, 0.02, 0.01):
        estimate = roga_direction(net, domains, rho=0.1, alpha=alpha)
        gaps.append((estimate - shared_part_of_the_exact_direction(net, domains, 0.1, alpha)).norm())
    assert gaps[0] / gaps[1] == pytest.approx(4, rel=0.1)
    assert gaps[1] / gaps[2] == pytest.approx(4, rel=0.05)


def objective(net, domains, epsilons, alpha, anchor, theta):
    """J(θ) of Eq. 6 with the ε_i held constant."""
    net = copy.deepcopy(net)

    def loss_and_gradient(at, i):
        torch.nn.utils.vector_to_parameters(at, net.parameters())
        loss = P.closures(net, domains)[i]()
        return loss.item(), P.flat_gradient(loss, net)

    K = len(domains)
    with_grads = [loss_and_gradient(theta, i)[1] for i in range(K)]
    pooled = sum(with_grads) / K
    total = 0.0
    for i in range(K):
        loss, h = loss_and_gradient(theta + epsilons[i], i)
        total += loss - alpha * (h @ (with_grads[i] if anchor == "domain" else pooled)).item()
    return total / K


@pytest.mark.parametrize("anchor", ["domain", "pooled"])
def test_exact_is_the_central_finite_difference_of_the_objective(anchor):
    rho, alpha, delta = 0.1, 0.3, 1e-5
    domains, net = P.make_domains(3), P.make_net()
    theta = P.weights(net)
    gradients = [P.flat_gradient(closure(), net) for closure in P.closures(net, domains)]
    epsilons = [rho * g / g.norm() for g in gradients]
    numeric = torch.zeros_like(theta)
    for j in range(len(theta)):
        shift = torch.zeros_like(theta)
        shift[j] = delta
        up = objective(net, domains, epsilons, alpha, anchor, theta + shift)
        down = objective(net, domains, epsilons, alpha, anchor, theta - shift)
        numeric[j] = (up - down) / (2 * delta)
    exact = roga_direction(net, domains, rho=rho, alpha=alpha, anchor=anchor, gradient="exact")
    assert torch.allclose(exact, numeric, rtol=1e-6, atol=1e-9)


# --- 5: quadratics, by hand ------------------------------------------------------------------------------


def unit(v):
    return v / v.norm()


def quadratic_step(make, matrices, theta):
    parameter = torch.nn.Parameter(theta.clone())
    optimizer = make([parameter], lr=1.0)
    fs = [P.quadratic(matrix, parameter) for matrix in matrices]
    optimizer.step(fs if isinstance(optimizer, RoGA) else fs[0])
    return theta - parameter.detach()


def test_steps_on_quadratics_equal_the_closed_forms():
    A, B = P.spd(4, 1), P.spd(4, 2)
    theta, rho, alpha, eta = P.vector(4, 3), 0.1, 0.02, 0.01
    a, b = A @ theta, B @ theta
    close = {"rtol": 0, "atol": 1e-13}

    sam = quadratic_step(partial(SAM, rho=rho), [A], theta)
    assert torch.allclose(sam, A @ (theta + rho * unit(a)), **close)

    scale = theta.abs() + eta
    asam = quadratic_step(partial(ASAM, rho=rho, eta=eta), [A], theta)
    assert torch.allclose(asam, A @ (theta + rho * scale**2 * a / (scale * a).norm()), **close)

    h = A @ (theta + rho * unit(a))
    gsam = quadratic_step(partial(GSAM, rho=rho, alpha=alpha), [A], theta)
    assert torch.allclose(gsam, h - alpha * (a - (a @ h) / (h @ h) * h), **close)

    sagm = quadratic_step(partial(SAGM, rho=rho, alpha=alpha), [A], theta)
    d = (rho / (a.norm() + 1e-12) - alpha) * a
    assert torch.allclose(sagm, 0.5 * a + 0.5 * A @ (theta + d), **close)

    def roga(**kwargs):
        return quadratic_step(partial(RoGA, rho=rho, alpha=alpha, **kwargs), [A, B], theta)

    ha, hb, g = A @ (theta + rho * unit(a)), B @ (theta + rho * unit(b)), (a + b) / 2
    # For a quadratic ∇L(θ + ε − α a) = h − α A a without remainder.
    assert torch.allclose(roga(), (ha - alpha * A @ a + hb - alpha * B @ b) / 2, **close)
    assert torch.allclose(roga(anchor="pooled"), (ha - alpha * A @ g + hb - alpha * B @ g) / 2, **close)
    assert torch.allclose(roga(terms="perturb"), (ha + hb) / 2, **close)
    assert torch.allclose(roga(terms="align"), (a - alpha * A @ a + b - alpha * B @ b) / 2, **close)
    exact = (ha - alpha * (A @ a + A @ ha) + hb - alpha * (B @ b + B @ hb)) / 2
    assert torch.allclose(roga(gradient="exact"), exact, **close)
    h_mean = (ha + hb) / 2
    exact_pooled = (ha - alpha * A @ g + hb - alpha * B @ g) / 2 - alpha * (A + B) / 2 @ h_mean
    assert torch.allclose(roga(gradient="exact", anchor="pooled"), exact_pooled, **close)
    exact_align = (a - 2 * alpha * A @ a + b - 2 * alpha * B @ b) / 2
    assert torch.allclose(roga(gradient="exact", terms="align"), exact_align, **close)


def test_sam_step_matches_a_computation_by_hand():
    # f(w) = 2 w², w = 3, rho = 0.5, lr = 0.1: the gradient at 3.5 is 14, so w becomes 1.6.
    w = torch.nn.Parameter(torch.tensor(3.0, dtype=torch.float64))
    SAM([w], rho=0.5, lr=0.1).step(lambda: 2 * w**2)
    assert w.item() == pytest.approx(1.6, abs=1e-15)


# --- 6: loss scaling -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_a_loss_scale_is_divided_out_before_the_ascent_point_is_formed(name):
    domains, net = P.make_domains(3), P.make_net()
    plain, scaled = P.twins(net)
    optimizer = ALL[name](plain.parameters(), lr=0.5)
    step(name, optimizer, plain, domains)
    optimizer = ALL[name](scaled.parameters(), lr=0.5)
    factor = 1024.0  # a power of two: exact in floating point
    closures = P.closures(scaled, domains)
    torch.manual_seed(0)
    if name in PER_DOMAIN:
        losses = optimizer.step([lambda c=c: c() * factor for c in closures], loss_scale=factor)
    else:
        losses = optimizer.step(lambda: P.pooled_closure(scaled, domains)() * factor, loss_scale=factor)
    assert torch.allclose(P.weights(plain), P.weights(scaled), rtol=0, atol=1e-14)
    if name != "DGSAM":  # whose losses are those along its ascent
        assert losses.mean().item() == pytest.approx(P.pooled_closure(net, domains)().item(), abs=1e-14)


def test_scaling_the_loss_itself_leaves_epsilon_alone_and_scales_the_alignment():
    # With loss c L: ε is unchanged and d = ε − α c g, so alpha / c gives c times the old direction.
    domains, net, c = P.make_domains(2), P.make_net(), 8.0
    direction = roga_direction(net, domains, rho=0.1, alpha=0.04)

    def scaled(alpha):
        roga = partial(RoGA, rho=0.1, alpha=alpha)
        return -change(roga, net, lambda n: [lambda f=f: c * f() for f in P.closures(n, domains)])

    assert torch.allclose(scaled(0.04 / c), c * direction, rtol=0, atol=1e-12)
    assert (scaled(0.04) - c * direction).norm() > 1e-3


# --- 7: weights are restored exactly ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", ALL)
def test_weights_move_by_the_base_optimizers_change_to_the_bit(name, dtype):
    domains = [(x.to(dtype), y) for x, y in P.make_domains(3)]
    ours, reference = P.twins(P.make_net().to(dtype))
    optimizer = ALL[name](ours.parameters(), base_optimizer=torch.optim.Adam, lr=0.01)
    plain = torch.optim.Adam(reference.parameters(), lr=0.01)
    for _ in range(3):
        step(name, optimizer, ours, domains)
        for theirs, mine in zip(reference.parameters(), ours.parameters(), strict=True):
            theirs.grad = mine.grad.clone()  # the direction that was handed over
        plain.step()
        assert torch.equal(P.weights(ours), P.weights(reference))


@pytest.mark.parametrize("name", ALL)
def test_an_exception_in_a_later_pass_leaves_weights_and_buffers_untouched(name):
    domains = P.make_domains(3)
    net = P.make_net(batch_norm=True)
    before = copy.deepcopy(net.state_dict())
    calls = {"n": 0}
    passes = {
        **dict.fromkeys(SINGLE, 2),
        **{"GAM": 4, "FAD": 4, "GACFAS": 12, "DGSAM": 4},
        **{"RoGA": 6, "RoGA-pooled": 6, "RoGA-exact": 9, "RoGA-exact-pooled": 9},
        **dict.fromkeys(SURGERY, 3),
    }
    last = passes[name]

    def wrap(closure):
        def failing():
            calls["n"] += 1
            if calls["n"] == last:
                raise KeyError("out of memory, say")
            return closure()

        return failing

    optimizer = ALL[name](net.parameters(), lr=0.5, model=net)
    with pytest.raises(KeyError):
        step(name, optimizer, net, domains, wrap)
    assert calls["n"] == last
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert all(layer.track_running_stats for layer in net.modules() if hasattr(layer, "track_running_stats"))


# --- 8: batch norm and dropout ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", SINGLE)
def test_batch_norm_buffers_move_once_by_the_pass_at_theta(name):
    (domain,) = P.make_domains(1)
    ours, reference = P.twins(P.make_net(batch_norm=True))
    step(name, SINGLE[name](ours.parameters(), lr=0.1, model=ours), ours, [domain])
    P.closures(reference, [domain])[0]()  # one forward pass in training mode
    for mine, theirs in zip(ours.buffers(), reference.buffers(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("name", [name for name in PER_DOMAIN if name != "DGSAM"])
def test_batch_norm_buffers_move_once_towards_the_mean_of_the_domains(name):
    domains = P.make_domains(3)
    net = P.make_net(batch_norm=True)
    expected = []
    for closure_index in range(3):
        twin = copy.deepcopy(net)
        P.closures(twin, domains)[closure_index]()
        expected.append([b.double() for b in twin.buffers()])
    expected = [sum(values) / 3 for values in zip(*expected, strict=True)]
    step(name, PER_DOMAIN[name](net.parameters(), lr=0.1, model=net), net, domains)
    for mine, mean in zip(net.buffers(), expected, strict=True):
        assert torch.allclose(mine.double(), mean, rtol=0, atol=1e-14)
    assert net.layers[1].num_batches_tracked == 1


@pytest.mark.parametrize("name", ALL)
def test_later_passes_use_batch_statistics_not_the_running_ones(name):
    # With absurd running statistics a pass in evaluation mode would give absurd gradients.
    domains = P.make_domains(2)
    normal, absurd = P.twins(P.make_net(batch_norm=True))
    absurd.layers[1].running_mean.fill_(1e6)
    for net in (normal, absurd):
        step(name, ALL[name](net.parameters(), lr=0.1, model=net), net, domains)
    assert torch.equal(P.weights(normal), P.weights(absurd))


@pytest.mark.parametrize("name", PERTURBING)
def test_replay_rng_gives_every_pass_of_a_closure_the_same_dropout_mask(name):
    domains = P.make_domains(2)
    net = P.make_net(dropout=0.5)
    for replay in (True, False):
        masks = {}

        def wrap(closure, masks=masks):
            seen = masks.setdefault(id(closure), [])

            def watched():
                state = torch.get_rng_state()
                probe = F.dropout(torch.ones(64), 0.5)
                torch.set_rng_state(state)
                seen.append(probe)
                return closure()

            watched.keep = closure
            return watched

        twin = copy.deepcopy(net)
        step(name, ALL[name](twin.parameters(), lr=0.1, replay_rng=replay), twin, domains, wrap)
        assert max(len(seen) for seen in masks.values()) >= 2
        for seen in masks.values():
            assert len(seen) >= (1 if name == "DGSAM" else 2)
            assert all(torch.equal(mask, seen[0]) for mask in seen[1:]) == (replay or len(seen) == 1)
        firsts = [seen[0] for seen in masks.values()]
        if len(firsts) > 1:
            assert not torch.equal(*firsts), "two domains must not share a mask"


@pytest.mark.parametrize("name", ALL)
def test_instance_norm_buffers_are_protected_too(name):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.InstanceNorm1d(5, affine=True, track_running_stats=True)
            self.out = torch.nn.Linear(5, 2)

        def forward(self, x):
            return self.out(self.norm(x.unsqueeze(-1) * torch.arange(1.0, 4.0, dtype=x.dtype)).mean(-1) + x)

    (domain,) = P.make_domains(1)
    ours, reference = P.twins(Net().double())
    step(name, ALL[name](ours.parameters(), lr=0.1, model=ours), ours, [domain])
    P.closures(reference, [domain])[0]()
    assert torch.equal(ours.norm.running_mean, reference.norm.running_mean)
    assert torch.equal(ours.norm.running_var, reference.norm.running_var)


# --- 9: weight decay, zero and non-finite gradients ------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_weight_decay_acts_once_at_theta(name):
    domains, net, lr, decay = P.make_domains(3), P.make_net(), 0.1, 0.3
    without, with_decay = P.twins(net)
    step(name, ALL[name](without.parameters(), lr=lr), without, domains)
    step(name, ALL[name](with_decay.parameters(), lr=lr, weight_decay=decay), with_decay, domains)
    expected = P.weights(without) - lr * decay * P.weights(net)
    assert torch.allclose(P.weights(with_decay), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ALL)
def test_a_zero_gradient_gives_no_perturbation(name):
    # θ is a minimum of every domain's loss.
    w = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    points = []

    def closure():
        points.append(w.detach().clone())
        return (w**2).sum()

    optimizer = ALL[name]([w], lr=0.1)
    optimizer.step([closure, closure] if name in PER_DOMAIN else closure)
    assert all(torch.equal(point, torch.zeros(3, dtype=torch.float64)) for point in points)
    assert torch.equal(w.detach(), torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ALL)
def test_a_non_finite_loss_stops_and_names_step_and_domain(name, bad):
    domains, net = P.make_domains(3), P.make_net(batch_norm=True)
    optimizer = ALL[name](net.parameters(), lr=0.1, model=net)
    step(name, optimizer, net, domains)
    before = copy.deepcopy(net.state_dict())
    closures = P.closures(net, domains)

    def broken():
        return closures[1]() * bad

    with pytest.raises(NonFiniteError, match="step 1: the loss") as caught:
        optimizer.step([closures[0], broken, closures[2]] if name in PER_DOMAIN else broken)
    assert caught.value.step == 1
    assert caught.value.domain == (1 if name in PER_DOMAIN else None)
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("name", ALL)
def test_a_non_finite_gradient_under_a_finite_loss_stops_too(name):
    # √(w²) has slope 0/0 at 0: the loss is finite, its gradient is not.
    w = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = ALL[name]([w], lr=0.1)

    def kink():
        return (w**2).sum().sqrt()

    with pytest.raises(NonFiniteError, match="gradient norm"):
        optimizer.step([kink] if name in PER_DOMAIN else kink)
    assert w.item() == 0.0


@pytest.mark.parametrize("anchor", ["domain", "pooled"])
def test_a_non_finite_gradient_at_a_perturbed_point_names_its_domain(anchor):
    # −√(w²) at w = −1 has slope 1, so ρ = 1 moves w to 0, where the loss is 0 and the slope 0/0.
    w = torch.nn.Parameter(torch.tensor([-1.0], dtype=torch.float64))
    optimizer = RoGA([w], rho=1.0, alpha=0.0, anchor=anchor, lr=0.1)
    with pytest.raises(
        NonFiniteError, match="gradient norm at the perturbed point of domain 1 is nan"
    ) as caught:
        optimizer.step([lambda: (w**2).sum(), lambda: -(w**2).sum().sqrt()])
    assert caught.value.domain == 1
    assert w.item() == -1.0


@pytest.mark.parametrize("shape", [(4,), (2, 2)], ids=["one tensor", "a view of it"])
@pytest.mark.parametrize("name", ALL)
def test_gradients_that_autograd_shares_between_parameters_are_not_mixed_up(name, shape):
    # p and q enter as a sum: autograd hands out the same memory for both. The loss is linear: one gradient everywhere.
    a = P.vector(4, 5)
    p = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
    q = torch.nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    optimizer = ALL[name]([p, q], lr=1.0)

    def closure():
        return (p + q.reshape(4)) @ a

    optimizer.step([closure, closure] if name in PER_DOMAIN else closure)
    expected = -LENGTH.get(name, 1) * a
    assert torch.allclose(p.detach(), expected, rtol=0, atol=1e-14)
    assert torch.allclose(q.detach().flatten(), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ALL)
def test_gradients_that_are_broadcast_views_can_be_summed(name):
    w = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = ALL[name]([w], lr=1.0)

    def closure():
        return w.sum()

    optimizer.step([closure, closure] if name in PER_DOMAIN else closure)
    expected = torch.full((3,), -float(LENGTH.get(name, 1)), dtype=torch.float64)
    assert torch.allclose(w.detach(), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", PERTURBING)
def test_inside_autocast_the_second_pass_sees_the_moved_weights(name):
    # Autocast keeps copies of the weights it has cast; without care the second pass would repeat the first.
    domains = [(x.float(), y) for x, y in P.make_domains(2)]
    net = P.make_net().float()
    optimizer = ALL[name](net.parameters(), lr=0.1)
    for group in optimizer.param_groups:
        group |= {name: 3.0 for name in ("rho", "rho_inner") if name in group}
    with torch.autocast("cpu", torch.bfloat16):
        step(name, optimizer, net, domains)
    assert optimizer.report["perturbed_loss"] > optimizer.report["loss"] + 0.1
