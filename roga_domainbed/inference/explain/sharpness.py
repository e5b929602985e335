"""How the loss rises along its gradient, and the sharpness at ρ.

Letters: D environments, T distances, θ the weights, L_e the mean loss of environment e, g_e = ∇L_e(θ).

    curve of e       L_e(θ + t g_e / ‖g_e‖)         0 ≤ t ≤ 2ρ
    pooled           the same of L = 1/D Σ_e L_e, along its own g = 1/D Σ_e g_e
    sharpness        L(θ + ρ g / ‖g‖) − L(θ)

The last is the bracket of Foret et al. (arXiv:2010.01412), max_{‖ε‖ ≤ ρ} L(θ + ε) − L(θ), with the ε that solves the
maximum to first order, their Eq. 2 with p = 2: what SAM looks at. One for each environment at its own ascent point is
what RoGA looks at (arXiv:2505.20653, Eq. 4 and 5).

The loss is cross-entropy on images of the training parts of the environments that a run was trained on, without
augmentation, in evaluation mode: dropout is off and batch norm has its running statistics, so that the loss is a
function of the weights alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from roga_domainbed.catalog import ALGORITHMS
from roga_domainbed.engine.lib.misc import evaluation_mode
from roga_domainbed.errors import Failed, Problems, RogaError
from roga_domainbed.inference.evaluation_sets import EvaluationSet, open_images, own_sets
from roga_domainbed.inference.saved_run import SavedRun
from roga_domainbed.optim.passes import at_point, evaluate
from roga_domainbed.optim.vectors import add_scaled_, global_norm, inverse_or_zero, moved
from roga_domainbed.seeds import generator

POOLED = "pooled"
N_DISTANCES = 9  # from 0 to 2ρ; the middle one is ρ
_CHUNK = 16  # images whose graph is held at once
#: Algorithms whose ρ is a radius in another norm, scaled by the weights.
_SCALED = ("ASAM", "GACFAS")

#: Gives (environment's position, x, y) of every batch, alike in each call.
Batches = Callable[[], Iterable[tuple[int, Tensor, Tensor]]]


@dataclass(frozen=True)
class Curve:
    """The loss along one gradient.

    Attributes:
        name: of the environment, or ``POOLED``.
        n: images.
        losses: (T,) float64 at the distances.
        grad_norm: ‖g‖ at θ.
    """

    name: str
    n: int
    losses: np.ndarray
    grad_norm: float

    @property
    def at_rho(self) -> float:
        """The loss at ρ, the middle of the distances."""
        return float(self.losses[len(self.losses) // 2])

    @property
    def sharpness(self) -> float:
        """By how much the loss at ρ is above that at θ."""
        return self.at_rho - float(self.losses[0])


@dataclass(frozen=True)
class Sharpness:
    """Several runs at one ρ.

    Attributes:
        rho: the radius.
        distances: (T,) from 0 to 2ρ.
        curves: run → its curves, the pooled one first.
        notes: a sentence for each thing worth knowing.
    """

    rho: float
    distances: np.ndarray
    curves: dict[str, list[Curve]]
    notes: list[str]


def radius(runs: Mapping[str, SavedRun], said: float | None) -> float:
    """The ρ for all of ``runs``: the one that is said, else the one that they were trained with.

    Raises:
        RogaError: none of them has one in the L2 norm, or they differ.
    """
    if said is not None:
        return said
    own = {
        name: run.hparams["rho"]
        for name, run in runs.items()
        if isinstance(run.hparams.get("rho"), (int, float)) and run.args.get("algorithm") not in _SCALED
    }
    if len(set(own.values())) == 1 and 0 < (rho := float(next(iter(own.values())))) < math.inf:
        return rho
    had = ", ".join(f"{name} {own.get(name, 'none')}" for name in runs)
    raise RogaError(
        f"runs are compared at one rho, and these were trained with {had}: say which, for example --rho 0.05"
    )


def sharpness(
    runs: Mapping[str, SavedRun],
    rho: float,
    n_samples: int,
    seed: int = 0,
    data_dir: str | None = None,
    n_workers: int = 0,
) -> Sharpness:
    """The curves of every run, each on its own training data; on a terminal, stderr shows a progress bar.

    Args:
        runs: by their names.
        rho: the radius, above 0.
        n_samples: the most images of an environment, drawn at random; equal seeds draw the same.
        seed: of the draw.
        data_dir: where the data is now; None for where each run had it.
        n_workers: readers of images.

    Raises:
        RogaError: data that is missing, an algorithm whose prediction depends on the batch.
        Failed: a loss that is not finite.
    """
    problems = Problems()
    for name, run in runs.items():
        algorithm = run.args.get("algorithm")
        if algorithm in ALGORITHMS and ALGORITHMS.get(algorithm).adapts:
            problems.add(f"{name}: {algorithm} adapts to its batch: its loss is no function of its weights")
    problems.check()
    opened = {name: _training_sets(run, data_dir) for name, run in runs.items()}
    distances = np.linspace(0, 2 * rho, N_DISTANCES)
    curves, notes = {}, []
    drawn = {name: [_drawn(entry, n_samples, seed) for entry in sets] for name, sets in opened.items()}
    total = sum(2 * sum(map(len, parts)) for parts in drawn.values())
    with tqdm(total=total, unit="image", disable=None, leave=False) as bar:
        for name, run in runs.items():
            bar.set_description(name)
            sets, parts = opened[name], drawn[name]
            reader = open_images(run, "sharpness", [entry.environment for entry in sets], n_workers)

            def batches(reader=reader, parts=parts) -> Iterator[tuple[int, Tensor, Tensor]]:
                for place, x, y in reader.evaluation(list(enumerate(parts))):
                    yield place, x, y
                    bar.update(len(y))

            losses, norms = ascent_curves(run.algorithm, batches, [len(part) for part in parts], distances)
            _require_finite(name, losses, norms)
            names = [POOLED, *(entry.env_name for entry in sets)]
            counts = [sum(map(len, parts)), *map(len, parts)]
            curves[name] = list(map(Curve, names, counts, losses, norms.tolist()))
            notes += _notes(name, run, norms)
    envs = {tuple(entry.env_name for entry in sets) for sets in opened.values()}
    if len(envs) > 1:
        notes.append(
            "the runs were trained on different environments: their pooled losses are of different images"
        )
    return Sharpness(rho, distances, curves, notes)


def ascent_curves(
    algorithm: torch.nn.Module, batches: Batches, counts: Sequence[int], distances: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """The losses along the ascent directions. Weights and modes are afterwards what they were, bit for bit.

    Two passes over the images: one for the gradients, one in which each batch is scored at all points. Memory: D + 2
    copies of the weights, and the graph of a few images.

    Args:
        algorithm: its ``predict`` gives logits.
        batches: the images; called twice.
        counts: D numbers of images.
        distances: T of them; the first is 0.

    Returns:
        (D + 1, T) float64 losses and (D + 1,) gradient norms, the pooled ones first.
    """
    with evaluation_mode(algorithm), _all_trainable(algorithm) as (every, trained):
        grads, reached = _gradients(algorithm, every, batches, counts)
        # An averaged network, which predicts and was not trained itself, is moved as a whole.
        kept = [place for place in reached if trained[place]] or reached
        params, grads = [every[place] for place in kept], [[of[place] for place in kept] for of in grads]
        pooled = [sum(of_envs) / len(counts) for of_envs in zip(*grads, strict=True)]
        directions = [pooled, *grads]
        norms = [global_norm(direction) for direction in directions]
        scales = [inverse_or_zero(norm) for norm in norms]
        sums = np.zeros((2, len(counts), len(distances)))  # along the pooled direction, and along its own
        with torch.no_grad():
            for env, x, y in batches():
                sums[:, env, 0] += _summed(algorithm, x, y).item()
                for row, which in enumerate((0, env + 1)):
                    for column, t in enumerate(distances[1:], 1):
                        point = moved(params, directions[which], scales[which] * t)
                        with at_point(params, point):
                            sums[row, env, column] += _summed(algorithm, x, y).item()
    means = sums / np.asarray(counts, float)[:, None]
    return np.vstack([means[0].mean(0), means[1]]), np.array([float(norm) for norm in norms])


def _gradients(
    algorithm: torch.nn.Module, params: list[Tensor], batches: Batches, counts: Sequence[int]
) -> tuple[list[list[Tensor]], list[int]]:
    """The gradient of each environment's mean loss, and the places of the parameters that the loss depends on."""
    grads = [[torch.zeros_like(p) for p in params] for _ in counts]
    reached: set[int] = set()
    for env, x, y in batches():
        for x_part, y_part in zip(x.split(_CHUNK), y.split(_CHUNK), strict=True):
            found = evaluate(lambda x=x_part, y=y_part: _summed(algorithm, x, y), params)
            add_scaled_(grads[env], found.grads, found.loss.new_tensor(1 / counts[env]))
            reached.update(place for place, is_reached in enumerate(found.reached) if is_reached)
    return grads, sorted(reached)


