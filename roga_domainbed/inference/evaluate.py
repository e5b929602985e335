"""A saved model's metrics on its own splits, on another dataset or on a folder of images, and their printed forms."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from roga_domainbed.errors import Failed, Problems, RogaError, shortened
from roga_domainbed.inference.clips import score_clips, with_clips
from roga_domainbed.inference.contamination import Contamination, contamination, own_contamination
from roga_domainbed.inference.detector import require_fake_is_1
from roga_domainbed.inference.evaluation_sets import (
    Evaluated,
    EvaluationSet,
    choose,
    dataset_sets,
    folder_sets,
    open_images,
    own_sets,
    unreadable_images,
)
from roga_domainbed.inference.saved_run import SavedRun
from roga_domainbed.inference.unlike import distances, shares
from roga_domainbed.inference.verdicts import Verdicts, at_threshold, verdicts
from roga_domainbed.input.image_files import UnreadableImage
from roga_domainbed.metrics import ACCURACY, METRICS
from roga_domainbed.metrics.split import SplitScores, split_metrics
from roga_domainbed.results.csv_table import csv_table
from roga_domainbed.results.text_table import text_table
from roga_domainbed.trainer.evaluation import EvaluatedSplit, score_parts

#: Of a row, what happens at a threshold → heading of its column.
_AT_THRESHOLD = {"acc_at_threshold": "acc@t", "false_alarms": "alarm@t", "misses": "miss@t"}


@dataclass
class Evaluation:
    """What a model does on some data.

    Attributes:
        run: the model.
        data: name of the dataset or folder.
        scored: the scores of each part.
        rows: one row of metrics a part and level, as plain values.
        notes: a sentence for each thing worth knowing, leaks first.
        thresholds: a phrase for each threshold that was asked for.
    """

    run: SavedRun
    data: str
    scored: list[EvaluatedSplit]
    rows: list[dict[str, Any]]
    notes: list[str]
    thresholds: tuple[str, ...] = ()

    def as_json(self) -> str:
        """Everything, as one JSON object."""
        content = {
            "model": str(self.run.path),
            "trained_on": self.run.describe(),
            "args": self.run.args,
            "hparams": self.run.hparams,
            "dataset": self.data,
            **({"thresholds": self.thresholds} if self.thresholds else {}),
            "results": self.rows,
            "notes": self.notes,
        }
        # Upstream leaves numpy's numbers among its hyper-parameters.
        return json.dumps(content, indent=1, default=lambda number: number.item()) + "\n"

    def as_csv(self) -> str:
        """The rows; the notes are left out."""
        return csv_table(self.rows, without=("why_null",))

    def as_text(self) -> str:
        """A table, then the notes and why values are missing."""
        metrics = [
            metric for metric in METRICS if metric.heading and any(metric.name in row for row in self.rows)
        ]
        extra = _AT_THRESHOLD if self.thresholds else {}
        heads = [*(metric.heading for metric in metrics), *extra.values()]
        table, before = [["", "", "", "level", "n", *heads]], None
        for row in self.rows:
            part = [row["env_name"], row["part"], row["role"] or ""]
            cells = [metric.text(row.get(metric.name)) for metric in metrics]
            cells += [ACCURACY.text(row[name]) for name in extra]
            table.append([*(part if part != before else ["", "", ""]), row["level"], str(row["n"]), *cells])
            before = part
        head = f"{self.run.describe()}\nevaluated on {self.data}; in %, log_loss in nats\n"
        head += "".join(f"t, the threshold {words}\n" for words in self.thresholds) + "\n"
        notes = [*self.notes, *dict.fromkeys(_missing_values(self.rows))]
        return head + text_table(table, n_left=4) + "".join(f"{note}\n" for note in ["", *notes] if notes)


def evaluate(
    run: SavedRun,
    *,
    dataset: str | None = None,
    data_dir: str | None = None,
    folder: str | None = None,
    part: str = "test",
    envs: Sequence[str] | None = None,
    allow_leakage: bool = False,
    n_workers: int = 0,
    detect: bool = True,
    real: Collection[str] = (),
    fake: Collection[str] = (),
    threshold: str | float | None = None,
) -> Evaluation:
    """Evaluate ``run``: on the splits of its own dataset if neither ``dataset`` nor ``folder`` is given.

    Args:
        run: the saved run.
        dataset: registered name of another dataset.
        data_dir: the folder that contains the dataset; None for the run's.
        folder: images, see ``folder_sets``.
        part: of ``dataset``, see ``dataset_sets``.
        envs: names or numbers of environments; None for all.
        allow_leakage: evaluate also on data that the model was trained on or selected by, or that may be so.
        n_workers: readers.
        detect: look for faces in the video files of ``folder``; False takes every frame whole.
        real: the class of the model, and the class folders of ``folder``, that are real, if names do not say so.
        fake: those that are fake.
        threshold: also count the errors at it; see ``verdicts.verdicts``.

    Raises:
        RogaError: a threshold that the model does not have; data that is missing or does not fit the model; leakage,
            or that nobody can tell.
        Failed: the network's output for a sample is not finite.
    """
    if threshold is not None and folder is None:
        require_fake_is_1(run, "--threshold")
    evaluated, found = sets_to_evaluate(
        run,
        dataset=dataset,
        data_dir=data_dir,
        folder=folder,
        part=part,
        envs=envs,
        allow_leakage=allow_leakage,
        real=real,
        fake=fake,
    )
    judged = None if threshold is None else verdicts(run, threshold)
    with distances(run) as seen:
        scored, said = _score(run, evaluated, n_workers, detect)
        said += shares(run, seen(), scored, in_order=not any(entry.clips for entry in evaluated.sets))
    pairs = list(zip(evaluated.sets, scored, strict=True))
    rows = [row for entry, split in pairs for row in metric_rows(entry, split, judged)]
    words = () if judged is None else judged.in_words(any(row["level"] == "video" for row in rows))
    return Evaluation(run, evaluated.name, scored, rows, [*found, *said], words)


def sets_to_evaluate(
    run: SavedRun,
    *,
    dataset: str | None,
    data_dir: str | None,
    folder: str | None,
    part: str,
    envs: Sequence[str] | None,
    allow_leakage: bool,
    real: Collection[str],
    fake: Collection[str],
    only_test: bool = False,
) -> tuple[Evaluated, list[str]]:
    """The data, and notes about it, leaks first.

    Arguments are those of ``evaluate``. With ``only_test``, of the run's own splits, the in-splits of its held-out
    environments alone are taken.

    Raises:
        RogaError: data that is missing or does not fit the model; leakage, or that nobody can tell.
    """
    if folder is None and dataset is None:
        evaluated = own_sets(run, data_dir)
        found = own_contamination(run, evaluated, data_dir)
        if only_test:
            evaluated.sets = [entry for entry in evaluated.sets if entry.role == "test"]
        evaluated = choose(evaluated, envs)
        refused = [] if allow_leakage else _lines(Contamination(unknown=found.unknown))
        head = f"{evaluated.name} may not be split as in training"
    else:
        if folder is not None:
            evaluated = folder_sets(run, folder, real, fake)
        else:
            evaluated = dataset_sets(run, dataset, data_dir, part, real, fake)
        evaluated = choose(evaluated, envs)
        found = contamination(run, evaluated, data_dir)
        refused = [] if allow_leakage else _lines(found)
        is_known = "the model knows some of {}" if found.leaks else "{} may not be new to the model"
        head = is_known.format(evaluated.name)
    if refused:
        listed = "".join(f"\n  {line}" for line in refused)
        other = (
            "Choose another part with --part or --envs, or" if found.leaks else "To evaluate all the same,"
        )
        raise RogaError(f"{head}:{listed}\n{other} pass --allow_leakage; the table will say so")
    return evaluated, [*_lines(found, "LEAK: ", "UNKNOWN: "), *evaluated.notes, *found.notes]


def _lines(found: Contamination, leak: str = "", unknown: str = "") -> list[str]:
    """A line for each leak, and one if it cannot be told, behind the words given."""
    lines = [f"{leak}{sentence}" for sentence in found.leaks]
    if found.unknown:
        lines.append(f"{unknown}whether the model was trained on any of this cannot be told: {found.unknown}")
    return lines


def _score(
    run: SavedRun, evaluated: Evaluated, n_workers: int, detect: bool
) -> tuple[list[EvaluatedSplit], list[str]]:
    """The scores of every set, read as the run's own evaluation read its images; and notes about video files."""
    problems = Problems()
    sets = [entry for entry in evaluated.sets if len(entry.indices)]
    images: dict[int, EvaluatedSplit] = {}
    try:
        for entry, scores in zip(sets, score_images(run, evaluated.name, sets, n_workers), strict=True):
            split = EvaluatedSplit(entry.env, entry.env_name, entry.part, entry.environment, scores)
            images[id(entry)] = split
    except UnreadableImage:
        problems.add(unreadable_images(sets))
    clips, notes = score_clips(run, evaluated.sets, detect, problems)
    problems.check()
    found = [
        with_clips(entry, images.get(id(entry)), predictions)
        for entry, predictions in zip(evaluated.sets, clips, strict=True)
    ]
    require_finite(found)
    empty = [split.env_name for split in found if not len(split.scores.labels)]
    if empty:
        raise RogaError(f"no video file of {', '.join(empty)} shows a face, and there are no images")
    return found, notes


