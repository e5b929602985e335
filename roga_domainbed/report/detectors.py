"""The metrics of detectors whose scores are in files, with 95 % intervals, side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from roga_domainbed.errors import Problems, unknown_name
from roga_domainbed.foreign import one_line
from roga_domainbed.metrics import METRICS, Metric
from roga_domainbed.metrics.split import SplitScores, split_metrics
from roga_domainbed.metrics.video import video_scores
from roga_domainbed.report.intervals import OVER
from roga_domainbed.report.score_files import ScoredPart, ScoreFile
from roga_domainbed.results.csv_table import csv_table
from roga_domainbed.results.statistics import roc_intervals
from roga_domainbed.results.text_table import text_table

TOGETHER = "together"  # the row of all environments of a file
INTERVALS = ("auc", "eer")  # metrics that have one
LEVELS = {"frame": "", "video": "video_"}  # level → prefix of its metrics

_OF_PROBABILITIES = ("acc", "balanced_acc", "log_loss", "ece")
_NOT_METRICS = ("detector", "env_name", "level", "over", "why_null")


@dataclass
class DetectorMetrics:
    """What the files say of their detectors.

    Attributes:
        files: the detectors.
        rows: one row of metrics an environment, level and detector, as plain values. ``auc_low`` … are the limits of
            the 95 % intervals, and ``over`` says what they are over.
        notes: a sentence for each thing worth knowing.
    """

    files: list[ScoreFile]
    rows: list[dict[str, Any]]
    notes: list[str]

    def as_json(self) -> str:
        """Everything, as one JSON object."""
        content = {
            "detectors": {file.name: file.path for file in self.files},
            "results": self.rows,
            "notes": self.notes,
        }
        return json.dumps(content, indent=1) + "\n"

    def as_csv(self) -> str:
        """The rows; the notes are left out."""
        return csv_table(self.rows, without=("why_null",))

    def as_text(self) -> str:
        """A table of AUC and EER with their intervals, one of the other metrics, notes, and why values are missing."""
        first = ["", "", "detector", "n", "auc", "95 % interval", "eer", "95 % interval"]
        others = other_metrics()
        second = ["", "", "detector", *(metric.heading for metric in others)]
        tables: tuple[list[list[str]], ...] = [first], [second]
        before: tuple[str, str] = "", ""
        for row in self.rows:
            place = row["env_name"], row["level"]
            names = [
                "" if place[0] == before[0] else place[0],
                "" if place == before else place[1],
                row["detector"],
            ]
            names = list(map(one_line, names))
            ends = [(METRICS.get(name).text(row[name]), interval_text(row, name)) for name in INTERVALS]
            tables[0].append([*names, str(row["n"]), *(cell for pair in ends for cell in pair)])
            tables[1].append([*names, *(metric.text(row[metric.name]) for metric in others)])
            before = place
        head = "".join(f"{one_line(file.name)}: {one_line(file.path)}\n" for file in self.files)
        parts = [head + "in %, log_loss in nats\n", *(text_table(table, n_left=3) for table in tables)]
        notes = "".join(f"{one_line(note)}\n" for note in [*self.notes, *self.missing_values()])
        return "\n".join([*parts, *([notes] if notes else [])])

    def missing_values(self) -> list[str]:
        """A sentence for each reason why values are missing, with where."""
        where: dict[tuple[str, str], list[str]] = {}
        for row in self.rows:
            by_reason: dict[str, list[str]] = {}
            for name, reason in row["why_null"].items():
                by_reason.setdefault(reason, []).append(name)
            for reason, names in by_reason.items():
                place = f"{row['detector']} on {row['env_name']}, {row['level']} level"
                where.setdefault((", ".join(names), reason), []).append(place)
        return [
            f"{places[0]}{f' and {len(places) - 1} more' * (len(places) > 1)}: no {names}: {reason}"
            for (names, reason), places in where.items()
        ]


def evaluate_files(files: Sequence[ScoreFile], envs: Sequence[str] | None = None) -> DetectorMetrics:
    """The metrics of every environment of every file, and of a file's environments together.

    Args:
        files: from ``read_score_files``.
        envs: names of environments; None for all.

    Raises:
        RogaError: no file has an environment of such a name.
    """
    files = _with_environments(files, envs)
    names = list(dict.fromkeys(env for file in files for env in file.parts))
    rows, notes = [], [f"{file.name}: {note}" for file in files for note in file.notes]
    for env in [*names, TOGETHER]:
        of_env = []
        for file in files:
            if env in file.parts:
                of_env.append((file.name, part_rows(file.parts[env], file.outside)))
            elif env == TOGETHER and len(file.parts) > 1 and not file.has_splits:
                of_env.append((file.name, part_rows(together(file), file.outside)))
        rows += [
            {"detector": name, "env_name": env, **levels[level]}
            for level in LEVELS
            for name, levels in of_env
            if level in levels
        ]
    over = dict.fromkeys(row["over"] for row in rows if row["over"])
    notes += [f"95 % interval over {what}: {OVER[what]}" for what in over]
    return DetectorMetrics(list(files), rows, [*notes, *_unlike(files, names), *_reversed(rows)])


def part_rows(part: ScoredPart, outside: str) -> dict[str, dict[str, Any]]:
    """Level → the metrics of some samples, with intervals.

    Args:
        part: the samples.
        outside: why the scores are no probabilities; empty if they may be.
    """
    probabilities = np.column_stack([1 - part.scores, part.scores])
    predicted = (part.scores > 0.5).astype(int)
    scores = SplitScores(part.labels, predicted, probabilities, range(len(part.labels)), part.videos)
    found = split_metrics(scores)
    rows = {}
    for level, prefix in LEVELS.items():
        if f"{prefix}n" not in found.values:
            continue
        row = {"level": level, "n": found.values[f"{prefix}n"]}
        why = {}
        for metric in _metrics():
            row[metric.name] = found.values[prefix + metric.name]
            if prefix + metric.name in found.why_null:
                why[metric.name] = found.why_null[prefix + metric.name]
            if outside and metric.name in _OF_PROBABILITIES:
                row[metric.name], why[metric.name] = None, outside
        limits, reason = _intervals(part, level)
        for name in INTERVALS:
            row[f"{name}_low"], row[f"{name}_high"] = limits.get(name, (None, None))
            if reason and row[name] is not None:
                why[f"interval of {name}"] = reason
        row["over"] = "" if not limits else "samples" if part.videos is None else "videos"
        rows[level] = row | {"why_null": why}
    return rows


def together(file: ScoreFile) -> ScoredPart:
    """All samples of a file; the videos of two environments stay apart, whatever they are called."""
    parts = file.parts.items()
    videos = [
        None if video is None else f"{env}/{video}"
        for env, part in parts
        for video in part.videos or [None] * len(part.labels)
    ]
    return ScoredPart(
        [f"{env}/{key}" for env, part in parts for key in part.keys],
        np.concatenate([part.labels for _, part in parts]),
        np.concatenate([part.scores for _, part in parts]),
        videos if any(videos) else None,
    )


def clusters(part: ScoredPart) -> list[str]:
    """The video of every sample, or the sample itself where its video is not known."""
    videos = part.videos or [None] * len(part.labels)
    return [f"s {i}" if video is None else f"v {video}" for i, video in enumerate(videos)]


def other_metrics() -> list[Metric]:
    """The metrics of the second table."""
    return [metric for metric in _metrics() if metric.heading and metric.name not in INTERVALS]


def interval_text(row: Mapping[str, Any], name: str) -> str:
    """The 95 % interval of a row's metric in percent."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "-" if low is None else f"{100 * low:.1f} to {100 * high:.1f}"


