"""Scores of every environment's splits, and the record keys made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from roga_domainbed.engine.lib.misc import evaluation_mode
from roga_domainbed.metrics.split import SplitScores, split_metrics
from roga_domainbed.trainer.experiment import Experiment
from roga_domainbed.trainer.minibatches import sequential_batches

BATCH_SIZE = 64


@dataclass
class EvaluatedSplit:
    """One part of one environment, scored.

    Attributes:
        env: the environment's index.
        env_name: its name.
        part: ``in``, ``out`` or ``uda``, as the record keys name it.
        environment: where its samples are.
        scores: what the network says of it.
    """

    env: int
    env_name: str
    part: str
    environment: Any
    scores: SplitScores


def evaluate(experiment: Experiment) -> list[EvaluatedSplit]:
    """Score every split of every environment."""
    return [
        EvaluatedSplit(
            env,
            experiment.names[env],
            part,
            experiment.dataset[env],
            score_split(
                experiment.algorithm,
                experiment.dataset[env],
                indices,
                seed=experiment.config.seed,
                n_workers=experiment.n_workers,
                device=experiment.device,
            ),
        )
        for env, split in enumerate(experiment.splits)
        for part, indices in split.named()
    ]


def record_values(evaluated: Sequence[EvaluatedSplit]) -> dict[str, Any]:
    """Record keys of all splits, ``env0_in_acc`` …, and ``why_null`` where one is None."""
    values: dict[str, Any] = {}
    why_null: dict[str, str] = {}
    for split in evaluated:
        metrics = split_metrics(split.scores)
        prefix = f"env{split.env}_{split.part}_"
        values.update({prefix + name: value for name, value in metrics.values.items()})
        why_null.update({prefix + name: reason for name, reason in metrics.why_null.items()})
    if why_null:
        values["why_null"] = why_null
    return values


@torch.inference_mode()
def score_split(
    algorithm: Any,
    environment: Any,
    indices: Sequence[int],
    *,
    seed: int,
    n_workers: int,
    device: torch.device,
) -> SplitScores:
    """Run ``algorithm.predict`` over ``indices`` of ``environment`` in evaluation mode, without augmentation.

    A dataset that has no view without augmentation (upstream's image folders) is read as it is.
    """
    view = getattr(environment, "evaluation", environment)
    logits, labels = [], []
    with evaluation_mode(algorithm):
        for x, y in sequential_batches(
            view, indices, seed=seed, batch_size=BATCH_SIZE, n_workers=n_workers, device=device
        ):
            logits.append(algorithm.predict(x).float().reshape(len(y), -1).cpu())
            labels.append(y.cpu())
    return split_scores(torch.cat(logits), torch.cat(labels).numpy(), environment, indices)


def split_scores(
    logits: torch.Tensor, labels: np.ndarray, environment: Any, indices: Sequence[int]
) -> SplitScores:
    """What (N, C) ``logits`` say of the samples ``indices`` of ``environment``."""
    predicted, probabilities = decide(logits)
    videos = getattr(environment, "videos", None)
    return SplitScores(
        labels=labels,
        predicted=predicted,
        probabilities=probabilities,
        indices=indices,
        videos=None if videos is None else [videos[i] for i in indices],
    )


def decide(logits: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(N,) classes and (N, C) probabilities of (N, C) logits; a single logit's sign is the class of two.

    Probabilities of two classes are float64: float32 has ties among the confident that the logits do not have.
    """
    if logits.shape[1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    probabilities = torch.softmax(logits.double(), 1)
    if logits.shape[1] > 2:
        probabilities = probabilities.float()
    return logits.argmax(1).numpy(), probabilities.numpy()
