"""Scores of an environment's split, and the record keys made from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from roga_domainbed.engine.lib.misc import evaluation_mode
from roga_domainbed.metrics.binary import auc, average_precision, eer
from roga_domainbed.metrics.video import video_scores
from roga_domainbed.trainer.experiment import Experiment
from roga_domainbed.trainer.minibatches import sequential_batches


def evaluate(experiment: Experiment) -> dict[str, Any]:
    """Record keys of every split of every environment, ``env0_in_acc`` …, and ``why_null`` where one is None."""
    values: dict[str, Any] = {}
    why_null: dict[str, str] = {}
    parts = [
        (env, part, indices) for env, split in enumerate(experiment.splits) for part, indices in split.named()
    ]
    batches = experiment.input.evaluation([(env, indices) for env, _, indices in parts])
    logits_and_labels = predict(experiment.algorithm, batches, len(parts))
    for (env, part, indices), (logits, labels) in zip(parts, logits_and_labels, strict=True):
        scores = split_scores(logits, labels, experiment.dataset[env], indices)
        metrics = split_metrics(scores)
        prefix = f"env{env}_{part}_"
        values.update({prefix + name: value for name, value in metrics.values.items()})
        why_null.update({prefix + name: reason for name, reason in metrics.why_null.items()})
    if why_null:
        values["why_null"] = why_null
    return values


@dataclass
class SplitScores:
    """What a network says of one split.

    Attributes:
        labels: (N,) int.
        predicted: (N,) int, the class with the largest logit.
        fake: (N,) probability of class 1; None unless the task is binary.
        videos: N keys; None where the dataset knows no videos.
    """

    labels: np.ndarray
    predicted: np.ndarray
    fake: np.ndarray | None
    videos: list[str] | None


def score_split(
    algorithm: Any,
    environment: Any,
    indices: Sequence[int],
    *,
    seed: int,
    n_workers: int,
    device: torch.device,
) -> SplitScores:
    """Scores of ``indices`` of one environment, read by its own code, without augmentation where it can be."""
    batches = sequential_batches(
        environment, indices, seed=seed, batch_size=64, n_workers=n_workers, device=device
    )
    ((logits, labels),) = predict(algorithm, ((0, x, y) for x, y in batches), 1)
    return split_scores(logits, labels, environment, indices)


@torch.inference_mode()
def predict(
    algorithm: Any, batches: Iterable[tuple[int, Tensor, Tensor]], n_parts: int
) -> list[tuple[Tensor, np.ndarray]]:
    """(logits, labels) of each part, from (part, x, y) batches, in evaluation mode."""
    logits: list[list[Tensor]] = [[] for _ in range(n_parts)]
    labels: list[list[Tensor]] = [[] for _ in range(n_parts)]
    with evaluation_mode(algorithm):
        for part, x, y in batches:
            logits[part].append(algorithm.predict(x).float())  # stays on the device until all are queued
            labels[part].append(y)
    return [
        (torch.cat(part_logits).cpu(), torch.cat(part_labels).cpu().numpy())
        for part_logits, part_labels in zip(logits, labels, strict=True)
    ]


def split_scores(logits: Tensor, labels: np.ndarray, environment: Any, indices: Sequence[int]) -> SplitScores:
    """What (N, C) ``logits`` say of the samples ``indices`` of ``environment``."""
    if logits.shape[1] == 1:  # a single logit: its sign is the class
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    binary = logits.shape[1] == 2
    videos = getattr(environment, "videos", None)
    return SplitScores(
        labels=labels,
        predicted=logits.argmax(1).numpy(),
        fake=torch.softmax(logits.double(), 1)[:, 1].numpy() if binary else None,
        videos=None if videos is None else [videos[i] for i in indices],
    )


@dataclass
class SplitMetrics:
    """Record keys of one split, without their prefix.

    Attributes:
        values: metric → number, or None where it has no value.
        why_null: metric → the reason it has none.
    """

    values: dict[str, float | int | None] = field(default_factory=dict)
    why_null: dict[str, str] = field(default_factory=dict)


_BINARY = {"auc": auc, "ap": average_precision, "eer": eer}


def split_metrics(scores: SplitScores) -> SplitMetrics:
    """Accuracy and the number of samples; for a binary task AUC, AP and EER of frames, and of videos if known."""
    metrics = SplitMetrics()
    metrics.values["acc"] = float((scores.predicted == scores.labels).mean())
    metrics.values["n"] = len(scores.labels)
    if scores.fake is None:
        return metrics
    levels = {"": (scores.fake, scores.labels)}
    if scores.videos is not None:
        levels["video_"] = video_scores(scores.fake, scores.labels, scores.videos)
        metrics.values["video_n"] = len(levels["video_"][1])
    for level, (fake, labels) in levels.items():
        for name, metric in _BINARY.items():
            try:
                metrics.values[level + name] = metric(fake, labels)
            except ValueError as error:
                metrics.values[level + name] = None
                metrics.why_null[level + name] = str(error)
    return metrics
