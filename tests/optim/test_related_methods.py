"""The methods that a sharpness method is compared with: one step worked out in numpy, and their limits."""

import copy
import itertools
from functools import partial

import numpy as np
import optim_problems as P
import pytest
import torch
from scipy.optimize import minimize, minimize_scalar
from test_properties import change

from roga_domainbed.optim import (
    ASAM,
    DGSAM,
    FAD,
    GACFAS,
    GAM,
    SAGM,
    SAM,
    CAGrad,
    LookSAM,
    NonFiniteError,
    PCGrad,
)
from roga_domainbed.optim.cagrad import direction_weights

A, B, C = (P.spd(4, seed).numpy() for seed in (1, 2, 3))
THETA = P.vector(4, 4).numpy()


def step(make, matrices, theta=THETA):
    """Minus the change of θ in a step with lr 1, where domain i's loss is ½ θᵀ A_i θ; one matrix is no list."""
    parameter = torch.nn.Parameter(torch.from_numpy(theta.copy()))
    optimizer = make([parameter], lr=1.0)
    if isinstance(matrices, list):
        optimizer.step([P.quadratic(torch.from_numpy(matrix), parameter) for matrix in matrices])
    else:
        optimizer.step(P.quadratic(torch.from_numpy(matrices), parameter))
    return theta - parameter.detach().numpy()


def unit(v):
    return v / np.linalg.norm(v)


def assert_same(ours, by_hand):
    np.testing.assert_allclose(ours, by_hand, rtol=0, atol=1e-10)


# --- GAC-FAS ---------------------------------------------------------------------------------------------


def test_gacfas_steps_along_erms_gradient_and_the_mean_of_all_data_at_every_ascent_point():
    rho, alpha, eta = 0.3, 0.05, 0.01
    T = np.abs(THETA) + eta
    g = (A + B + C) @ THETA / 3
    points = [
        THETA + rho * T**2 * (M @ THETA) / np.linalg.norm(T * (M @ THETA)) - alpha * g for M in (A, B, C)
    ]
    by_hand = g + sum((A + B + C) / 3 @ point for point in points) / 3
    assert_same(step(partial(GACFAS, rho=rho, alpha=alpha, eta=eta), [A, B, C]), by_hand)


@pytest.mark.parametrize("k", [1, 3], ids=["one domain", "three identical domains"])
def test_gacfas_without_alpha_on_one_or_identical_domains_is_asam_and_erm(k):
    (domain,) = P.make_domains(1)
    net = P.make_net()
    ours = change(partial(GACFAS, rho=0.3, alpha=0.0), net, lambda n: P.closures(n, [domain] * k))
    asam = change(partial(ASAM, rho=0.3), net, lambda n: P.pooled_closure(n, [domain]))
    g = P.flat_gradient(P.pooled_closure(net, [domain])(), net)
    assert torch.allclose(ours, asam - g, rtol=0, atol=1e-13)


def test_gacfas_reports_the_mean_over_points_and_domains():
    rho, eta = 0.3, 0.01
    T = np.abs(THETA) + eta
    points = [THETA + rho * T**2 * (M @ THETA) / np.linalg.norm(T * (M @ THETA)) for M in (A, B)]
    parameter = torch.nn.Parameter(torch.from_numpy(THETA.copy()))
    optimizer = GACFAS([parameter], lr=1.0, rho=rho, alpha=0.0, eta=eta)
    losses = optimizer.step([P.quadratic(torch.from_numpy(M), parameter) for M in (A, B)])
    np.testing.assert_allclose(losses, [THETA @ M @ THETA / 2 for M in (A, B)], rtol=0, atol=1e-13)
    mean = np.mean([point @ M @ point / 2 for point in points for M in (A, B)])
    assert optimizer.report["perturbed_loss"] == pytest.approx(mean, abs=1e-13)


# --- PCGrad ----------------------------------------------------------------------------------------------


def linear_step(make, gradients):
    """Minus the change of θ in a step with lr 1, where domain i's loss is ⟨g_i, θ⟩."""
    gradients = torch.tensor(gradients, dtype=torch.float64)
    parameter = torch.nn.Parameter(torch.zeros_like(gradients[0]))
    make([parameter], lr=1.0).step([lambda g=g: g @ parameter for g in gradients])
    return -parameter.detach().numpy()


def without_conflict(p, others):
    for g in others:
        if p @ g < 0:
            p = p - p @ g / (g @ g) * g
    return p


