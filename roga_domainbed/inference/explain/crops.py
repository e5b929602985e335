"""Faces cut out once for several runs, as the training data of all of them was."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from PIL import Image

from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.inference.detector import as_detector, check_said
from roga_domainbed.inference.faces import FaceCutter, Prediction, crops_of_training, in_words
from roga_domainbed.inference.saved_run import SavedRun


def common_cutter(
    runs: Mapping[str, SavedRun],
    kind: str,
    *,
    detect: bool = True,
    real: Collection[str] = (),
    fake: Collection[str] = (),
    n_frames: int | None = None,
    tick: Callable[[], object] = lambda: None,
) -> tuple[FaceCutter, str]:
    """What cuts faces out for all of ``runs``, and in words how; the classes of the runs are numbered anew if need be.

    Args:
        runs: by their names.
        kind: ``image`` or ``video``.
        detect: False takes every picture whole.
        real: the class of the models that is real, if its name does not say so.
        fake: the one that is fake.
        n_frames: of a video; None for as many as in training.
        tick: see ``FaceCutter``.

    Raises:
        RogaError: no detectors, or runs whose training data was cut out in different ways.
    """
    for run in runs.values():
        check_said(run, (), real, fake)
        as_detector(run, "explain", real, fake)
    crops = [crops_of_training(run) for run in runs.values()]
    options, origin = crops[0]
    if detect and any(other != options for other, _ in crops):
        raise RogaError(
            "the runs' training data was cut out in different ways: explain them one by one, or give crops with "
            "--no_detect"
        )
    if n_frames is not None:
        options = replace(options, n_frames=n_frames)
        origin += "; by option: n_frames"
    problems = Problems()
    for message in options.problems():
        problems.add(message)
    problems.check()
    words = in_words(options, origin)
    if not detect:
        whole = {"image": "pictures taken whole", "video": f"frames taken whole, {options.n_frames} of them"}
        words = whole[kind]
    return FaceCutter(options, detect=detect, kinds=[kind], tick=tick), words


class CutAlready:
    """In place of a ``FaceCutter``: gives what was cut out before, to be scored by another run.

    Args:
        prediction: of a file, without probabilities.
        crops: of its faces.
    """

    def __init__(self, prediction: Prediction, crops: Sequence[Image.Image]):
        self._prediction, self._crops = prediction, crops

    def cut(self, path: str, kind: str) -> tuple[Prediction, Sequence[Image.Image]]:
        """Faces of its own, whose probabilities the caller fills in, and the crops."""
        return copy.deepcopy(self._prediction), self._crops
