"""What a saved model is evaluated on: its own dataset, another registered one, or a folder of images."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from datasets_ext import manifest, trees
from datasets_ext.class_folders import class_folders, names_below
from roga_domainbed.catalog import DATASETS
from roga_domainbed.errors import Problems, RogaError, unknown_name
from roga_domainbed.foreign import quoted
from roga_domainbed.host.backend import host
from roga_domainbed.inference.detector import as_detector, check_said, class_names
from roga_domainbed.inference.model_inputs import ImageFiles, to_tensor
from roga_domainbed.inference.saved_run import SavedRun
from roga_domainbed.input.classes import FAKE, fake_class
from roga_domainbed.input.environment import Environment, OpenDataset
from roga_domainbed.input.path import InputOptions, InputPath
from roga_domainbed.input.tree import (
    MEDIA_SUFFIXES,
    VIDEO_SUFFIXES,
    counted,
    files_below,
    left_over,
    names_in,
)
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.experiment import open_dataset, open_splits
from roga_domainbed.trainer.splits import EnvironmentSplit, unreadable

PARTS = ("test", "val", "all")

_NAMED = 5  # files that cannot be read


@dataclass(frozen=True)
class Clip:
    """A video file.

    Attributes:
        path: relative to the folder of its environment, with forward slashes.
        label: 0 real, 1 fake.
        video: its key; see ``Environment``.
    """

    path: str
    label: int
    video: str


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
        clips: video files, whose frames are no samples yet.
    """

    env: int
    env_name: str
    part: str
    role: str
    environment: Environment
    indices: Sequence[int]
    rows: pd.DataFrame | None = None
    clips: list[Clip] = field(default_factory=list)


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
    # A model of another version, or from elsewhere, may lack what a dataset asks for.
    dataset, _, splits = open_splits(
        config, {**_without_augmentation(run, config.dataset), **run.hparams}, host()
    )
    _check_inputs(run, dataset, config.dataset)
    if run.class_names and dataset.class_names and run.class_names != tuple(dataset.class_names):
        raise RogaError(
            f"{config.dataset} has the classes {quoted(dataset.class_names)} now, and the model was trained on "
            f"{quoted(run.class_names)}"
        )
    rows = dataset.rows or [None] * len(dataset.names)
    return Evaluated(
        config.dataset,
        [
            EvaluationSet(
                env, dataset.names[env], part, _role(config, env, part), dataset[env], indices, rows[env]
            )
            for env, split in enumerate(splits)
            for part, indices in split.named()
        ],
    )


def dataset_sets(
    run: SavedRun,
    name: str,
    data_dir: str | None,
    part: str,
    real: Collection[str] = (),
    fake: Collection[str] = (),
) -> Evaluated:
    """Another dataset: the published test or val part of every environment, or all of it.

    Args:
        run: the saved run.
        name: registered name of the dataset.
        data_dir: the folder that holds it; None for that of the run.
        part: one of ``PARTS``. If no part is published, ``test`` is everything; a note says so.
        real: the class of the model that is real, if its name does not say so.
        fake: the one that is fake.
    """
    unknown = trees.problem(name, run.config.data_dir if data_dir is None else data_dir)
    if unknown is not None:
        raise RogaError(unknown)
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
    hparams = _without_augmentation(run, name)
    dataset = open_dataset(host(), name, data_dir, every_env, hparams, run.config.seed)
    _check_inputs(run, dataset, name)
    _check_class_names(run, dataset, name, real, fake)
    notes = [f"{note}." for note in dataset.notes]
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
    rows = dataset.rows or [None] * len(dataset.names)
    sets = []
    for env, env_name in enumerate(dataset.names):
        if pairs is None:
            indices = list(range(len(dataset[env])))
        else:
            indices = pairs[env][PARTS.index(part)]
        sets.append(EvaluationSet(env, env_name, part, "", dataset[env], indices, rows[env]))
    return Evaluated(name, sets, notes)


def folder_sets(
    run: SavedRun, folder: str, real: Collection[str] = (), fake: Collection[str] = ()
) -> Evaluated:
    """A folder: with a manifest, with class folders, or with environments that have class folders.

    Class folders have names that mean real or fake, or that ``real`` and ``fake`` say. In them, folders of images and
    video files are videos; images directly in them belong to no known video. Media elsewhere are left out, with a note.
    """
    place = Path(folder)
    if not place.is_dir():
        raise RogaError(f"--folder {folder!r} is not a folder")
    problems, read = Problems(), None
    try:
        as_detector(run, "--folder", real, fake)
    except RogaError as error:
        problems.add(str(error))
    try:
        read = to_tensor(run)
    except RogaError as error:
        problems.add(str(error))
    problems.check()
    try:
        if os.path.lexists(place / manifest.FILE):  # one that is no file is refused, not taken for none
            check_said(run, (), real, fake)
            sets = list(_manifest_sets(place, read))
        else:
            environments = _environments(run, place, real, fake)
            sets = [
                _folder_set(env, name, place, at, labels, read)
                for env, (name, (at, labels)) in enumerate(environments.items())
            ]
        taken = [place / path for entry in sets for path in entry.environment.relative_paths]
        taken += [place / clip.path for entry in sets for clip in entry.clips]
        others = left_over(place, taken)
    except OSError as error:
        raise RogaError(f"cannot list the folder {error.filename!r}: {error.strerror}") from None
    notes = [note for entry in sets for note in _mixed(entry)]
    if others:
        where = f"not in {manifest.FILE}" if sets[0].rows is not None else "in no class folder"
        notes.append(f"images and videos {where} are left out, {counted(others)}")
    return Evaluated(place.resolve().name, sets, notes)


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


