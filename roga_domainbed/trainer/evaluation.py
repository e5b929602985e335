"""Scores of every environment's splits, and the record keys made from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from roga_domainbed.catalog import ALGORITHMS
from roga_domainbed.engine.lib.misc import evaluation_mode
from roga_domainbed.input.environment import Environment
from roga_domainbed.input.path import InputPath
from roga_domainbed.metrics.split import SplitScores, split_metrics
from roga_domainbed.seeds import generator
from roga_domainbed.trainer.experiment import Experiment


@dataclass
class EvaluatedSplit:
    """One part of one environment, scored.

    Attributes:
        env: the environment's index.
        env_name: its name.
        part: ``in``, ``out`` or ``uda``, as the record keys name it.
        environment: where its samples are.
        scores: of the network, for each sample.
    """

    env: int
    env_name: str
    part: str
    environment: Environment
    scores: SplitScores


def evaluate(experiment: Experiment, complete: bool = True) -> list[EvaluatedSplit]:
    """Score the splits of every environment, in one pass over the data.

    Args:
        experiment: the run; ``--eval_max_per_env`` and ``--eval_parts`` of its arguments may leave samples out.
        complete: score everything nevertheless, as for a run's last record.
    """
    parts = [
        (env, part, indices if complete else _subset(experiment, env, part, indices))
        for env, split in enumerate(experiment.splits)
        for part, indices in split.named()
        if complete or _is_needed(experiment, env, part)
    ]
    with experiment.autocast():
        scored = score_parts(
            experiment.algorithm,
            experiment.dataset.environments,
            experiment.input,
            [(env, indices) for env, _, indices in parts],
        )
    return [
        EvaluatedSplit(env, experiment.names[env], part, experiment.dataset[env], scores)
        for (env, part, _), scores in zip(parts, scored, strict=True)
    ]


def score_parts(
    algorithm: Any,
    environments: Sequence[Environment],
    input_path: InputPath,
    parts: Sequence[tuple[int, Sequence[int]]],
) -> list[SplitScores]:
    """Score parts of ``environments``, in one pass over the data, without augmentation.

    An algorithm that adapts to its batch gets each part in a fixed random order. Many splits have all samples of a
    class one after another: batches of one class would tell such an algorithm the answer.

    Args:
        algorithm: a trained or a learning one.
        environments: where the samples are.
        input_path: reads them.
        parts: (position among ``environments``, indices).
    """
    orders = [_order(algorithm, len(indices)) for _, indices in parts]
    ordered = [
        (env, [indices[k] for k in order]) for (env, indices), order in zip(parts, orders, strict=True)
    ]
    scored = predict(algorithm, input_path.evaluation(ordered), len(parts))
    return [
        split_scores(logits[back], labels[back], environments[env], indices)
        for (env, indices), (logits, labels), back in zip(parts, scored, map(np.argsort, orders), strict=True)
    ]


def adapts(algorithm: Any) -> bool:
    """Whether the predictions of ``algorithm`` depend on the batch."""
    name = type(algorithm).__name__
    return name in ALGORITHMS and ALGORITHMS.get(name).adapts


def _order(algorithm: Any, n: int) -> np.ndarray:
    """The order in which ``algorithm`` gets the ``n`` samples of a part."""
    if adapts(algorithm):
        return generator(0, "order of evaluation", n).permutation(n)
    return np.arange(n)


def _is_needed(experiment: Experiment, env: int, part: str) -> bool:
    """Whether a selection rule or a table reads the part: all but what is trained on."""
    everything = experiment.config.eval_parts == "all"
    return everything or part != "in" or env in experiment.config.test_envs


def _subset(experiment: Experiment, env: int, part: str, indices: Sequence[int]) -> Sequence[int]:
    """At most ``--eval_max_per_env`` of the indices: the same at every record and in every job of a trial."""
    most = experiment.config.eval_max_per_env
    if most is None or len(indices) <= most:
        return indices
    rng = generator(experiment.config.trial_seed, "evaluation subset", env, part)
    chosen = np.sort(rng.choice(len(indices), most, replace=False))
    return [indices[k] for k in chosen.tolist()]


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


def validation_splits(evaluated: Sequence[EvaluatedSplit], train_envs: Sequence[int]) -> list[EvaluatedSplit]:
    """The out-splits of ``train_envs``: what selection looks at, and no test environment."""
    return [split for split in evaluated if split.part == "out" and split.env in train_envs]


def validation_loss(evaluated: Sequence[EvaluatedSplit], train_envs: Sequence[int]) -> float:
    """The mean cross-entropy of the out-splits of ``train_envs``, one environment as much as another."""
    losses = []
    for split in validation_splits(evaluated, train_envs):
        probabilities, labels = split.scores.probabilities, split.scores.labels
        of_label = probabilities[np.arange(len(labels)), labels]
        # a probability that rounds to 0 has a large loss, not an infinite one
        losses.append(-np.log(np.maximum(of_label, np.finfo(of_label.dtype).tiny), dtype=float).mean())
    return float(np.mean(losses))


@torch.inference_mode()
def predict(
    algorithm: Any, batches: Iterable[tuple[int, Tensor, Tensor]], n_parts: int
) -> list[tuple[Tensor, np.ndarray]]:
    """(logits, labels) of each part from batches of (part, x, y), in evaluation mode."""
    logits: list[list[Tensor]] = [[] for _ in range(n_parts)]
    labels: list[list[Tensor]] = [[] for _ in range(n_parts)]
    with evaluation_mode(algorithm):
        for part, x, y in batches:
            # stays on the device until all batches are on their way
            logits[part].append(algorithm.predict(x).float().reshape(len(y), -1))
            labels[part].append(y)
    return [
        (torch.cat(of_part).cpu(), torch.cat(labels[part]).cpu().numpy())
        for part, of_part in enumerate(logits)
    ]


def split_scores(
    logits: Tensor, labels: np.ndarray, environment: Environment, indices: Sequence[int]
) -> SplitScores:
    """The scores of the samples ``indices`` of ``environment``, from their (N, C) ``logits``."""
    predicted, probabilities = decide(logits)
    return SplitScores(
        labels=labels,
        predicted=predicted,
        probabilities=probabilities,
        indices=indices,
        videos=None if environment.videos is None else [environment.videos[i] for i in indices],
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
