"""CORE against its rule worked by hand for a detector of two weights, and its views against what they must be."""

import numpy as np
import pytest
import torch
from test_algorithms import HOST, build
from torch import nn

from roga_domainbed.algorithms import core
from roga_domainbed.errors import RogaError

ALPHA, LR = 3.0, 0.1


class Scaled(nn.Module):
    """Features (a x_0, b x_1) of images of two pixels."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([0.8, -0.5], dtype=torch.float64))

    def forward(self, x):
        return x.flatten(1) * self.weights


class Summed(nn.Module):
    """Logits (0, f_0 + f_1)."""

    def forward(self, features):
        return torch.stack([torch.zeros(len(features), dtype=features.dtype), features.sum(1)], dim=1)


def loss_by_hand(weights, first, second, y):
    total = 0.0
    for v, v2, label in zip(first, second, y, strict=True):
        f, f2 = v * weights, v2 * weights
        for features in (f, f2):
            z = features.sum()
            total += (np.log1p(np.exp(z)) - label * z) / (2 * len(y))
        cosine = f @ f2 / (np.sqrt(f @ f) * np.sqrt(f2 @ f2))
        total += ALPHA * (1 - cosine) ** 2 / len(y)
    return total


def test_a_step_is_that_of_the_loss_written_out(monkeypatch):
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 5, 2))
    y = np.array([0, 1, 1, 0, 1])
    views = iter(torch.from_numpy(v).view(5, 1, 1, 2) for v in (first, second))
    monkeypatch.setattr(core, "view", lambda x: next(views))
    algorithm = build("CORE", core_alpha=ALPHA).double()
    algorithm.featurizer, algorithm.classifier = Scaled(), Summed()
    algorithm.optimizer = torch.optim.SGD(algorithm.featurizer.parameters(), lr=LR)
    x = torch.zeros(5, 1, 1, 2, dtype=torch.float64)
    labels = torch.from_numpy(y)
    values = algorithm.update([(x[:2], labels[:2]), (x[2:], labels[2:])])

    weights, h = np.array([0.8, -0.5]), 1e-6
    slopes = [
        (loss_by_hand(weights + d, first, second, y) - loss_by_hand(weights - d, first, second, y)) / (2 * h)
        for d in h * np.eye(2)
    ]
    assert values["loss"] == pytest.approx(loss_by_hand(weights, first, second, y), abs=1e-12)
    assert values["loss"] == pytest.approx(values["nll"] + ALPHA * values["inconsistency"], abs=1e-12)
    stepped = algorithm.featurizer.weights.detach().numpy()
    assert stepped == pytest.approx(weights - LR * np.array(slopes), abs=1e-8)


def test_the_disagreement_is_that_of_the_angles():
    # Cosines 0, 1 and −1: (1 + 0 + 4) / 3.
    first = torch.tensor([[1.0, 0.0], [1.0, 1.0], [2.0, 0.0]])
    second = torch.tensor([[0.0, 3.0], [5.0, 5.0], [-1.0, 0.0]])
    assert core.disagreement(first, second).item() == pytest.approx(5 / 3, abs=1e-6)


def test_a_view_is_mirrored_at_random_and_whole_erased_or_cut_a_third_each():
    side, n = 40, 900
    columns = torch.arange(1.0, side + 1).expand(
        3, side, side
    )  # never 0, and cut values lie between two columns
    torch.manual_seed(0)
    views = core.view(columns.expand(n, -1, -1, -1))
    assert views.shape == (n, 3, side, side)
    erased = (views == 0).all(1).float().mean((1, 2))
    rows = views[:, 0].amax(1)  # an erased rectangle has at most a 0.6 of the height
    mirrored = rows[:, 0] > rows[:, -1]
    whole = torch.where(mirrored[:, None], rows.flip(1), rows).eq(columns[0, 0]).all(1)
    is_erased = erased > 0
    assert (whole & ~is_erased).float().mean().item() == pytest.approx(1 / 3, abs=0.06)
    assert is_erased.float().mean().item() == pytest.approx(1 / 3, abs=0.06)
    assert mirrored.float().mean().item() == pytest.approx(1 / 2, abs=0.06)
    # Of the area a fiftieth to a fifth, up to the rounding of the sides to pixels.
    assert 0.015 < erased[is_erased].min() < 0.03
    assert 0.17 < erased[is_erased].max() < 0.22
    # A cut has at least 1/1.3 of the area and sides of ratio at most 1.1.
    cut = rows[~whole]
    kept = (cut.amax(1) - cut.amin(1) + 1) / side
    assert 0.82 < kept.min() < kept.max() <= 1
    assert not (views[~whole] == 0).any()


def test_two_views_of_an_image_differ_and_the_image_stays():
    x = torch.rand(6, 3, 28, 28)
    before = x.clone()
    torch.manual_seed(0)
    first, second = core.view(x), core.view(x)
    torch.manual_seed(0)
    assert torch.equal(first, core.view(x))
    assert not torch.equal(first, second)
    assert torch.equal(x, before)


def test_vectors_have_no_views():
    with pytest.raises(RogaError, match=r"CORE augments images .* this dataset has \(8,\)"):
        core.CORE((8,), 2, 3, build("CORE").hparams)


@pytest.mark.parametrize(("dataset", "alpha"), [("FFPP", 100.0), ("SynthFake", 1.0)])
def test_its_weight_fits_the_start_of_the_network(dataset, alpha):
    assert HOST.hparams_registry.default_hparams("CORE", dataset)["core_alpha"] == alpha