def test_pcgrad_takes_out_what_conflicts():
    # g_1 = (2, 0), g_2 = (-1, 1): p_1 = (2, 0) + (-1, 1) = (1, 1), p_2 = (-1, 1) + (1, 0) = (0, 1).
    assert_same(linear_step(PCGrad, [[2.0, 0.0], [-1.0, 1.0]]), [0.5, 1.0])


def test_pcgrad_on_quadratics():
    matrices = [A, -B]
    a, b = A @ THETA, -B @ THETA
    assert a @ b < 0
    by_hand = (without_conflict(a, [b]) + without_conflict(b, [a])) / 2
    assert_same(step(PCGrad, matrices), by_hand)


def test_pcgrad_draws_the_order_of_the_others_for_each_domain():
    # Three gradients in the plane, all in conflict: the order decides which conflict is left.
    gradients = np.array([[1.0, 0.1], [-0.8, 0.7], [-0.3, -0.9]])
    possible = []
    for flips in itertools.product([1, -1], repeat=3):
        others = [[g for j, g in enumerate(gradients) if j != i][::flip] for i, flip in enumerate(flips)]
        possible.append(np.mean([without_conflict(*pair) for pair in zip(gradients, others, strict=True)], 0))
    found = []
    for seed in range(40):
        torch.manual_seed(seed)
        found.append(linear_step(PCGrad, gradients))
        torch.manual_seed(seed)
        assert np.array_equal(linear_step(PCGrad, gradients), found[-1])
    closest = [[np.abs(ours - one).max() for one in possible] for ours in found]
    assert np.max(np.min(closest, axis=1)) < 1e-12
    assert len({int(np.argmin(distances)) for distances in closest}) > 3


@pytest.mark.parametrize(("cls", "length"), [(PCGrad, 1), (partial(CAGrad, c=0.4), 1.4)])
@pytest.mark.parametrize("k", [1, 3], ids=["one domain", "three identical domains"])
def test_without_conflict_surgery_steps_along_the_gradient(cls, length, k):
    (domain,) = P.make_domains(1)
    net = P.make_net()
    moved = change(cls, net, lambda n: P.closures(n, [domain] * k))
    g = P.flat_gradient(P.pooled_closure(net, [domain])(), net)
    assert torch.allclose(moved, -length * g, rtol=0, atol=1e-12)


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.Adam], ids=["SGD", "Adam"])
def test_cagrad_without_c_is_erm(base):
    domains, net = P.make_domains(3), P.make_net()
    ours = change(
        lambda params, lr: CAGrad(params, base, c=0.0, lr=0.1), net, lambda n: P.closures(n, domains)
    )
    (reference,) = P.twins(net, 1)
    plain = base(reference.parameters(), lr=0.1)
    P.pooled_closure(reference, domains)().backward()
    plain.step()
    assert torch.allclose(ours, P.weights(reference) - P.weights(net), rtol=0, atol=1e-12)


# --- CAGrad ----------------------------------------------------------------------------------------------


def test_cagrad_leans_on_the_worst_domain():
    # g_1 = (1, 0), g_2 = (3, 1): ⟨g_w, g_0⟩ and ‖g_w‖ are both least at w = (1, 0), so the direction is
    # g_0 + c ‖g_0‖ (1, 0) with g_0 = (2, ½).
    by_hand = np.array([2.0, 0.5]) + 0.3 * np.sqrt(4.25) * np.array([1.0, 0.0])
    assert_same(linear_step(partial(CAGrad, c=0.3), [[1.0, 0.0], [3.0, 1.0]]), by_hand)


def test_cagrad_on_quadratics():
    # A and 3 A: the gradients are parallel and the smaller one is the worst-off.
    a = A @ THETA
    assert_same(step(partial(CAGrad, c=0.3), [A, 3 * A]), 2 * a + 0.3 * 2 * np.linalg.norm(a) * unit(a))


def dual(w, gradients, c):
    mean = gradients.mean(0)
    return w @ gradients @ mean + c * np.linalg.norm(mean) * np.linalg.norm(w @ gradients)


def some_gradients(k, seed):
    rng = np.random.RandomState(seed)
    return rng.randn(k, 6) * 10 ** rng.uniform(-2, 2), rng.uniform(0.1, 0.9)