def score_images(
    run: SavedRun, name: str, sets: Sequence[EvaluationSet], n_workers: int
) -> list[SplitScores]:
    """The scores of the images of each of ``sets``, read as the run's own evaluation read its images."""
    if not sets:
        return []
    of_env = {entry.env: entry.environment for entry in sets}
    environments, position = list(of_env.values()), {env: i for i, env in enumerate(of_env)}
    reader = open_images(run, name, environments, n_workers)
    parts = [(position[entry.env], entry.indices) for entry in sets]
    with run.autocast():
        return score_parts(run.algorithm, environments, reader, parts)


def require_finite(scored: Sequence[EvaluatedSplit]) -> None:
    """Raise ``Failed`` if a score is NaN."""
    odd = []
    for split in scored:
        paths = split.environment.relative_paths
        for position in np.flatnonzero(~np.isfinite(split.scores.probabilities).all(axis=1)):
            index = split.scores.indices[position]
            odd.append(f"{split.env_name} {index}" if paths is None else paths[index])
    if odd:
        raise Failed(
            f"the network's output is NaN for {len(odd)} samples, which have no score: {shortened(odd)}"
        )


def metric_rows(
    entry: EvaluationSet, split: EvaluatedSplit, judged: Verdicts | None = None
) -> list[dict[str, Any]]:
    """One row of metrics a level; with what happens at a threshold, if one is given."""
    metrics = split_metrics(split.scores)
    rows = []
    for level, prefix in (("frame", ""), ("video", "video_")):
        if f"{prefix}n" not in metrics.values:
            continue
        names = [
            name
            for name in metrics.values
            if name.startswith(prefix) and (prefix or not name.startswith("video_"))
        ]
        why = {name: metrics.why_null[name] for name in names if name in metrics.why_null}
        rows.append(
            {
                "env": entry.env,
                "env_name": entry.env_name,
                "part": entry.part,
                "role": entry.role or None,
                "level": level,
                **{name.removeprefix(prefix): metrics.values[name] for name in names},
                **({} if judged is None else at_threshold(judged, split.scores, level)),
                "why_null": {name.removeprefix(prefix): reason for name, reason in why.items()},
            }
        )
    return rows


def _missing_values(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A sentence for each part, level and reason."""
    sentences = []
    for row in rows:
        by_reason: dict[str, list[str]] = {}
        for name, reason in row["why_null"].items():
            by_reason.setdefault(reason, []).append(name)
        where = f"{row['env_name']} {row['part']}, {row['level']} level"
        sentences += [f"{where}: no {', '.join(names)}: {reason}" for reason, names in by_reason.items()]
    return sentences