def _without_augmentation(run: SavedRun, name: str) -> dict[str, Any]:
    """The dataset's hyper-parameters for images of the size that the run had, as in a test environment."""
    defaults = {spec.name: spec.default for spec in DATASETS.get(name).hparams}
    return {**defaults, "data_augmentation": False, "image_size": run.input_shape[-1]}


def _require_made(name: str, data_dir: str | None) -> None:
    """Refuse a dataset that is not there, which its class would make or fetch: a model's file may name the place."""
    info = DATASETS.get(name)
    if info.needs_data_dir and data_dir is not None:
        absent = [tree for tree in info.trees if not Path(data_dir, tree).is_dir()]
        if absent:
            raise RogaError(
                f"there is no {', '.join(absent)} in {data_dir!r}; where the data is now, --data_dir says"
            )


def open_images(run: SavedRun, name: str, environments: Sequence[Environment], n_workers: int) -> InputPath:
    """Reads ``environments`` as the run's own evaluation read its images.

    Args:
        run: the saved run.
        name: of the dataset.
        environments: where the samples are.
        n_workers: readers.
    """
    return InputPath(
        environments,
        InputOptions(run.config.input, cache="off"),  # nothing is read twice
        name=name,
        seed=run.config.seed,
        n_workers=n_workers,
        device=run.device,
    )


def unreadable_images(sets: Sequence[EvaluationSet]) -> str:
    """A message that counts the images of ``sets`` that cannot be read, and names the first few."""
    splits = [EnvironmentSplit(list(entry.indices), [], []) for entry in sets]
    found = list(
        dict.fromkeys(why for _, _, why in unreadable([entry.environment for entry in sets], splits))
    )
    more = [f"and {len(found) - _NAMED} more"] * (len(found) > _NAMED)
    return "\n  ".join([f"{len(found)} images cannot be read:", *found[:_NAMED], *more])


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


def _environments(
    run: SavedRun, place: Path, real: Collection[str], fake: Collection[str]
) -> dict[str, tuple[Path, dict[str, int]]]:
    """Name of an environment → its folder, and class folder → label."""
    if not names_in(place)[0]:
        raise RogaError(
            f"--folder {str(place)!r} has neither {manifest.FILE} nor folders real and fake in it"
        )
    check_said(run, names_below(place), real, fake)
    return class_folders(place, real, fake)


def _folder_set(
    env: int, name: str, root: Path, at: Path, labels: dict[str, int], read: Any
) -> EvaluationSet:
    paths, classes, videos, clips = [], [], [], []
    for class_folder, label in labels.items():
        inside = at / class_folder
        others = [at / other for other in labels if other != class_folder]
        for path in map(Path, files_below(inside, MEDIA_SUFFIXES, others)):
            relative = path.relative_to(root).as_posix()
            if path.name.lower().endswith(VIDEO_SUFFIXES):
                clips.append(Clip(relative, label, f"{name}/{label}/{path.relative_to(inside).as_posix()}"))
                continue
            paths.append(relative)
            classes.append(label)
            video = path.parent.relative_to(inside).as_posix()
            videos.append(None if video == "." else f"{name}/{label}/{video}")
    if not paths and not clips:
        raise RogaError(f"no images and no videos in the class folders {', '.join(labels)} of {str(at)!r}")
    known = videos if any(videos) or clips else None
    environment = ImageFiles(root, paths, classes, known, read)
    return EvaluationSet(env, name, "all", "", environment, list(range(len(paths))), clips=clips)


def _mixed(entry: EvaluationSet) -> list[str]:
    """A sentence if some images of ``entry`` belong to a known video and others do not."""
    environment = entry.environment
    videos = environment.videos or ()
    loose = [path for path, video in zip(environment.relative_paths, videos, strict=False) if video is None]
    if not loose:
        return []
    return [
        f"{entry.env_name}: images beside videos and folders of videos count as frames, in no video, {counted(loose)}"
    ]


def _check_class_names(
    run: SavedRun, dataset: OpenDataset, name: str, real: Collection[str], fake: Collection[str]
) -> None:
    """Refuse a dataset of other classes than the model's."""
    check_said(run, (), real, fake)
    theirs, ours = dataset.class_names, class_names(run)
    if theirs is None or (ours is not None and list(ours) == theirs):
        return
    if fake_class(theirs) == FAKE:
        as_detector(run, f"--dataset {name}", real, fake)
    elif ours is not None:
        raise RogaError(
            f"{name} has the classes {quoted(theirs)}, and the model was trained on {quoted(ours)}"
        )