@pytest.mark.parametrize("seed", range(12))
def test_cagrads_direction_for_two_domains_is_that_of_scipys_optimum_of_the_dual(seed):
    gradients, c = some_gradients(2, seed)
    mean = gradients.mean(0)
    v = minimize_scalar(
        lambda v: dual(np.array([v, 1 - v]), gradients, c),
        bounds=(0, 1),
        method="bounded",
        options={"xatol": 1e-12},
    ).x
    by_scipy = mean + c * np.linalg.norm(mean) * unit(np.array([v, 1 - v]) @ gradients)
    ours = direction_weights(gradients @ gradients.T, c) @ gradients
    np.testing.assert_allclose(ours, by_scipy, rtol=0, atol=1e-6 * np.linalg.norm(mean))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("k", [2, 3, 5])
def test_cagrads_direction_is_scipys_solution_of_equation_3(k, seed):
    # max t over (d, t) with ⟨g_i, d⟩ ≥ t for all i and ‖d − g_0‖ ≤ c ‖g_0‖, in units of ‖g_0‖
    gradients, c = some_gradients(k, seed)
    gradients = gradients / np.linalg.norm(gradients.mean(0))
    mean = gradients.mean(0)
    best = minimize(
        lambda x: -x[-1],
        np.append(mean, (gradients @ mean).min()),
        jac=lambda x: np.append(np.zeros(6), -1.0),
        method="SLSQP",
        constraints=[
            {"type": "ineq", "fun": lambda x: gradients @ x[:-1] - x[-1]},
            {"type": "ineq", "fun": lambda x: c**2 - ((x[:-1] - mean) ** 2).sum()},
        ],
        options={"ftol": 1e-14, "maxiter": 1000},
    ).x
    ours = direction_weights(gradients @ gradients.T, c) @ gradients
    assert np.linalg.norm(ours - mean) == pytest.approx(c, rel=1e-9)
    assert (gradients @ ours).min() == pytest.approx(best[-1], abs=1e-6)
    np.testing.assert_allclose(ours, best[:-1], rtol=0, atol=1e-3)
    # By duality no w of the simplex is below what the worst domain gains.
    for w in np.random.RandomState(seed).dirichlet(np.ones(k), 200):
        assert dual(w, gradients, c) >= (gradients @ ours).min() - 1e-9


@pytest.mark.parametrize("c", [-0.1, 1.0, float("nan")])
def test_cagrad_refuses_a_c_without_convergence(c):
    with pytest.raises(ValueError, match="c must be at least 0 and below 1; got"):
        CAGrad(P.make_net().parameters(), lr=0.1, c=c)


# --- LookSAM ---------------------------------------------------------------------------------------------


def test_looksam_reuses_what_the_second_pass_changed():
    rho, alpha, lr = 0.2, 0.7, 0.1
    parameter = torch.nn.Parameter(torch.from_numpy(THETA.copy()))
    optimizer = LookSAM([parameter], rho=rho, alpha=alpha, every=3, lr=lr)
    calls = []

    def closure():
        calls.append(parameter.detach().numpy().copy())
        return P.quadratic(torch.from_numpy(A), parameter)()

    theta = THETA
    for number in range(7):
        before = len(calls)
        optimizer.step(closure)
        g = A @ theta
        if number % 3 == 0:
            direction = A @ (theta + rho * unit(g))
            v = direction - (direction @ g) / (g @ g) * g
        else:
            direction = g + alpha * np.linalg.norm(g) * unit(v)
        theta = theta - lr * direction
        assert_same(parameter.detach().numpy(), theta)
        assert len(calls) - before == (2 if number % 3 == 0 else 1)
        assert ("perturbed_loss" in optimizer.report) == (number % 3 == 0)


def test_looksam_with_every_step_is_sam_and_its_first_step_always_is():
    domains, net = P.make_domains(1), P.make_net()
    sam = change(partial(SAM, rho=0.3), net, lambda n: P.pooled_closure(n, domains))
    ours = change(partial(LookSAM, rho=0.3, every=4), net, lambda n: P.pooled_closure(n, domains))
    assert torch.equal(ours, sam)
    ours, sams = P.twins(net)
    optimizers = LookSAM(ours.parameters(), rho=0.3, every=1, lr=0.1), SAM(sams.parameters(), rho=0.3, lr=0.1)
    for _ in range(3):
        for optimizer, each in zip(optimizers, (ours, sams), strict=True):
            optimizer.step(P.pooled_closure(each, domains))
    assert torch.equal(P.weights(ours), P.weights(sams))