def _summed(algorithm: torch.nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The cross-entropy of a batch, summed; a single logit is that of class 1 against 0."""
    logits = algorithm.predict(x).float().reshape(len(y), -1)
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], 1)
    return F.cross_entropy(logits, y, reduction="sum")


@contextmanager
def _all_trainable(algorithm: torch.nn.Module) -> Iterator[tuple[list[Tensor], list[bool]]]:
    """Inside, every parameter asks for its gradient; gives them, and whether each did so before."""
    every = [p for p in algorithm.parameters() if p.is_floating_point()]
    asked = [p.requires_grad for p in every]
    try:
        for p in every:
            p.requires_grad_(True)
        yield every, asked
    finally:
        for p, was in zip(every, asked, strict=True):
            p.requires_grad_(was)


def _training_sets(run: SavedRun, data_dir: str | None) -> list[EvaluationSet]:
    """What ``run`` was trained on, an entry an environment."""
    return [entry for entry in own_sets(run, data_dir).sets if entry.role == "training"]


def _drawn(entry: EvaluationSet, n: int, seed: int) -> list[int]:
    """At most ``n`` of the indices, each as likely as any other."""
    indices = list(entry.indices)
    if len(indices) <= n:
        return indices
    chosen = generator(seed, "sharpness", entry.env).choice(len(indices), n, replace=False)
    return [indices[place] for place in np.sort(chosen).tolist()]


def _require_finite(name: str, losses: np.ndarray, norms: np.ndarray) -> None:
    if not (np.isfinite(losses[:, 0]).all() and np.isfinite(norms).all()):
        raise Failed(f"{name}: the loss of its training images, or its gradient, is NaN or infinite")


def _notes(name: str, run: SavedRun, norms: np.ndarray) -> list[str]:
    notes = []
    if run.config.label_noise:
        notes.append(f"{name} was trained with label noise; these are losses of the true labels")
    if (norms == 0).any():
        notes.append(f"{name}: a gradient is zero, so there is nothing to ascend along")
    return notes
