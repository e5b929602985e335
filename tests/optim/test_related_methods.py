"""The methods that a sharpness method is compared with: one step worked out in numpy, and their limits."""

from functools import partial

import numpy as np
import optim_problems as P
import pytest
import torch
from test_properties import change

from roga_domainbed.optim import ASAM, GACFAS

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
