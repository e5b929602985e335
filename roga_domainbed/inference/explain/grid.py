"""Heat maps of several runs for the same images: a grid of images by runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.inference.explain.crops import common_cutter
from roga_domainbed.inference.explain.feature_map import FeatureMap, last_feature_map
from roga_domainbed.inference.explain.heat_maps import heat_maps
from roga_domainbed.inference.explain.test_data import Sample, TestData, read
from roga_domainbed.inference.model_inputs import to_tensor
from roga_domainbed.inference.saved_run import SavedRun
from roga_domainbed.input.augmentation.spec import Recipe

_BATCH_SIZE = 16


@dataclass(frozen=True)
class Column:
    """One image.

    Attributes:
        title: environment or file.
        truth: a second line: ``real`` or ``fake``, or when in a video; empty if nobody knows.
        image: (H, W, 3) uint8, as the first run's network gets it.
    """

    title: str
    truth: str
    image: np.ndarray


@dataclass(frozen=True)
class Cell:
    """What one run says of one image.

    Attributes:
        image: (H, W, 3) uint8, as this run's network gets it.
        heat: (H, W) float32 in [0, 1]; zero everywhere if nothing speaks for fake.
        probability: of being fake.
    """

    image: np.ndarray
    heat: np.ndarray
    probability: float


@dataclass(frozen=True)
class Row:
    """One run.

    Attributes:
        name: of the run.
        layer: where its maps are taken, in words.
        cells: one for each column.
    """

    name: str
    layer: str
    cells: list[Cell]


@dataclass(frozen=True)
class Grid:
    """What the figure shows.

    Attributes:
        method: one of ``METHODS``.
        columns: the images.
        rows: the runs.
        notes: a sentence for each thing worth knowing.
    """

    method: str
    columns: list[Column]
    rows: list[Row]
    notes: list[str]


def first_samples(data: TestData, n: int) -> list[Sample]:
    """The first ``n`` test images of each environment and class, of different videos as far as there are so many."""
    chosen: list[Sample] = []
    for group in dict.fromkeys((sample.env, sample.label) for sample in data.samples):
        members = [sample for sample in data.samples if (sample.env, sample.label) == group]
        videos = data.set_of(members[0]).environment.videos
        first_of: dict[object, int] = {}
        for sample in members:
            video = None if videos is None else videos[sample.index]
            first_of.setdefault(sample.index if video is None else video, sample.index)
        firsts = set(first_of.values())
        # Sorting is stable: those that open a video, then the others, each in order.
        wanted = {
            sample.index for sample in sorted(members, key=lambda sample: sample.index not in firsts)[:n]
        }
        chosen += [sample for sample in members if sample.index in wanted]
    return chosen


def as_seen(x: Tensor, recipe: Recipe | None) -> np.ndarray:
    """The image that became a network's input, its normalization undone.

    Args:
        x: (3, H, W).
        recipe: how it was normalized; None if only the dataset's own code knows: the values then fill the range.

    Returns:
        (H, W, 3) uint8.
    """
    x = x.cpu()
    if recipe is None:
        low, high = x.min(), x.max()
        image = (x - low) / (high - low).clamp(min=1e-9)
    else:
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (recipe.mean, recipe.std))
        image = x * std + mean
    return (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def grid_of_samples(
    runs: Mapping[str, SavedRun], data: TestData, samples: Sequence[Sample], method: str
) -> Grid:
    """The grid for test samples; on a terminal, stderr shows a progress bar.

    Args:
        runs: detectors by their names.
        data: opened for these runs.
        samples: of ``data``, in its order.
        method: one of ``METHODS``.
    """

    def inputs(place: int, run: SavedRun) -> tuple[list[Tensor], list[np.ndarray]]:
        opened = data.opened[place]
        x = [one for batch in read(run, opened, samples) for one in batch]
        images = [
            as_seen(one, opened[sample.env].environment.recipe)
            for one, sample in zip(x, samples, strict=True)
        ]
        return x, images

    every = {entry.env_name for entry in data.opened[0].values()}
    titles = [_environments(sample.env_names, every) for sample in samples]
    return _grid(runs, inputs, titles, [("real", "fake")[s.label] for s in samples], method, data.notes)


def grid_of_files(
    runs: Mapping[str, SavedRun],
    files: Sequence[tuple[str, str]],
    method: str,
    *,
    detect: bool = True,
    real: Sequence[str] = (),
    fake: Sequence[str] = (),
) -> Grid:
    """The grid for the faces in image files, cut out as the training data was; a column a face.

    Args:
        runs: by their names.
        files: (path, ``image``).
        method: one of ``METHODS``.
        detect: False takes every picture whole.
        real: the class of the models that is real, if its name does not say so.
        fake: the one that is fake.

    Raises:
        RogaError: files that cannot be read or have no face, runs whose training data was cut out in different ways.
    """
    cutter, words = common_cutter(runs, "image", detect=detect, real=real, fake=fake)
    problems, titles, faces = Problems(), [], []
    for path, kind in files:
        prediction, found = cutter.cut(path, kind)
        if prediction.error or not found:
            problems.add(
                prediction.error or f"{path}: no face in it; if it is a crop already, pass --no_detect"
            )
        faces += found
        name = path.replace("\\", "/").rpartition("/")[2]
        titles += [f"{name}, face {i}" if len(found) > 1 else name for i in range(1, len(found) + 1)]
    problems.check()

    return grid_of_crops(runs, faces, titles, [""] * len(faces), method, [words])


def grid_of_crops(
    runs: Mapping[str, SavedRun],
    crops: Sequence[Image.Image],
    titles: Sequence[str],
    truths: Sequence[str],
    method: str,
    notes: Sequence[str],
) -> Grid:
    """The grid for faces that are cut out; on a terminal, stderr shows a progress bar.

    Args:
        runs: detectors by their names.
        crops: N faces.
        titles: N of them.
        truths: N second lines.
        method: one of ``METHODS``.
        notes: of the grid.
    """

    def inputs(place: int, run: SavedRun) -> tuple[list[Tensor], list[np.ndarray]]:
        return _of_faces(run, crops)

    return _grid(runs, inputs, titles, truths, method, notes)


def _of_faces(run: SavedRun, faces: Sequence[Image.Image]) -> tuple[list[Tensor], list[np.ndarray]]:
    convert = to_tensor(run)
    x = [convert(face) for face in faces]
    return x, [as_seen(one, convert.recipe) for one in x]


def _grid(
    runs: Mapping[str, SavedRun],
    inputs: Callable[[int, SavedRun], tuple[list[Tensor], list[np.ndarray]]],
    titles: Sequence[str],
    truths: Sequence[str],
    method: str,
    notes: Sequence[str],
) -> Grid:
    layers = feature_maps(runs)
    rows, images = [], []
    with tqdm(total=len(runs) * len(titles), unit="map", disable=None, leave=False) as bar:
        for place, (name, run) in enumerate(runs.items()):
            x, seen = inputs(place, run)
            images = images or seen
            heats, probabilities = [], []
            with heat_maps(run, layers[name], method) as explain:
                for start in range(0, len(x), _BATCH_SIZE):
                    batch = torch.stack(x[start : start + _BATCH_SIZE]).to(run.device)
                    maps, fake = explain(batch)
                    heats += list(maps)
                    probabilities += fake.tolist()
                    bar.update(len(batch))
            where = layers[name]
            cells = list(map(Cell, seen, heats, probabilities))
            rows.append(Row(name, f"{where.height}x{where.width} after {where.name}", cells))
    return Grid(method, list(map(Column, titles, truths, images)), rows, list(notes))


def feature_maps(runs: Mapping[str, SavedRun]) -> dict[str, FeatureMap]:
    """Where the maps of each run are taken; all refusals at once, before any map.

    Raises:
        RogaError: a run without a feature map, or whose inputs are no colour images.
    """
    problems, found = Problems(), {}
    for name, run in runs.items():
        if len(run.input_shape) != 3 or run.input_shape[0] != 3:
            problems.add(
                f"{name}: its inputs are {run.input_shape}, and heat maps are drawn over colour images"
            )
            continue
        try:
            found[name] = last_feature_map(run)
        except RogaError as error:
            problems.add(f"{name}: {error}")
    problems.check()
    return found


def _environments(names: Sequence[str], every: set[str]) -> str:
    if len(names) > 1 and set(names) == every:
        return "all environments"
    return ", ".join(names)
