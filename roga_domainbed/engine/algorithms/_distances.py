"""Distances between two samples of features, (N, D) and (M, D): differentiable, scalar, 0 for equal samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch

#: Inverse widths of the Gaussian kernels. Their sum works for features of any scale.
GAMMAS = (0.001, 0.01, 0.1, 1, 10, 100, 1000)


def mean_and_covariance_distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of the means, plus that of the covariances.

    The latter is equation 1 of deep CORAL (arXiv:1607.01719) without its factor 1/4.
    """
    means = (x.mean(0) - y.mean(0)).pow(2).mean()
    covariances = (covariance(x) - covariance(y)).pow(2).mean()
    return means + covariances


def covariance(x: torch.Tensor) -> torch.Tensor:
    """(D, D) sample covariance of the rows of ``x``, which are at least two."""
    centred = x - x.mean(0)
    return centred.T @ centred / (len(x) - 1)


def maximum_mean_discrepancy(
    x: torch.Tensor, y: torch.Tensor, gammas: Sequence[float] = GAMMAS
) -> torch.Tensor:
    """Squared MMD, biased estimate (Gretton et al., JMLR 2012, equation 5), with the kernel of ``gaussian_kernel``."""
    within = gaussian_kernel(x, x, gammas).mean() + gaussian_kernel(y, y, gammas).mean()
    return within - 2 * gaussian_kernel(x, y, gammas).mean()


def gaussian_kernel(x: torch.Tensor, y: torch.Tensor, gammas: Sequence[float] = GAMMAS) -> torch.Tensor:
    """(N, M) sum over ``gammas`` of exp(−γ |x_i − y_j|²)."""
    squared = squared_distances(x, y)
    return sum(torch.exp(-gamma * squared) for gamma in gammas)


def squared_distances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """(N, M) squared Euclidean distances, without the (N, M, D) differences, which would take too much memory."""
    products = x.pow(2).sum(1)[:, None] + y.pow(2).sum(1) - 2 * x @ y.T
    return products.clamp_min(1e-30)  # rounding can make it negative
