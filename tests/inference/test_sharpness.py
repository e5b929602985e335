"""The loss along the ascent direction: a quadratic in closed form, and weights that come back bit for bit."""

import numpy as np
import pytest
import torch
from explained_runs import Detector, run_of
from torch import nn
from torch.nn import functional as F

from roga_domainbed.errors import RogaError
from roga_domainbed.inference.explain.sharpness import Curve, ascent_curves, radius

A = np.array([[[3.0, 1.0], [1.0, 2.0]], [[1.0, 0.0], [0.0, 5.0]]])
THETA = np.array([1.0, -0.5])
DISTANCES = np.linspace(0, 0.4, 9)


class Bowl(nn.Module):
    """Its cross-entropy at label 0 is ½ θᵀ A θ: softplus of log(exp(q) − 1) is q. The input is the number of A."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(THETA, dtype=torch.float32))

    def predict(self, x):
        a = torch.tensor(A, dtype=torch.float32)[x.long()]
        return torch.log(torch.expm1(0.5 * torch.einsum("i,bij,j->b", self.theta, a, self.theta)))


def batches_of(x, y, size):
    """Two environments, the same images in each, in batches of ``size``."""

    def batches():
        for env in range(2):
            for start in range(0, len(y), size):
                yield env, x[env][start : start + size], y[start : start + size]

    return batches


def test_the_curves_of_two_quadratics_are_those_in_closed_form():
    x = [torch.zeros(3), torch.ones(3)]
    losses, norms = ascent_curves(
        Bowl(), batches_of(x, torch.zeros(3, dtype=torch.long), 2), [3, 3], DISTANCES
    )
    pooled = A.mean(0)
    for row, (along, of) in enumerate([(pooled, pooled), (A[0], A[0]), (A[1], A[1])]):
        g = along @ THETA
        assert norms[row] == pytest.approx(np.linalg.norm(g), rel=1e-5)
        points = THETA + DISTANCES[:, None] * g / np.linalg.norm(g)
        np.testing.assert_allclose(losses[row], 0.5 * np.einsum("ti,ij,tj->t", points, of, points), rtol=1e-5)
    # by hand: A₀θ = (2.5, 0), so at t = 0.2 θ is (1.2, −0.5) and the loss ½(3·1.44 − 2·0.6 + 2·0.25) = 1.81
    assert Curve("DF", 3, losses[1], norms[1]).at_rho == pytest.approx(1.81, rel=1e-5)
    assert Curve("DF", 3, losses[1], norms[1]).sharpness == pytest.approx(1.81 - 1.25, rel=1e-5)


def network():
    """Batch norm with statistics of its own, dropout, and a layer that training left alone."""
    torch.manual_seed(0)
    features = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3))
    features[1].running_mean.uniform_(-1, 1)
    features[4].requires_grad_(False)
    return Detector(features, nn.Linear(3, 2)).train()


X, Y = torch.randn(2, 10, 4, generator=torch.Generator().manual_seed(1)), torch.arange(10) % 2


def test_the_loss_is_that_of_evaluation_mode_however_the_images_are_batched():
    algorithm = network()
    whole, _ = ascent_curves(algorithm, batches_of(X, Y, 10), [10, 10], DISTANCES)
    parts, _ = ascent_curves(algorithm, batches_of(X, Y, 3), [10, 10], DISTANCES)
    np.testing.assert_allclose(parts, whole, rtol=1e-5)
    algorithm.eval()
    with torch.no_grad():
        expected = [F.cross_entropy(algorithm.predict(x), Y).item() for x in X]
    np.testing.assert_allclose(whole[1:, 0], expected, rtol=1e-5)
    assert whole[0, 0] == pytest.approx(np.mean(expected), rel=1e-5)
    assert (whole[:, 4] > whole[:, 0]).all(), "uphill"


def test_only_what_training_moved_is_moved():
    algorithm = network()
    _, norms = ascent_curves(algorithm, batches_of(X, Y, 10), [10, 10], DISTANCES)
    algorithm.eval()
    trained = [p for p in algorithm.parameters() if p.requires_grad]
    grads = torch.autograd.grad(F.cross_entropy(algorithm.predict(X[0]), Y), trained)
    assert norms[1] == pytest.approx(torch.cat([g.flatten() for g in grads]).norm().item(), rel=1e-5)
    algorithm.requires_grad_(False)  # as an averaged network, which predicts and is not trained
    _, of_all = ascent_curves(algorithm, batches_of(X, Y, 10), [10, 10], DISTANCES)
    assert (of_all > norms).all()


def state(algorithm):
    values = {name: value.clone() for name, value in algorithm.state_dict().items()}
    return (
        values,
        [m.training for m in algorithm.modules()],
        [p.requires_grad for p in algorithm.parameters()],
    )


@pytest.mark.parametrize("fails_at", [None, 30])
def test_weights_statistics_and_modes_come_back_bit_for_bit(fails_at):
    algorithm = network()
    before, calls, inner = state(algorithm), [], algorithm.predict

    def predict(x):
        calls.append(len(x))
        if len(calls) == fails_at:
            raise RuntimeError("in the middle")
        return inner(x)

    algorithm.predict = predict
    if fails_at:
        with pytest.raises(RuntimeError, match="in the middle"):
            ascent_curves(algorithm, batches_of(X, Y, 3), [10, 10], DISTANCES)
    else:
        ascent_curves(algorithm, batches_of(X, Y, 3), [10, 10], DISTANCES)
    after = state(algorithm)
    assert all(torch.equal(before[0][name], value) for name, value in after[0].items())
    assert after[1:] == before[1:]


def test_a_zero_gradient_leaves_the_loss_where_it_is():
    bowl = Bowl()
    bowl.theta.data.zero_().add_(1e-30)
    bowl.predict = lambda x: (bowl.theta * 0).sum() + torch.zeros(len(x))
    losses, norms = ascent_curves(bowl, batches_of(X[..., 0], Y, 10), [10, 10], DISTANCES)
    assert (norms == 0).all()
    np.testing.assert_allclose(losses, np.log(2), rtol=1e-6)


def runs(**rhos):
    found = {}
    for name, rho in rhos.items():
        found[name] = run_of(nn.Linear(1, 2), (3, 4, 4), **({} if rho is None else {"rho": rho}))
        found[name].args["algorithm"] = name
    return found


def test_the_radius_is_that_of_the_runs_or_the_one_that_is_said():
    assert radius(runs(ERM=None, SAM=0.05), None) == 0.05
    assert radius(runs(SAM=0.05, RoGA=0.05), None) == 0.05
    assert radius(runs(SAM=0.05, RoGA=0.1), 0.2) == 0.2
    assert radius(runs(SAM=0.05, ASAM=0.5), None) == 0.05, "ASAM's is in another norm"
    for different in (runs(SAM=0.05, RoGA=0.1), runs(ERM=None), runs(ASAM=0.5), runs(SAM=0)):
        with pytest.raises(RogaError, match="say which, for example --rho"):
            radius(different, None)
