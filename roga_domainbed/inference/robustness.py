"""What corruptions of the images do to saved models: every metric by corruption and strength."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from roga_domainbed.errors import RogaError
from roga_domainbed.foreign import one_line
from roga_domainbed.inference.corruptions import STRENGTHS, Corruption
from roga_domainbed.inference.evaluate import metric_rows, require_finite, score_images, sets_to_evaluate
from roga_domainbed.inference.evaluation_sets import Evaluated, unreadable_images
from roga_domainbed.inference.saved_run import SavedRun
from roga_domainbed.input.augmentation import apply
from roga_domainbed.input.environment import Environment
from roga_domainbed.input.image_files import UnreadableImage, read_image
from roga_domainbed.input.path import InputOptions, InputPath
from roga_domainbed.metrics.split import SplitScores
from roga_domainbed.results.csv_table import csv_table
from roga_domainbed.results.text_table import text_table
from roga_domainbed.seeds import generator
from roga_domainbed.trainer.evaluation import EvaluatedSplit, adapts, score_parts

_CHUNK = 256  # images that are decoded once for all corruptions, if they fit
_KEPT_BYTES = 2**27
_ALL_STRENGTHS = (0, *STRENGTHS)


@dataclass
class Robustness:
    """What is left of some models' metrics.

    Attributes:
        runs: name → the models that are shown under it, of which means are taken.
        data: name of the dataset or folder.
        corruptions: what was done.
        rows: one row of metrics a model, corruption, strength, part and level, as plain values. Strength 0 is the image
            as it is, and the same for every corruption.
        notes: a sentence for each thing worth knowing, leaks first.
    """

    runs: Mapping[str, Sequence[SavedRun]]
    data: str
    corruptions: Sequence[Corruption]
    rows: list[dict[str, Any]]
    notes: list[str]

    def aucs(self, name: str, corruption: str) -> list[float | None]:
        """The AUC of frames at each strength from 0 on: the mean over the environments of all models called ``name``.

        None where one of them has none.
        """
        found: list[float | None] = []
        for strength in _ALL_STRENGTHS:
            place = name, corruption, strength, "frame"
            values = [
                row["auc"]
                for row in self.rows
                if (row["run"], row["corruption"], row["strength"], row["level"]) == place
            ]
            found.append(None if None in values else float(np.mean(values)))
        return found

    def mean_aucs(self, name: str) -> list[float | None]:
        """The mean of ``aucs`` over the corruptions."""
        of_all = zip(*(self.aucs(name, own.name) for own in self.corruptions), strict=True)
        return [None if None in values else float(np.mean(values)) for values in of_all]

    def environments(self, name: str) -> dict[str, int]:
        """The environments on which the models called ``name`` were tested, and their numbers of frames."""
        return {
            row["env_name"]: row["n"] for row in self.rows if (row["run"], row["level"]) == (name, "frame")
        }

    def as_json(self) -> str:
        """Everything, as one JSON object."""
        content = {
            "runs": {
                name: [{"model": str(run.path), "trained_on": run.describe()} for run in own]
                for name, own in self.runs.items()
            },
            "dataset": self.data,
            "corruptions": {
                own.name: {"parameter": own.parameter, "values": own.values, "note": own.note}
                for own in self.corruptions
            },
            "results": self.rows,
            "notes": self.notes,
        }
        return json.dumps(content, indent=1) + "\n"

    def as_csv(self) -> str:
        """The rows; the notes are left out."""
        return csv_table(self.rows, without=("why_null",))

    def as_text(self) -> str:
        """AUC by corruption and strength, then what the strengths are."""
        names = [one_line(name) for name in self.runs]
        several = len(names) > 1
        table = [["", *([""] if several else []), *map(str, _ALL_STRENGTHS)]]
        blocks = [(own.name, lambda run, own=own: self.aucs(run, own.name)) for own in self.corruptions]
        if len(self.corruptions) > 1:
            blocks.append(("mean", self.mean_aucs))
        for title, values in blocks:
            for place, (run, name) in enumerate(zip(self.runs, names, strict=True)):
                head = [title if place == 0 else "", *([name] if several else [])]
                table.append([*head, *("-" if v is None else f"{100 * v:.1f}" for v in values(run))])
        lines = []
        for own, name in zip(self.runs.values(), names, strict=True):
            said = own[0].describe() if len(own) == 1 else f"the mean of {len(own)} runs"
            lines.append(f"{name}: {said}" if several or len(own) > 1 else said)
        lines += [*self._tested(), "", text_table(table, n_left=1 + several)]
        width = max(len(own.name) for own in self.corruptions)
        lines += [f"{own.name:<{width}}  {own.describe()}" for own in self.corruptions]
        why = dict.fromkeys(
            f"{row['env_name']}: no auc: {row['why_null']['auc']}"
            for row in self.rows
            if row["level"] == "frame" and "auc" in row["why_null"]
        )
        notes = [*self.notes, *why]
        lines += ["", *map(one_line, notes)] if notes else []
        return "\n".join(lines) + "\n"

    def _tested(self) -> list[str]:
        """What the numbers are of."""
        tested = [self.environments(run) for run in self.runs]
        if all(own == tested[0] for own in tested):
            places = [f"of {_listed(tested[0])}"]
        else:
            places = [f"{one_line(run)}: {_listed(own)}" for run, own in zip(self.runs, tested, strict=True)]
        what = (
            "mean AUC of frames over environments" if any(len(own) > 1 for own in tested) else "AUC of frames"
        )
        head = f"{what} in %, {one_line(self.data)}; strength 0 is the image as it is"
        return [head, *places]


def _listed(environments: Mapping[str, int]) -> str:
    return ", ".join(f"{one_line(name)} ({n:,} frames)" for name, n in environments.items())


def measure_robustness(
    runs: Mapping[str, Sequence[SavedRun]],
    corruptions: Sequence[Corruption],
    *,
    dataset: str | None = None,
    data_dir: str | None = None,
    folder: str | None = None,
    part: str = "test",
    envs: Sequence[str] | None = None,
    allow_leakage: bool = False,
    n_workers: int = 0,
    real: Collection[str] = (),
    fake: Collection[str] = (),
) -> Robustness:
    """Evaluate ``runs`` on corrupted images; on a terminal, stderr shows a progress bar.

    Images are corrupted as they are stored, before they are resized for the network. Noise depends on the name of the
    file alone: every run sees the same, in any order and number of readers. ``runs`` has the models for each name, of
    which means are taken. The other arguments are those of ``evaluate``; of a run's own splits, the in-splits of its
    held-out environments alone are taken.

    Raises:
        RogaError: data that is missing, does not fit a model or is no image files; leakage, or that nobody can tell.
        Failed: a network's output for a sample is not finite.
    """
    options = {
        "dataset": dataset,
        "data_dir": data_dir,
        "folder": folder,
        "part": part,
        "envs": envs,
        "allow_leakage": allow_leakage,
        "real": real,
        "fake": fake,
    }
    opened, notes = [], []
    for name, run in [(name, run) for name, of_name in runs.items() for run in of_name]:
        evaluated, said = sets_to_evaluate(run, **options, only_test=True)
        said += _images_alone(evaluated)
        opened.append((name, run, evaluated))
        notes += said
    n_images = sum(len(entry.indices) for *_, evaluated in opened for entry in evaluated.sets)
    n_passes = 1 + len(corruptions) * len(STRENGTHS)
    rows = []
    with tqdm(total=n_images * n_passes, unit="image", disable=None, leave=False) as bar:
        for name, run, evaluated in opened:
            bar.set_description(one_line(name))
            for row in _rows(run, evaluated, corruptions, n_workers, bar):
                rows.append({"run": name, "model": str(run.path), **row})
    data = " and ".join(dict.fromkeys(evaluated.name for *_, evaluated in opened))
    return Robustness(runs, data, corruptions, rows, list(dict.fromkeys(notes)))


def _images_alone(evaluated: Evaluated) -> list[str]:
    """Leave out video files, with a note.

    Raises:
        RogaError: no images are left, or samples that are no image files.
    """
    n_clips = sum(len(entry.clips) for entry in evaluated.sets)
    evaluated.sets = [entry for entry in evaluated.sets if len(entry.indices)]
    if not evaluated.sets:
        clips = f", only {n_clips} video files: cut faces out of them with 'prepare'" if n_clips else ""
        raise RogaError(f"{evaluated.name} has no images to test on{clips}")
    for entry in evaluated.sets:
        if entry.environment.relative_paths is None or entry.environment.recipe is None:
            raise RogaError(
                f"--corruptions is for image files, and {entry.env_name} of {evaluated.name} has other samples"
            )
    return [f"{n_clips} video files are left out: images alone are corrupted"] if n_clips else []


def _rows(
    run: SavedRun, evaluated: Evaluated, corruptions: Sequence[Corruption], n_workers: int, bar: tqdm
) -> Iterator[dict[str, Any]]:
    """The rows of one run, without its name."""
    sets = evaluated.sets
    try:
        clean = score_images(run, evaluated.name, sets, n_workers)
        bar.update(sum(len(entry.indices) for entry in sets))
        conditions = [(own, strength) for own in corruptions for strength in STRENGTHS]
        damaged = _score_damaged(run, evaluated, conditions, n_workers, bar)
    except UnreadableImage:
        raise RogaError(unreadable_images(sets)) from None
    for own in corruptions:
        for strength in _ALL_STRENGTHS:
            of_sets = clean if strength == 0 else damaged[own, strength]
            scored = [
                EvaluatedSplit(entry.env, entry.env_name, entry.part, entry.environment, scores)
                for entry, scores in zip(sets, of_sets, strict=True)
            ]
            require_finite(scored)
            value = None if strength == 0 else own.values[strength - 1]
            head = {"corruption": own.name, "strength": strength, "parameter": value}
            for entry, split in zip(sets, scored, strict=True):
                for row in metric_rows(entry, split):
                    yield {**head, **row}


def _score_damaged(
    run: SavedRun,
    evaluated: Evaluated,
    conditions: Sequence[tuple[Corruption, int]],
    n_workers: int,
    bar: tqdm,
) -> dict[tuple[Corruption, int], list[SplitScores]]:
    """Condition → the scores of each set. A chunk of images is read once for all conditions."""
    environments, parts, places = [], [], []
    for number, entry in enumerate(evaluated.sets):
        images = _CleanImages(entry.environment)
        first = len(environments)
        environments += [_Damaged(entry.environment, images, own, strength) for own, strength in conditions]
        # an algorithm that adapts to its batch needs the mixture of the whole part
        size = len(entry.indices) if adapts(run.algorithm) else _CHUNK
        for start in range(0, len(entry.indices), size):
            for k, condition in enumerate(conditions):
                parts.append((first + k, entry.indices[start : start + size]))
                places.append((condition, number))
    reader = InputPath(
        environments,
        InputOptions(cache="off"),
        name=evaluated.name,
        seed=run.config.seed,
        n_workers=n_workers,
        device=run.device,
    )
    with run.autocast():
        scored = score_parts(run.algorithm, environments, _Watched(reader, bar), parts)
    chunks: dict[tuple[Corruption, int], list[list[SplitScores]]] = {
        condition: [[] for _ in evaluated.sets] for condition in conditions
    }
    for (condition, number), scores in zip(places, scored, strict=True):
        chunks[condition][number].append(scores)
    return {condition: list(map(_joined, of_sets)) for condition, of_sets in chunks.items()}


def _joined(chunks: Sequence[SplitScores]) -> SplitScores:
    names = "labels", "predicted", "probabilities", "indices"
    arrays = [np.concatenate([np.asarray(getattr(own, name)) for own in chunks]) for name in names]
    has_videos = chunks[0].videos is not None
    return SplitScores(*arrays, [video for own in chunks for video in own.videos] if has_videos else None)


class _Watched:
    """Reads as an ``InputPath`` does, and moves a progress bar."""

    def __init__(self, reader: InputPath, bar: tqdm):
        self._reader, self._bar = reader, bar

    def evaluation(self, parts: Sequence[tuple[int, Sequence[int]]]) -> Iterator[tuple[int, Tensor, Tensor]]:
        for position, x, y in self._reader.evaluation(parts):
            yield position, x, y
            self._bar.update(len(y))


class _CleanImages:
    """The images of an environment as they are stored; the latest are kept."""

    def __init__(self, environment: Environment):
        self._environment = environment
        self._kept: dict[int, np.ndarray] = {}
        self._n_bytes = 0

    def get(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8, not to be written to."""
        if index not in self._kept:
            image = np.array(read_image(self._environment.file(index)))
            if len(self._kept) >= _CHUNK or self._n_bytes + image.nbytes > _KEPT_BYTES:
                self._kept.clear()
                self._n_bytes = 0
            self._kept[index] = image
            self._n_bytes += image.nbytes
        return self._kept[index]


class _Damaged(Environment):
    """An environment whose images are corrupted before they are resized for the network.

    Args:
        environment: of image files, with a recipe.
        images: of ``environment``.
        corruption: what happens to them.
        strength: how much.
    """

    def __init__(self, environment: Environment, images: _CleanImages, corruption: Corruption, strength: int):
        self.labels, self.videos = environment.labels, environment.videos
        self.folder, self.relative_paths = environment.folder, environment.relative_paths
        self.recipe, self.file = environment.recipe, environment.file
        self._images, self._corruption, self._strength = images, corruption, strength

    def __len__(self) -> int:
        return len(self.relative_paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        pixels = torch.from_numpy(self.pixels(index))
        box = np.array([[0, 0, *pixels.shape[:2]]])
        x = apply.to_input(apply.resized([pixels], box, self.recipe.side), None, self.recipe)
        return x[0], int(self.labels[index])

    def pixels(self, index: int) -> np.ndarray:
        """The corrupted image, (H, W, 3) uint8, of the size that is stored."""
        rng = generator(0, "corruption", self.relative_paths[index])
        return self._corruption(self._images.get(index), self._strength, rng)