def test_looksam_resumes_between_second_passes_and_refuses_anothers_state():
    domains, net = P.make_domains(2), P.make_net()
    optimizer = LookSAM(net.parameters(), torch.optim.Adam, lr=0.02, every=3)
    optimizer.step(P.pooled_closure(net, domains))
    state = copy.deepcopy(optimizer.state_dict())
    (resumed,) = P.twins(net, 1)
    again = LookSAM(resumed.parameters(), torch.optim.Adam, lr=0.02, every=3)
    again.load_state_dict(state)
    for each, which in ((net, optimizer), (resumed, again)):
        which.step(P.pooled_closure(each, domains))
    assert "perturbed_loss" not in again.report
    assert torch.equal(P.weights(net), P.weights(resumed))
    state["kept"] = state["kept"][:-1]
    with pytest.raises(ValueError, match="belong to other parameters"):
        again.load_state_dict(state)


@pytest.mark.parametrize("every", [0, 2.5])
def test_looksam_refuses_a_k_that_is_none(every):
    with pytest.raises(ValueError, match="every must be a whole number of at least 1"):
        LookSAM(P.make_net().parameters(), lr=0.1, every=every)


# --- GAM and FAD -----------------------------------------------------------------------------------------


def four_gradients(M, rho, inner):
    """Lines 5 to 12 of Algorithm 2 of GAM's paper on a quadratic."""
    g0 = M @ THETA
    g1 = M @ (THETA + inner * unit(g0))
    second = THETA + rho * unit(g1 - g0)
    g2 = M @ second
    return g0, g1, g2, M @ (second + inner * unit(g2))


def test_gam_follows_algorithm_2():
    alpha, beta, gamma = 0.3, 0.6, 0.2
    g0, g1, g2, g3 = four_gradients(A, 0.4, 0.1)
    plus, minus = alpha * g1 + (1 - alpha) * g3, beta * g0 + (1 - beta) * g2
    by_hand = plus - gamma * (minus - (minus @ plus) / (plus @ plus) * plus)
    gam = partial(GAM, rho=0.4, rho_inner=0.1, alpha=alpha, beta=beta, gamma=gamma)
    assert_same(step(gam, A), by_hand)


def test_gam_without_its_second_ascent_is_sam_with_the_inner_radius():
    domains, net = P.make_domains(2), P.make_net()
    gam = partial(GAM, rho=0.4, rho_inner=0.2, alpha=1.0, gamma=0.0)
    ours = change(gam, net, lambda n: P.pooled_closure(n, domains))
    sam = change(partial(SAM, rho=0.2), net, lambda n: P.pooled_closure(n, domains))
    assert torch.allclose(ours, sam, rtol=0, atol=1e-14)


def test_fad_weighs_both_orders_of_flatness():
    alpha, beta = 0.3, 0.6
    g0, g1, g2, g3 = four_gradients(A, 0.4, 0.4)
    by_hand = g0 + beta * (alpha * (g1 - g0) + (1 - alpha) * (g3 - g2))
    assert_same(step(partial(FAD, rho=0.4, alpha=alpha, beta=beta), A), by_hand)


@pytest.mark.parametrize(("settings", "of_sam"), [({"alpha": 1.0, "beta": 1.0}, 1), ({"beta": 0.0}, 0)])
def test_fad_goes_from_erm_to_sam(settings, of_sam):
    domains, net = P.make_domains(2), P.make_net()
    ours = change(partial(FAD, rho=0.3, **settings), net, lambda n: P.pooled_closure(n, domains))
    reference = change(partial(SAM, rho=0.3 * of_sam), net, lambda n: P.pooled_closure(n, domains))
    assert torch.allclose(ours, reference, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "make", [partial(GAM, rho=0.3, rho_inner=0.2), partial(FAD, rho=0.3)], ids=["GAM", "FAD"]
)
def test_the_perturbed_loss_of_four_passes_is_that_at_the_first_ascent_point(make):
    parameter = torch.nn.Parameter(torch.from_numpy(THETA.copy()))
    optimizer = make([parameter], lr=0.1)
    optimizer.step(P.quadratic(torch.from_numpy(A), parameter))
    group = optimizer.param_groups[0]
    point = THETA + group.get("rho_inner", group["rho"]) * unit(A @ THETA)
    assert optimizer.report["perturbed_loss"] == pytest.approx(point @ A @ point / 2, abs=1e-13)


# --- DGSAM -----------------------------------------------------------------------------------------------


def gradual(matrices, order, rho):
    """The gradients and the points of DGSAM's ascent on quadratics."""
    points, gradients = [THETA], []
    for i in order:
        gradients.append(matrices[i] @ points[-1])
        points.append(points[-1] + rho * unit(gradients[-1]))
    return [*gradients, matrices[order[0]] @ points[-1]], points


