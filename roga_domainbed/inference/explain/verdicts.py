"""The heat map beside the verdict: what of each predicted file is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from roga_domainbed.inference.explain.grid import feature_maps, grid_of_crops
from roga_domainbed.inference.faces import Face, FaceCutter, Prediction
from roga_domainbed.inference.predict import Predictions

MOST_SHOWN = 24  # faces in a figure
METHOD = "gradcam"


@dataclass(frozen=True)
class Shown:
    """One face.

    Attributes:
        title: the file, by as much of its path as tells it from the others, and which face of an image.
        verdict: on the face, or on the whole video, with the probability.
        frame: which frame of the video this is, and its probability; empty for an image.
        image: (H, W, 3) uint8, as the network gets it.
        heat: (H, W) float32 in [0, 1].
    """

    title: str
    verdict: str
    frame: str
    image: np.ndarray
    heat: np.ndarray


@dataclass(frozen=True)
class Verdicts:
    """What the figure shows.

    Attributes:
        faces: at most ``MOST_SHOWN``.
        total: faces in images, and videos with a face.
        layer: where the maps are taken, in words.
    """

    faces: list[Shown]
    total: int
    layer: str


class KeptCrops:
    """Stands before a ``FaceCutter`` and keeps the crops that are drawn: all of images, of a video the most suspicious.

    Memory: the kept ones, and those of the files that wait to be scored.
    """

    def __init__(self):
        self._kept: list[tuple[Prediction, list[tuple[Face, Image.Image]]]] = []
        self._waiting: list[tuple[Prediction, list[tuple[Face, Image.Image]]]] = []
        self._cutter: FaceCutter | None = None
        self._n = 0

    def before(self, cutter: FaceCutter, run: object) -> KeptCrops:
        """Take the place of ``cutter``.

        Raises:
            RogaError: ``run`` has no heat maps.
        """
        feature_maps({"the model": run})
        self._cutter = cutter
        return self

    def cut(self, path: str, kind: str) -> tuple[Prediction, list[Image.Image]]:
        """As the ``FaceCutter`` does."""
        prediction, crops = self._cutter.cut(path, kind)
        self._waiting = [entry for entry in self._waiting if not self._settled(entry)]
        if crops and self._n < MOST_SHOWN:
            entry = prediction, list(zip(prediction.faces, crops, strict=True))
            self._n += 1 if kind == "video" else len(crops)
            self._kept.append(entry)
            self._waiting.append(entry)
        return prediction, crops

    def faces(self) -> list[tuple[Prediction, Face, Image.Image]]:
        """The kept faces that have a probability, at most ``MOST_SHOWN``."""
        for entry in self._waiting:
            self._settled(entry)
        found = [(prediction, face, crop) for prediction, own in self._kept for face, crop in own]
        return [entry for entry in found if math.isfinite(entry[1].probability)][:MOST_SHOWN]

    def _settled(self, entry: tuple[Prediction, list[tuple[Face, Image.Image]]]) -> bool:
        """Whether the faces have their probabilities; of a video, all but the highest is let go then."""
        prediction, own = entry
        if not all(math.isfinite(face.probability) for face, _ in own):
            return False
        if prediction.kind == "video":
            own[:] = [max(own, key=lambda pair: pair[0].probability)]
        return True


def verdicts(found: Predictions, kept: KeptCrops) -> Verdicts | None:
    """The heat maps of what was kept; None if no face has a verdict.

    Args:
        found: the predictions, made with ``kept``.
        kept: the crops.
    """
    faces = kept.faces()
    if not faces:
        return None
    grid = grid_of_crops(
        {"": found.run}, [crop for _, _, crop in faces], [""] * len(faces), [""] * len(faces), METHOD, []
    )
    (row,) = grid.rows
    titles = short_names([prediction.path for prediction, _, _ in faces])
    shown = [
        _shown(found, prediction, face, titles[prediction.path], cell.image, cell.heat)
        for (prediction, face, _), cell in zip(faces, row.cells, strict=True)
    ]
    total = sum(
        min(len(prediction.faces), 1) if prediction.kind == "video" else len(prediction.faces)
        for prediction in found.files
    )
    return Verdicts(shown, total, row.layer)


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """For each path its last parts, as many as tell all of them apart."""
    parts = {path: path.replace("\\", "/").split("/") for path in paths}
    for n in range(1, max(map(len, parts.values())) + 1):
        names = {path: "/".join(own[-n:]) for path, own in parts.items()}
        if len(set(names.values())) == len(names):
            break
    return names


def _shown(
    found: Predictions, prediction: Prediction, face: Face, title: str, image: np.ndarray, heat: np.ndarray
) -> Shown:
    of_video, verdict = prediction.probability, found.verdict(prediction, face)
    if of_video is not None:
        frame = f"its frame {face.frame}: {face.probability:.3f}"
        return Shown(title, f"{of_video:.3f}  {verdict}", frame, image, heat)
    if len(prediction.faces) > 1:
        number = next(i for i, other in enumerate(prediction.faces, 1) if other is face)
        title += f", face {number}"
    return Shown(title, f"{face.probability:.3f}  {verdict}", "", image, heat)
