"""The head: features to logits."""

from __future__ import annotations

from torch import nn


def Classifier(in_features: int, out_features: int, is_nonlinear: bool = False) -> nn.Module:
    """A linear layer, or three with ReLUs that halve the width twice.

    Args:
        in_features: the featurizer's ``n_outputs``; at least 4 for the nonlinear head.
        out_features: number of classes.
        is_nonlinear: ``hparams['nonlinear_classifier']``.
    """
    if not is_nonlinear:
        return nn.Linear(in_features, out_features)
    return nn.Sequential(
        nn.Linear(in_features, in_features // 2),
        nn.ReLU(),
        nn.Linear(in_features // 2, in_features // 4),
        nn.ReLU(),
        nn.Linear(in_features // 4, out_features),
    )
