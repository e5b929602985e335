"""LTW against its rule worked by hand for a detector of two weights, and what it does to norms and attention."""

import copy

import numpy as np
import pytest
import torch
from test_algorithms import build, minibatches
from torch import nn

from roga_domainbed.errors import RogaError

ETA, ALPHA, LAMBDA, LR = 0.3, 0.7, 0.2, 0.5


class Detector(nn.Module):
    """Logits (0, w·x) of x in two dimensions."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w, dtype=torch.float64))

    def forward(self, x):
        return torch.stack([torch.zeros(len(x), dtype=x.dtype), x @ self.w], dim=1)


def with_two_weights(w, u):
    """LTW whose features are x, whose detector is w and whose score of a weight is u·x, with gradient descent."""
    ltw = build("LTW", ltw_inner_lr=ETA, ltw_alpha=ALPHA, ltw_lambda=LAMBDA).double()
    ltw.featurizer, ltw.classifier = nn.Identity(), Detector(w)
    ltw.network = nn.Sequential(ltw.featurizer, ltw.classifier)
    ltw.weight_network = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        ltw.weight_network.weight.copy_(torch.tensor([u], dtype=torch.float64))
    ltw.optimizer = torch.optim.SGD(ltw.network.parameters(), lr=LR)
    ltw.weight_optimizer = torch.optim.SGD(ltw.weight_network.parameters(), lr=LR)
    return ltw


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def by_hand(w, u, centre, n_real, train, test):
    """One step in numpy: the derivatives of the logistic loss and of C written out."""
    (x, y), (test_x, test_y) = train, test
    n, p = len(x), sigmoid(x @ w)
    n_new = n_real + (y == 0).sum()
    centre = (centre * n_real + p[y == 0].sum()) / n_new
    sign = np.where(y == 0, 1, -1)
    slope = p * (1 - p)  # of p with respect to w·x
    compact_gradient = (2 * sign * (p - centre) * slope) @ x
    # d/dz [2 (p − c) p (1 − p)] = 2 p² (1 − p)² + 2 (p − c) p (1 − p) (1 − 2p)
    curvature = 2 * sign * (slope**2 + (p - centre) * slope * (1 - 2 * p))

    gradients = (p - y)[:, None] * x  # of each cross-entropy
    s = sigmoid(x @ u)
    inner = ((1 + s) @ gradients) / n + LAMBDA * compact_gradient
    hessian = (x.T * ((1 + s) * slope / n + LAMBDA * curvature)) @ x
    moved = w - ETA * inner
    v = ((sigmoid(test_x @ moved) - test_y) @ test_x) / len(test_x)  # ∇L_T(θ')
    # ∂L_T/∂w_i = −η/N ⟨∇l_i, v⟩, and ∂w_i/∂u = s (1 − s) x_i
    new_u = u - LR * ((-ETA / n) * (gradients @ v) * s * (1 - s)) @ x
    outer = (1 + sigmoid(x @ new_u)) @ gradients / n + LAMBDA * compact_gradient
    new_w = w - LR * (outer + ALPHA * (v - ETA * hessian @ v))
    return new_w, new_u, centre, n_new


def test_two_steps_are_those_worked_by_hand():
    rng = np.random.default_rng(0)
    w, u, centre, n_real = np.array([0.4, -0.7]), np.array([-0.3, 0.8]), 0.0, 0
    ltw = with_two_weights(w.tolist(), u.tolist())
    for step in range(2):
        batches = [(rng.normal(size=(n, 2)), rng.integers(0, 2, n)) for n in (4, 5, 6)]
        torch.manual_seed(step)
        held_out, *rest = torch.randperm(3).tolist()
        train = tuple(np.concatenate([batches[i][part] for i in rest]) for part in (0, 1))
        w, u, centre, n_real = by_hand(w, u, centre, n_real, train, batches[held_out])
        torch.manual_seed(step)
        ltw.update([(torch.from_numpy(x), torch.from_numpy(y)) for x, y in batches])
        assert ltw.classifier.w.detach().numpy() == pytest.approx(w, abs=1e-13)
        assert ltw.weight_network.weight.detach().numpy()[0] == pytest.approx(u, abs=1e-13)
        assert (ltw.real_centre.item(), ltw.n_real.item()) == (pytest.approx(centre, abs=1e-13), n_real)


def test_each_environment_is_held_out_in_its_turn():
    ltw = build("LTW")
    seen = []
    ltw._meta_update = lambda x, y, held_x, held_y: seen.append((len(x), len(held_x))) or {}
    sizes = (2, 3, 5)
    for step in range(30):
        torch.manual_seed(step)
        ltw.update([(torch.zeros(n, 3, 28, 28), torch.zeros(n, dtype=torch.int64)) for n in sizes])
    assert set(seen) == {(8, 2), (7, 3), (5, 5)}


def test_norms_move_once_by_the_meta_train_images():
    ltw = build("LTW", dataset="SynthFake", backbone="meso4")
    before = copy.deepcopy(ltw.network)
    batches = minibatches(n=4, size=64)
    torch.manual_seed(0)
    _, *rest = torch.randperm(3).tolist()
    before(torch.cat([batches[i][0] for i in rest]))
    torch.manual_seed(0)
    ltw.update(batches)
    expected = dict(before.named_buffers())
    buffers = dict(ltw.network.named_buffers())
    assert any(name.endswith("running_mean") for name in buffers)
    for name, buffer in buffers.items():
        torch.testing.assert_close(buffer, expected[name], rtol=0, atol=1e-6)


def test_two_environments_and_attention_will_do():
    torch.manual_seed(0)
    ltw = build("LTW", backbone="vit_tiny_patch16_224", pretrained=False)
    start = [p.detach().clone() for p in ltw.weight_network.parameters()]
    values = ltw.update(
        [(x[:, :, :16, :16].repeat(1, 1, 2, 2)[..., :28, :28], y) for x, y in minibatches(k=2)]
    )
    assert np.isfinite(list(values.values())).all()
    assert any(not torch.equal(a, b) for a, b in zip(start, ltw.weight_network.parameters(), strict=True))


def test_what_it_cannot_train_on_is_named():
    ltw = build("LTW")
    with pytest.raises(RogaError, match=r"LTW needs at least 2 training environments.*got 1"):
        type(ltw)((3, 28, 28), 2, 1, ltw.hparams)
    with pytest.raises(
        RogaError, match="LTW needs at least 2 images for meta-train: set hparams 'batch_size'"
    ):
        ltw.update(minibatches(k=2, n=1))
