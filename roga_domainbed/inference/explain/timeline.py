"""A video's probability of fake over time, and the frames at both ends of it with their heat maps."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from roga_domainbed.errors import RogaError
from roga_domainbed.inference.explain.crops import CutAlready, common_cutter
from roga_domainbed.inference.explain.grid import Grid, feature_maps, grid_of_crops
from roga_domainbed.inference.predict import predict_files
from roga_domainbed.inference.saved_run import SavedRun
from roga_domainbed.inference.verdicts import PLAIN_THRESHOLD

N_MOST, N_LEAST = 4, 2  # frames that are shown
_APART = 1 / (2 * N_MOST)  # of the video between two frames of a kind


@dataclass(frozen=True)
class Timeline:
    """One video.

    Attributes:
        path: the file.
        unit: ``s``, or ``frame`` if the file does not say when its frames are shown.
        at: (F,) where each frame that was looked at is, ascending.
        scores: run → (F,) probabilities of fake; NaN where a frame shows no face.
        threshold: above it a face is called fake.
        grid: the shown frames: the most suspicious, then the least.
        shown: their places among F.
        notes: a sentence for each thing worth knowing.
    """

    path: str
    unit: str
    at: np.ndarray
    scores: dict[str, np.ndarray]
    threshold: float
    grid: Grid
    shown: list[int]
    notes: list[str]

    def summary(self, run: str) -> str:
        """What ``run`` says of the video, in words."""
        scores, n = self.scores[run], int(np.isfinite(self.scores[run]).sum())
        low, high = np.nanmin(scores), np.nanmax(scores)
        return (
            f"{np.nanmean(scores):.3f} in the mean of {n} face{'s' * (n != 1)} in {len(scores)} "
            f"frame{'s' * (len(scores) != 1)}, {low:.3f} to {high:.3f}"
        )

    def when(self, place: int) -> str:
        """A frame's time, or its number, in words."""
        return in_words(self.at[place], self.unit)


def timeline(
    runs: Mapping[str, SavedRun],
    path: str,
    method: str,
    *,
    n_frames: int | None = None,
    detect: bool = True,
    real: Collection[str] = (),
    fake: Collection[str] = (),
) -> Timeline:
    """Score evenly spaced frames, as ``predict`` takes them; on a terminal, stderr shows progress bars.

    The shown frames are those with the highest and the lowest mean over the runs, apart from each other in time.

    Args:
        runs: by their names.
        path: a video.
        method: of the heat maps, one of ``METHODS``.
        n_frames: frames to look at, whose crops are held; None for as many as in training.
        detect: False takes every frame whole, as a finished crop.
        real: the class of the models that is real, if its name does not say so.
        fake: the one that is fake.

    Raises:
        RogaError: a file that cannot be read, or that shows no face; a run without heat maps.
    """
    feature_maps(runs)  # who has none is said before the video is read
    with tqdm(unit="frame", disable=None, leave=False) as bar:
        cutter, words = common_cutter(
            runs, "video", detect=detect, real=real, fake=fake, n_frames=n_frames, tick=bar.update
        )
        bar.total = cutter.options.n_frames
        prediction, crops = cutter.cut(path, "video")
    if prediction.error:
        raise RogaError(prediction.error)
    if not crops:
        raise RogaError(
            f"{path}: no face in {prediction.n_frames} frames; if they are crops already, pass --no_detect"
        )
    from datasets_ext.prepare.video import frame_times  # PyAV, which the cutter has asked for

    planned = cutter.decoded.planned
    times = frame_times(Path(path), cutter.decoded.count)
    at = np.array([index if times is None else times[index] for index in planned], float)
    found = {frame: place for place, frame in enumerate(planned)}
    places = [found[face.frame] for face in prediction.faces]
    scores = {}
    for name, run in runs.items():
        (scored,) = predict_files(run, [(path, "video")], CutAlready(prediction, crops))
        if scored.error:
            raise RogaError(f"{name}: {scored.error}")
        scores[name] = np.full(len(planned), np.nan)
        scores[name][places] = [face.probability for face in scored.faces]
    most, least = chosen_frames(np.mean(list(scores.values()), axis=0), at)
    unit = "frame" if times is None else "s"
    grid = grid_of_crops(
        runs,
        [crops[places.index(place)] for place in (*most, *least)],
        ["most suspicious"] * len(most) + ["least suspicious"] * len(least),
        [f"{number}: {in_words(at[place], unit)}" for number, place in enumerate((*most, *least), 1)],
        method,
        [],
    )
    return Timeline(
        path,
        unit,
        at,
        scores,
        PLAIN_THRESHOLD,
        grid,
        [*most, *least],
        [words, *[prediction.note] * bool(prediction.note)],
    )


def chosen_frames(scores: np.ndarray, at: np.ndarray) -> tuple[list[int], list[int]]:
    """Places of the frames with the highest scores, best first, and of those with the lowest, none of them twice.

    Neighbouring frames are alike, so two of a kind are at least ``_APART`` of the video from each other.

    Args:
        scores: (F,), NaN where there is no face.
        at: (F,) ascending.
    """
    known = np.flatnonzero(~np.isnan(scores))
    gap = _APART * (at[known[-1]] - at[known[0]])
    order = known[np.argsort(-scores[known], kind="stable")].tolist()
    most = _apart(order, at, gap, N_MOST)
    least = _apart([place for place in reversed(order) if place not in most], at, gap, N_LEAST)
    return most, least


def _apart(order: list[int], at: np.ndarray, gap: float, n: int) -> list[int]:
    """The first ``n`` of ``order`` that are ``gap`` or more from those before them."""
    kept: list[int] = []
    for place in order:
        if len(kept) < n and all(abs(at[place] - at[other]) >= gap for other in kept):
            kept.append(place)
    return kept


def in_words(at: float, unit: str) -> str:
    """``3.2 s`` or ``frame 80``."""
    return f"{at:.1f} s" if unit == "s" else f"frame {int(at)}"