def _metrics() -> list[Metric]:
    return [metric for metric in METRICS if not metric.many_classes]


def _intervals(part: ScoredPart, level: str) -> tuple[dict[str, tuple[float, float]], str]:
    """The limits for each metric of ``INTERVALS``; or nothing and the reason."""
    scores, labels, keys = part.scores, part.labels, clusters(part)
    try:
        if level == "video":
            known = [i for i, video in enumerate(part.videos) if video is not None]
            scores, labels = video_scores(scores[known], labels[known], [keys[i] for i in known])
            keys = list(range(len(labels)))
        return roc_intervals(scores, labels, keys), ""
    except ValueError as error:
        return {}, str(error)


def _with_environments(files: Sequence[ScoreFile], wanted: Sequence[str] | None) -> list[ScoreFile]:
    if wanted is None:
        return list(files)
    known = dict.fromkeys(env for file in files for env in file.parts)
    problems = Problems()
    for name in wanted:
        if name not in known:
            problems.add(unknown_name("environment", name, known))
    problems.check()
    found = []
    for file in files:
        parts = {env: part for env, part in file.parts.items() if env in wanted}
        found.append(ScoreFile(file.name, file.path, parts, file.has_splits, file.notes))
    return [file for file in found if file.parts]


def _unlike(files: Sequence[ScoreFile], envs: Sequence[str]) -> list[str]:
    """A sentence for each file whose samples are not those of the first: their numbers do not compare."""
    first, *others = files
    sentences = []
    for other in others:
        counts = [0, 0, 0]
        for env in envs:
            one, two = (_samples(file, env) for file in (first, other))
            counts = [
                count + n for count, n in zip(counts, (len(one), len(two), len(one & two)), strict=True)
            ]
        if len(set(counts)) > 1:
            sentences.append(
                f"{first.name} and {other.name} were tested on different samples: {counts[0]:,} and {counts[1]:,}, of "
                f"which {counts[2]:,} are the same by environment, name and label"
            )
    return sentences


def _samples(file: ScoreFile, env: str) -> set[tuple[str, int]]:
    part = file.parts.get(env)
    return set() if part is None else set(zip(part.keys, part.labels.tolist(), strict=True))


def _reversed(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each detector that is worse than chance everywhere, as if its scores were of reals."""
    names = dict.fromkeys(row["detector"] for row in rows)
    limits = {name: [row["auc_high"] for row in rows if row["detector"] == name] for name in names}
    return [
        f"{name} is worse than chance everywhere: if a higher score means real there, give 1 - score, or its negative"
        for name, own in limits.items()
        if all(high is not None and high < 0.5 for high in own)
    ]
