"""Algorithms whose predictions depend on the batch get mixed batches, and their scores come back in order."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from roga_domainbed.trainer.evaluation import score_parts

LABELS = [0] * 40 + [1] * 40  # as many splits have them: one class after the other
BATCH = 16


class Reader:
    """Inputs are the samples' numbers."""

    def __init__(self):
        self.classes = []

    def evaluation(self, parts):
        for position, (_, indices) in enumerate(parts):
            for start in range(0, len(indices), BATCH):
                batch = list(indices[start : start + BATCH])
                y = torch.tensor([LABELS[i] for i in batch])
                self.classes.append(set(y.tolist()))
                yield position, torch.tensor(batch, dtype=torch.float32)[:, None], y


def scored(name):
    """Scores of two parts by a class of that name, whose logit is the sample's number / 100; and the batches."""

    def predict(self, x):
        return torch.cat([torch.zeros_like(x), x / 100], 1)

    algorithm = type(name, (nn.Module,), {"predict": predict})()
    reader, environment = Reader(), SimpleNamespace(videos=None)
    parts = [(0, list(range(80))), (1, list(range(10, 70)))]
    return score_parts(algorithm, [environment] * 2, reader, parts), parts, reader.classes


@pytest.mark.parametrize("name", ["MTL", "ARM", "ERM"])
def test_scores_are_those_of_the_indices_whatever_the_order_of_the_batches(name):
    scores, parts, _ = scored(name)
    for of_part, (_, indices) in zip(scores, parts, strict=True):
        assert of_part.labels.tolist() == [LABELS[i] for i in indices]
        fake = 1 / (1 + np.exp(-np.array(indices) / 100))
        np.testing.assert_allclose(of_part.probabilities[:, 1], fake, rtol=1e-6)


@pytest.mark.parametrize(("name", "mixed"), [("MTL", True), ("ARM", True), ("ERM", False)])
def test_batches_have_both_classes_where_a_prediction_depends_on_its_batch(name, mixed):
    _, _, classes = scored(name)
    assert all(found == {0, 1} for found in classes) == mixed
