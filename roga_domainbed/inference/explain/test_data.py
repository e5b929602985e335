"""The images that runs are explained on: test samples of all of them, the same for each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from datasets_ext import trees
from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.foreign import quoted
from roga_domainbed.inference.contamination import contamination
from roga_domainbed.inference.detector import as_detector, class_names
from roga_domainbed.inference.evaluation_sets import (
    Evaluated,
    EvaluationSet,
    choose,
    dataset_sets,
    folder_sets,
    open_images,
    own_sets,
)
from roga_domainbed.inference.saved_run import SavedRun
from roga_domainbed.input.classes import FAKE, fake_class


@dataclass(frozen=True)
class DataOptions:
    """What to explain on.

    Attributes:
        dataset: registered name; None for the dataset of the runs.
        data_dir: the folder that contains it; None for that of the first run.
        folder: images in real and fake folders, see ``folder_sets``; instead of a dataset.
        envs: names or numbers of environments; None for all.
        allow_leakage: take also images that a model was trained on or selected by, or that may be so.
        real: class of the models, or class folder, that is real, if its name does not say so.
        fake: those that are fake.
    """

    dataset: str | None = None
    data_dir: str | None = None
    folder: str | None = None
    envs: Sequence[str] | None = None
    allow_leakage: bool = False
    real: Collection[str] = ()
    fake: Collection[str] = ()


@dataclass(frozen=True)
class Sample:
    """One test image.

    Attributes:
        env: number of its environment.
        index: in the environment.
        label: 0 real, 1 fake.
        env_names: of all environments that have this image: manipulations share their reals.
    """

    env: int
    index: int
    label: int
    env_names: tuple[str, ...]


@dataclass
class TestData:
    """The same test samples, opened for each run at the size of its input.

    Attributes:
        name: of the dataset or folder.
        samples: by environment and class, each in the order of the dataset; an image that several environments share
            is there once, in the first.
        opened: for each run, number of an environment → where its images are.
        notes: a sentence for each thing worth knowing about the choice.
    """

    __test__ = False  # pytest takes it for tests by its name

    name: str
    samples: list[Sample]
    opened: list[dict[int, EvaluationSet]]
    notes: list[str] = field(default_factory=list)

    def set_of(self, sample: Sample) -> EvaluationSet:
        """The environment of ``sample``, as the first run reads it."""
        return self.opened[0][sample.env]


def open_test_data(runs: Mapping[str, SavedRun], options: DataOptions) -> TestData:
    """What is test data for all of ``runs``.

    Of a dataset, the published test part of every environment. Where none is published, or a run was split otherwise,
    its held-out environments as far as they are held out in all runs.

    Args:
        runs: by their names in the figure; with ``options.folder`` their classes are numbered anew if need be.
        options: what to take.

    Raises:
        RogaError: data that is missing, does not fit a model, or that one has seen.
    """
    names = list(dict.fromkeys(str(run.args.get("dataset")) for run in runs.values()))
    if options.folder is None and options.dataset is None and len(names) > 1:
        raise RogaError(
            f"the runs were trained on different datasets, {', '.join(names)}: say which images to explain them on, "
            "with --dataset NAME or --folder DIR"
        )
    dataset = options.dataset or names[0]
    data_dir = options.data_dir or next(iter(runs.values())).config.data_dir
    found: list[Evaluated] = []
    leaks: list[str] = []
    for label, run in runs.items():
        if options.folder is not None:
            evaluated = folder_sets(run, options.folder, options.real, options.fake)
            is_own = False
        else:
            _require_known(dataset, data_dir)
            _require_fake_is_1(run, dataset, options)
            is_own = dataset == run.args.get("dataset")
            evaluated = (_own if is_own else _published)(run, dataset, data_dir, options)
        evaluated = choose(evaluated, options.envs)
        if not is_own:
            leaks += [f"{label}: {why}" for why in _seen(run, evaluated, options.data_dir)]
        found.append(evaluated)
    if leaks and not options.allow_leakage:
        listed = "".join(f"\n  {line}" for line in leaks)
        raise RogaError(
            f"{found[0].name} may not be new to the models:{listed}\nChoose other images, or pass --allow_leakage; the "
            "figure will say so"
        )
    notes = list(dict.fromkeys([*(f"LEAK: {line}" for line in leaks), *(n for e in found for n in e.notes)]))
    n_clips = sum(len(entry.clips) for entry in found[0].sets)
    if n_clips:
        notes.append(
            f"{n_clips} video files are left out: frames that 'prepare' has cut out can be explained"
        )
    opened = [{entry.env: entry for entry in evaluated.sets} for evaluated in found]
    samples = _common(opened)
    if not samples:
        raise RogaError(
            f"no image of {found[0].name} is a test image of all {len(runs)} runs: explain them one by one"
            if len(runs) > 1
            else f"{found[0].name} has no test images"
        )
    return TestData(found[0].name, samples, opened, notes)


def read(
    run: SavedRun, opened: Mapping[int, EvaluationSet], samples: Sequence[Sample], n_workers: int = 0
) -> Iterator[Tensor]:
    """Batches (B, C, H, W) of ``samples``, on the run's device, in their order.

    Args:
        run: one of the runs of a ``TestData``.
        opened: its environments.
        samples: ordered by environment, as there.
        n_workers: readers.
    """
    sets, parts = list(opened.values()), []
    position = {env: place for place, env in enumerate(opened)}
    for env in dict.fromkeys(sample.env for sample in samples):
        parts.append((position[env], [sample.index for sample in samples if sample.env == env]))
    reader = open_images(run, "explained images", [entry.environment for entry in sets], n_workers)
    for _, x, _ in reader.evaluation(parts):
        yield x


def _own(run: SavedRun, name: str, data_dir: str | None, options: DataOptions) -> Evaluated:
    """Test samples of the dataset that ``run`` was trained on."""
    split = run.config.split or run.provenance.get("split") or "official"
    if split == "official":
        evaluated = _published(run, name, data_dir, options)
        if all(entry.part == "test" for entry in evaluated.sets):
            return evaluated
    own = own_sets(run, data_dir)
    return Evaluated(
        own.name,
        [entry for entry in own.sets if entry.role == "test"],
        [*own.notes, "only held-out environments have images that no run was trained on or selected by"],
    )


def _published(run: SavedRun, name: str, data_dir: str | None, options: DataOptions) -> Evaluated:
    """The published test part of every environment."""
    return dataset_sets(run, name, data_dir, "test", options.real, options.fake)


def _seen(run: SavedRun, evaluated: Evaluated, data_dir: str | None) -> list[str]:
    """A sentence for everything in ``evaluated`` that the model has seen, or may have."""
    found = contamination(run, evaluated, data_dir)
    unknown = f"whether it was trained on any of this cannot be told: {found.unknown}"
    return [*found.leaks, *[unknown] * bool(found.unknown)]


def _require_known(dataset: str, data_dir: str | None) -> None:
    unknown = trees.problem(dataset, data_dir)
    if unknown is not None:
        raise RogaError(unknown)


def _require_fake_is_1(run: SavedRun, dataset: str, options: DataOptions) -> None:
    """Refuse a model whose class 1 is not *fake*: a dataset's labels are numbered as the model's classes are."""
    classes = class_names(run) or tuple(str(index) for index in range(run.num_classes))
    said = set(classes) <= {*options.real, *options.fake}
    index = fake_class(classes, options.real, options.fake) if said else fake_class(classes)
    if index is None:
        as_detector(run, "explain", options.real, options.fake)  # which says why not
    if index != FAKE:
        raise RogaError(
            f"the classes of the model are numbered {quoted(classes)}, and --dataset {dataset} needs 0 real and 1 "
            "fake. Give the images with --folder DIR, which goes by the names of folders"
        )


def _common(opened: Sequence[Mapping[int, EvaluationSet]]) -> list[Sample]:
    """The samples that all runs have, each image once."""
    problems = Problems()
    samples: list[Sample] = []
    homes: dict[tuple, list[str]] = {}
    keys: list[tuple] = []
    for env in [env for env in opened[0] if all(env in sets for sets in opened)]:
        entry = opened[0][env]
        if len({len(sets[env].environment) for sets in opened}) > 1:
            problems.add(f"the runs read different images as {entry.env_name}: pass --data_dir")
            continue
        common = set(entry.indices).intersection(*(sets[env].indices for sets in opened[1:]))
        indices = np.array([index for index in entry.indices if index in common], np.int64)
        labels, images = entry.environment.labels_of(indices), _keys(entry)
        for label in (0, 1):
            for index in indices[labels == label].tolist():
                key = (env, index) if label or images is None else images[index]
                if key not in homes:
                    samples.append(Sample(env, index, label, ()))
                    keys.append(key)
                homes.setdefault(key, []).append(entry.env_name)
    problems.check()
    return [
        Sample(sample.env, sample.index, sample.label, tuple(dict.fromkeys(homes[key])))
        for sample, key in zip(samples, keys, strict=True)
    ]


def _keys(entry: EvaluationSet) -> list[tuple] | None:
    """Of each row: equal for a real image that several environments have, by the manifest; None without one."""
    if entry.rows is None:
        return None
    columns = ("dataset", "compression", "recording", "video", "frame")
    return list(zip(*(entry.rows[name] for name in columns), strict=True))
