"""Scores of an environment's split, and the record keys made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from roga_domainbed.engine.lib.misc import evaluation_mode
from roga_domainbed.metrics.binary import auc, average_precision, eer
from roga_domainbed.metrics.video import video_scores
from roga_domainbed.trainer.experiment import Experiment
from roga_domainbed.trainer.minibatches import sequential_batches

BATCH_SIZE = 64


def evaluate(experiment: Experiment) -> dict[str, Any]:
    """Record keys of every split of every environment, ``env0_in_acc`` …, and ``why_null`` where one is None."""
    values: dict[str, Any] = {}
    why_null: dict[str, str] = {}
    for env, split in enumerate(experiment.splits):
        for part, indices in split.named():
            scores = score_split(
                experiment.algorithm,
                experiment.dataset[env],
                indices,
                seed=experiment.config.seed,
                n_workers=experiment.n_workers,
                device=experiment.device,
            )
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
            logits.append(algorithm.predict(x).float().cpu())
            labels.append(y.cpu())
    stacked = torch.cat(logits)
    if stacked.shape[1] == 1:  # a single logit: its sign is the class
        stacked = torch.cat([torch.zeros_like(stacked), stacked], dim=1)
    binary = stacked.shape[1] == 2
    videos = getattr(environment, "videos", None)
    return SplitScores(
        labels=torch.cat(labels).numpy(),
        predicted=stacked.argmax(1).numpy(),
        fake=torch.softmax(stacked.double(), 1)[:, 1].numpy() if binary else None,
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
