"""What a saved model is evaluated on: its own dataset, another registered one, or a folder of images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from datasets_ext import manifest
from roga_domainbed.catalog import DATASETS
from roga_domainbed.engine.datasets.classes import class_indices
from roga_domainbed.errors import Problems, RogaError, unknown_name
from roga_domainbed.host.backend import host
from roga_domainbed.inference.model_inputs import ImageFiles, to_tensor
from roga_domainbed.inference.saved_run import SavedRun
from roga_domainbed.input.environment import Environment, OpenDataset
from roga_domainbed.input.image_files import images_below
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.experiment import open_dataset, open_splits

PARTS = ("test", "val", "all")


@dataclass
class EvaluationSet:
    """Some samples of one environment.

    Attributes:
        env: the environment's index.
        env_name: its name.
        part: ``in``, ``out`` or ``uda`` of the run's own dataset; ``test``, ``val`` or ``all`` of another.
        role: what the run did with them: ``training``, ``selection``, ``test``; empty for other datasets.
        environment: where they are.
        indices: which they are.
        rows: the manifest's rows of the environment, to which ``indices`` refer; None without a manifest.
    """

    env: int
    env_name: str
    part: str
    role: str
    environment: Environment
    indices: Sequence[int]
    rows: pd.DataFrame | None = None


@dataclass
class Evaluated:
    """The data to evaluate on.

    Attributes:
        name: of the dataset or folder.
        sets: its parts.
        notes: a sentence for each thing worth knowing about the choice.
    """

    name: str
    sets: list[EvaluationSet]
    notes: list[str] = field(default_factory=list)


def own_sets(run: SavedRun, data_dir: str | None) -> Evaluated:
    """Every split of the run's own dataset, as its records have them.

    Args:
        run: the saved run.
        data_dir: where the dataset is now; None for where it was.
    """
    config = run.config
    if data_dir is not None:
        config.data_dir = data_dir
    problems = Problems()
    config.check(problems)
    problems.check()
    config.split = config.split or run.provenance.get("split")
    _require_made(config.dataset, config.data_dir)
    dataset, names, _, splits = open_splits(config, run.hparams, host())
    _check_inputs(run, dataset, config.dataset)
    rows = dataset.rows or [None] * len(names)
    return Evaluated(
        config.dataset,
        [
            EvaluationSet(env, names[env], part, _role(config, env, part), dataset[env], indices, rows[env])
            for env, split in enumerate(splits)
            for part, indices in split.named()
        ],
    )


def dataset_sets(run: SavedRun, name: str, data_dir: str | None, part: str) -> Evaluated:
    """Another dataset: the published test or val part of every environment, or all of it.

    Args:
        run: the saved run.
        name: registered name of the dataset.
        data_dir: the folder that holds it; None for that of the run.
        part: one of ``PARTS``. If no part is published, ``test`` is everything; a note says so.
    """
    info = DATASETS.get(name)
    if data_dir is None:
        data_dir = run.config.data_dir
        _require_made(name, data_dir)
    if info.needs_data_dir and (data_dir is None or not Path(data_dir).is_dir()):
        raise RogaError(
            f"dataset {name!r} needs --data_dir, the folder that contains it"
            if data_dir is None
            else f"--data_dir {data_dir!r} is not a folder"
        )
    every_env = list(range(len(info.environments)))
    # Images of the size that the run had, all without augmentation, as in a test environment.
    hparams = {spec.name: spec.default for spec in info.hparams}
    hparams |= {"data_augmentation": False, "image_size": run.input_shape[-1]}
    dataset, names = open_dataset(host(), name, data_dir, every_env, hparams, run.config.seed)
    _check_inputs(run, dataset, name)
    notes: list[str] = []
    pairs = None
    if part != "all":
        try:
            if dataset.split_indices is None:
                raise RogaError(f"{name} has no manifest")
            pairs = dataset.split_indices("official", 0, TrainConfig.holdout_fraction, every_env)
        except RogaError as why:
            if part == "val":
                raise RogaError(f"--part val: {why}") from None
            notes.append(f"no published test part ({why}): all of it is evaluated on")
            part = "all"
    rows = dataset.rows or [None] * len(names)
    sets = []
    for env, env_name in enumerate(names):
        if pairs is None:
            indices = list(range(len(dataset[env])))
        else:
            indices = pairs[env][PARTS.index(part)]
        sets.append(EvaluationSet(env, env_name, part, "", dataset[env], indices, rows[env]))
    return Evaluated(name, sets, notes)


def folder_sets(run: SavedRun, folder: str) -> Evaluated:
    """A folder of images: with a manifest, with class folders, or with environments that have class folders.

    Class folders are called real and fake, spelled one way or another. Folders in them are videos; images directly in
    them belong to no known video.
    """
    place = Path(folder)
    if not place.is_dir():
        raise RogaError(f"--folder {folder!r} is not a folder")
    if run.num_classes != 2:
        raise RogaError(
            f"--folder is for models that tell real from fake; this one knows {run.num_classes} classes"
        )
    read = to_tensor(run)
    if (place / manifest.FILE).is_file():
        return Evaluated(place.name, list(_manifest_sets(place, read)))
    below = _folders(place)
    if not below:
        raise RogaError(f"--folder {folder!r} has neither {manifest.FILE} nor folders real and fake in it")
    labels = _labels(below)
    if labels is not None:
        environments = {place.resolve().name: (place, labels)}
    else:
        environments = {name: (place / name, _labels(_folders(place / name))) for name in below}
        odd = [name for name, (_, found) in environments.items() if not found]
        if odd:
            raise RogaError(
                f"--folder {folder!r}: expected folders real and fake, in it or in each folder in it; found "
                f"{', '.join(below)}, and no such folders in {', '.join(odd)}"
            )
    return Evaluated(
        place.resolve().name,
        [
            _folder_set(env, name, place, at, labels, read)
            for env, (name, (at, labels)) in enumerate(environments.items())
        ],
    )


def choose(evaluated: Evaluated, wanted: Sequence[str] | None) -> Evaluated:
    """The environments with the names or numbers in ``wanted``; all for None."""
    if wanted is None:
        return evaluated
    names = {entry.env: entry.env_name for entry in evaluated.sets}
    problems, kept = Problems(), set()
    for text in wanted:
        found = [env for env, name in names.items() if text in (name, str(env))]
        # A name wins over a number: RotatedMNIST's environments are called 0, 15, 30 …
        found = [env for env in found if names[env] == text] or found
        if not found:
            problems.add(unknown_name("environment", text, names.values()))
        kept.update(found)
    problems.check()
    return Evaluated(
        evaluated.name, [entry for entry in evaluated.sets if entry.env in kept], evaluated.notes
    )


def _require_made(name: str, data_dir: str | None) -> None:
    """Refuse a dataset that is not there, which its class would make or fetch: a model's file may name the place."""
    info = DATASETS.get(name)
    if info.needs_data_dir and data_dir is not None:
        absent = [tree for tree in info.trees if not os.path.isdir(os.path.join(data_dir, tree))]
        if absent:
            raise RogaError(
                f"there is no {', '.join(absent)} in {data_dir!r}; where the data is now, --data_dir says"
            )