def test_dgsam_takes_the_mean_along_an_ascent_through_the_domains_in_random_order():
    rho, matrices = 0.3, [A, B, C]
    orders = list(itertools.permutations(range(3)))
    possible = [np.mean(gradual(matrices, order, rho)[0], 0) for order in orders]
    found = []
    for seed in range(40):
        torch.manual_seed(seed)
        ours = step(partial(DGSAM, rho=rho), matrices)
        torch.manual_seed(seed)
        assert np.array_equal(step(partial(DGSAM, rho=rho), matrices), ours)
        distances = [np.abs(ours - one).max() for one in possible]
        assert min(distances) < 1e-10
        found.append(int(np.argmin(distances)))
    assert set(found) == set(range(6)), "every order is drawn"


def test_dgsam_evaluates_each_domain_once_and_the_first_again_and_reports_it(monkeypatch):
    monkeypatch.setattr(torch, "randperm", lambda n: torch.tensor([1, 0]))
    parameter = torch.nn.Parameter(torch.from_numpy(THETA.copy()))
    called = []

    def counted(i, closure):
        def watched():
            called.append(i)
            return closure()

        return watched

    closures = [P.quadratic(torch.from_numpy(M), parameter) for M in (A, B)]
    optimizer = DGSAM([parameter], rho=0.3, lr=0.1)
    losses = optimizer.step([counted(i, closure) for i, closure in enumerate(closures)])
    assert called == [1, 0, 1]
    (at_theta, second, end) = gradual([A, B], [1, 0], 0.3)[1]
    half = [at_theta @ B @ at_theta / 2, second @ A @ second / 2, end @ B @ end / 2]
    np.testing.assert_allclose(losses, [half[1], half[0]], rtol=0, atol=1e-13)
    assert optimizer.report == pytest.approx(
        {
            "loss": half[0],
            "perturbed_loss": (half[1] + half[2]) / 2,
            "grad_norm": np.linalg.norm(B @ THETA),
        },
        abs=1e-13,
    )


def test_dgsam_on_one_domain_is_sagm_without_its_alpha():
    (domain,) = P.make_domains(1)
    net = P.make_net()
    ours = change(partial(DGSAM, rho=0.3), net, lambda n: P.closures(n, [domain]))
    sagm = change(partial(SAGM, rho=0.3, alpha=0.0), net, lambda n: P.pooled_closure(n, [domain]))
    assert torch.allclose(ours, sagm, rtol=0, atol=1e-11)


def test_dgsam_without_rho_counts_the_first_domain_twice():
    domains, net = P.make_domains(3), P.make_net()
    gradients = [P.flat_gradient(closure(), net) for closure in P.closures(net, domains)]
    torch.manual_seed(3)
    ours = -change(partial(DGSAM, rho=0.0), net, lambda n: P.closures(n, domains))
    distances = [(ours - (sum(gradients) + first) / 4).norm().item() for first in gradients]
    assert min(distances) < 1e-14


def test_dgsams_batch_norm_buffers_move_by_the_mean_of_each_domains_first_pass(monkeypatch):
    monkeypatch.setattr(torch, "randperm", lambda n: torch.tensor([1, 0]))
    domains, net = P.make_domains(2), P.make_net(batch_norm=True)
    (ours,) = P.twins(net, 1)
    expected, moved = [], P.weights(net)
    for i in (1, 0):
        (twin,) = P.twins(net, 1)
        torch.nn.utils.vector_to_parameters(moved, twin.parameters())
        g = P.flat_gradient(P.closures(twin, domains)[i](), twin)
        expected.append(torch.cat([b.double().flatten() for b in twin.buffers()]))
        moved = moved + 0.3 * g / g.norm()
    DGSAM(ours.parameters(), rho=0.3, lr=0.1, model=ours).step(P.closures(ours, domains))
    found = torch.cat([b.double().flatten() for b in ours.buffers()])
    assert torch.allclose(found, sum(expected) / 2, rtol=0, atol=1e-13)


def test_dgsam_blames_the_domain_where_it_began_not_those_after_it(monkeypatch):
    monkeypatch.setattr(torch, "randperm", lambda n: torch.tensor([1, 2, 0]))
    domains, net = P.make_domains(3), P.make_net()
    closures = P.closures(net, domains)
    closures[2] = lambda c=closures[2]: c() * float("nan")
    with pytest.raises(NonFiniteError, match="the loss of domain 2 is nan"):
        DGSAM(net.parameters(), rho=0.3, lr=0.1).step(closures)