def _role(config: TrainConfig, env: int, part: str) -> str:
    if env in config.test_envs:
        return {"in": "test", "out": "oracle selection"}.get(part, "adaptation")
    return "training" if part == "in" else "selection"


def _check_inputs(run: SavedRun, dataset: OpenDataset, name: str) -> None:
    problems = Problems()
    if dataset.input_shape != run.input_shape:
        theirs, ours = ("×".join(map(str, shape)) for shape in (dataset.input_shape, run.input_shape))
        problems.add(f"images of {name} are {theirs} and the model takes {ours}")
    if dataset.num_classes != run.num_classes:
        problems.add(f"{name} has {dataset.num_classes} classes and the model tells {run.num_classes} apart")
    problems.check()


def _manifest_sets(folder: Path, read: Any) -> Any:
    rows = manifest.read(folder)
    problems = Problems()
    for message in manifest.problems(rows, None):
        problems.add(message)
    problems.check()
    for env, (name, part) in enumerate(rows.groupby("env", sort=True)):
        part = part.reset_index(drop=True)
        videos = manifest.video_keys(name, part)
        environment = ImageFiles(folder, part["path"], part["label"], videos, read)
        yield EvaluationSet(env, str(name), "all", "", environment, list(range(len(part))), part)


def _folder_set(
    env: int, name: str, root: Path, at: Path, labels: dict[str, int], read: Any
) -> EvaluationSet:
    paths, classes, videos = [], [], []
    for class_folder, label in labels.items():
        for file in images_below(str(at / class_folder)):
            path = Path(file)
            paths.append(path.relative_to(root).as_posix())
            classes.append(label)
            video = path.parent.relative_to(at / class_folder).as_posix()
            videos.append(None if video == "." else f"{name}/{label}/{video}")
    if not paths:
        raise RogaError(f"no images in the class folders {', '.join(labels)} of {str(at)!r}")
    known = videos if all(video is not None for video in videos) else None
    environment = ImageFiles(root, paths, classes, known, read)
    return EvaluationSet(env, name, "all", "", environment, list(range(len(paths))))


def _folders(place: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(place) if entry.is_dir() and entry.name[0] != ".")


def _labels(names: list[str]) -> dict[str, int] | None:
    """Class folder → label, if all of ``names`` are understood; one class alone is enough."""
    for extra in ((), ("real", "fake")):
        indices, classes = class_indices([*names, *extra])
        if names and classes == ["real", "fake"]:
            return {name: indices[name] for name in names}
    return None
