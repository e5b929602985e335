"""The probability of being fake of the faces in images and videos, and its printed forms."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from datasets_ext.prepare.options import CropOptions
from roga_domainbed.engine.lib.misc import evaluation_mode
from roga_domainbed.errors import Problems
from roga_domainbed.inference.detector import as_detector, check_said
from roga_domainbed.inference.faces import (
    Face,
    FaceCutter,
    Prediction,
    crops_of_training,
    find_inputs,
    in_words,
)
from roga_domainbed.inference.model_inputs import to_tensor
from roga_domainbed.inference.saved_run import SavedRun, load_run
from roga_domainbed.inference.unlike import UNLIKE, distances
from roga_domainbed.inference.verdicts import UNDECIDED, Verdicts, verdicts
from roga_domainbed.results.csv_table import csv_table
from roga_domainbed.trainer.calibration import calibrated
from roga_domainbed.trainer.evaluation import decide

if TYPE_CHECKING:
    from roga_domainbed.inference.explain.verdicts import KeptCrops

BATCH_SIZE = 64
_CSV_COLUMNS = (
    "path kind level frame x y width height detection_score probability calibrated verdict distance unlike "
    "error"
).split()
_VERDICT_WIDTH = len(UNDECIDED)


@dataclass
class Predictions:
    """A model's predictions for some files.

    Attributes:
        run: the model.
        options: how faces were cut out; None if every picture was taken whole.
        crops: the same in words.
        files: one entry a file.
        verdicts: how probabilities are judged.
    """

    run: SavedRun
    options: CropOptions | None
    crops: str
    files: list[Prediction]
    verdicts: Verdicts

    def verdict(self, prediction: Prediction, face: Face) -> str:
        """On a face of an image, or on the whole video that it is of."""
        of_video = self._of_video(prediction)["verdict"]
        return self.verdicts.of_image(face.probability) if of_video is None else of_video

    def as_json(self) -> str:
        """Everything, as one JSON object."""
        known = self.run.familiarity
        content = {
            "model": str(self.run.path),
            "trained_on": self.run.describe(),
            "crops": {"in_words": self.crops, **(asdict(self.options) if self.options else {})},
            "threshold": asdict(self.verdicts),
            "familiarity": known and {"limit": known.limit, "n_images": known.n_images},
            "results": [self._as_plain(prediction) for prediction in self.files],
        }
        return json.dumps(content, indent=1) + "\n"

    def _as_plain(self, prediction: Prediction) -> dict[str, Any]:
        faces = [
            {**asdict(face), "verdict": self.verdicts.of_image(face.probability)} for face in prediction.faces
        ]
        return {
            **asdict(prediction),
            "faces": faces,
            **self._of_video(prediction),
            "unlike": prediction.unlike,
            "error": prediction.error or None,
            "note": prediction.note or None,
        }

    def _of_video(self, prediction: Prediction) -> dict[str, Any]:
        """The probabilities and the verdict of a video with faces; None of an image, whose faces have their own."""
        mean, faces = prediction.probability, prediction.faces
        if mean is None:
            return dict.fromkeys(("probability", "calibrated", "verdict"))
        is_known = all(face.calibrated is not None for face in faces)
        return {
            "probability": mean,
            "calibrated": float(np.mean([face.calibrated for face in faces])) if is_known else None,
            "verdict": self.verdicts.of_video(mean, [face.probability for face in faces]),
        }

    def as_csv(self) -> str:
        """A row a face, and a row a video with its mean."""
        rows: list[dict[str, Any]] = []
        for prediction in self.files:
            common = {"path": prediction.path, "kind": prediction.kind}
            if not prediction.faces:
                rows.append({**common, "error": prediction.error or "no face"})
            for face in prediction.faces:
                box = dict(zip(("x", "y", "width", "height"), face.box or (), strict=False))
                row = {"level": "face", "frame": face.frame, "detection_score": face.detection_score, **box}
                row |= {"probability": face.probability, "calibrated": face.calibrated}
                row |= {"distance": face.distance, "unlike": face.unlike}
                rows.append({**common, **row, "verdict": self.verdicts.of_image(face.probability)})
            if prediction.probability is not None:
                row = {"level": "video", "unlike": prediction.unlike, "error": prediction.note}
                rows.append({**common, **row, **self._of_video(prediction)})
        return csv_table(rows, _CSV_COLUMNS)

    def as_text(self) -> str:
        """A line a face of an image, a line a video; before them the thresholds, behind them what is unlike."""
        lines = [self.run.describe(), self.crops, *self._thresholds(), "", "p(fake)"]
        lines += [line for prediction in self.files for line in self._lines(prediction)]
        return "\n".join([*lines, *self._about_unlike()]) + "\n"

    def _thresholds(self) -> list[str]:
        kinds = {prediction.kind for prediction in self.files}
        return [f"threshold {words}" for words in self.verdicts.in_words("video" in kinds, "image" in kinds)]

    def _about_unlike(self) -> list[str]:
        known = self.run.familiarity
        with_faces = [prediction for prediction in self.files if prediction.faces]
        if known is None:
            return [
                "",
                "Whether these are like what the model was trained on is not known: it was saved without that.",
            ]
        n = sum(prediction.unlike is True for prediction in with_faces)
        if not n:
            return []
        return [
            "",
            f"{n} of {_plural(len(with_faces), 'file')} {'is' if n == 1 else 'are'} {UNLIKE}: further from its "
            f"{known.n_images:,} training images than 99 % of",
            "its validation images are. How often it errs there is not known, and no threshold holds: do not rely on "
            "these verdicts.",
        ]

    def _lines(self, prediction: Prediction) -> list[str]:
        path, faces = prediction.path, prediction.faces
        if prediction.error:
            return [_line(None, "", prediction.error)]
        note = f" ({prediction.note})" if prediction.note else ""
        if not faces:
            where = f" in {_plural(prediction.n_frames, 'frame')}" if prediction.n_frames else ""
            return [_line(None, "", f"{path}: no face{where}{note}")]
        if prediction.kind == "video":
            low, high = (f(face.probability for face in faces) for f in (min, max))
            what = f"mean of {_plural(len(faces), 'face')} in {_plural(prediction.n_frames, 'frame')}"
            what += f", {low:.3f} to {high:.3f}{note}{_warning(prediction)}"
            judged = self._of_video(prediction)
            return [_line(judged["probability"], judged["verdict"], f"{path}: {what}")]
        return [
            _line(
                face.probability,
                self.verdicts.of_image(face.probability),
                path + _where(face, number, len(faces)) + _warning(face),
            )
            for number, face in enumerate(faces, 1)
        ]


def predict(
    where: str,
    inputs: Sequence[str],
    options: Mapping[str, Any],
    *,
    detect: bool = True,
    frames: bool = False,
    real: Collection[str] = (),
    fake: Collection[str] = (),
    kept: KeptCrops | None = None,
    threshold: str | float | None = None,
) -> Predictions:
    """Predict with a saved model; on a terminal, stderr shows a progress bar.

    Args:
        where: the run's folder, or a model file.
        inputs: images, videos, and folders of them.
        options: those of ``CropOptions`` that differ from how the training data was cut.
        detect: False takes every picture whole.
        frames: a folder of images is a video, and they are its frames.
        real: the class of the model that is real, if its name does not say so.
        fake: the one that is fake.
        kept: keeps the crops that are to be explained.
        threshold: see ``verdicts.verdicts``.

    Raises:
        RogaError: a missing input or package, no such run, a model for other inputs or other classes, or without the
            threshold.
    """
    files = find_inputs(inputs, frames=frames)
    run = load_run(where)
    check_said(run, (), real, fake)
    as_detector(run, "predict", real, fake)
    judged = verdicts(run, threshold)
    trained, origin = crops_of_training(run)
    cut = replace(trained, **options)
    problems = Problems()
    for message in cut.problems():  # an option may not go with how the training data was cut
        problems.add(message)
    problems.check()
    cutter = FaceCutter(cut, detect=detect, kinds=[kind for _, kind in files])
    if kept is not None:
        cutter = kept.before(cutter, run)
    predictions = list(predict_files(run, files, cutter))
    if not detect:
        taken = f"pictures taken whole, {cut.n_frames} frames a video"
        return Predictions(run, None, taken, predictions, judged)
    changed = f"; by option: {', '.join(options)}" if options else ""
    return Predictions(run, cut, in_words(cut, origin + changed), predictions, judged)


def predict_files(
    run: SavedRun, files: Sequence[tuple[str, str]], cutter: FaceCutter
) -> Iterator[Prediction]:
    """The prediction for each (path, ``image``, ``video`` or ``frames``), in order; files share batches on the device.

    On a terminal, stderr shows a progress bar.

    Args:
        run: a detector; see ``as_detector``.
        files: with their kinds.
        cutter: cuts the faces out.
    """
    from tqdm import tqdm

    read = to_tensor(run)
    waiting: list[Prediction] = []
    faces: list[Face] = []
    model_inputs: list[torch.Tensor] = []
    for path, kind in tqdm(files, unit="file", disable=None, leave=False):
        prediction, crops = cutter.cut(path, kind)
        waiting.append(prediction)
        faces += prediction.faces
        model_inputs += map(read, crops)
        if len(model_inputs) >= BATCH_SIZE:
            _score(run, faces, model_inputs)
            yield from map(_without_nan, waiting)
            waiting, faces, model_inputs = [], [], []
    _score(run, faces, model_inputs)
    yield from map(_without_nan, waiting)


@torch.inference_mode()
def _score(run: SavedRun, faces: Sequence[Face], model_inputs: Sequence[torch.Tensor]) -> None:
    with evaluation_mode(run.algorithm), distances(run) as found:
        for start in range(0, len(model_inputs), BATCH_SIZE):
            batch = torch.stack(model_inputs[start : start + BATCH_SIZE]).to(run.device)
            with run.autocast():
                logits = run.algorithm.predict(batch).float().reshape(len(batch), -1).cpu()
            _, probabilities = decide(logits)
            some = faces[start : start + BATCH_SIZE]
            for face, (_, fake) in zip(some, probabilities, strict=True):
                face.probability = float(fake)
            if run.calibration is not None:
                for face, value in zip(
                    some, calibrated(probabilities, run.calibration.temperature), strict=True
                ):
                    face.calibrated = float(value)
            far = found()
            if len(far) == len(some):
                for face, distance in zip(some, far, strict=True):
                    face.distance, face.unlike = float(distance), bool(distance > run.familiarity.limit)


def _without_nan(prediction: Prediction) -> Prediction:
    """``prediction``; one whose network output is NaN is an error, and never a verdict."""
    n_odd = sum(not math.isfinite(face.probability) for face in prediction.faces)
    if n_odd:
        faces = _plural(len(prediction.faces), "face")
        error = f"{prediction.path}: no verdict: the network's output is NaN for {n_odd} of {faces}"
        return replace(prediction, faces=[], error=error)
    return prediction


def _line(probability: float | None, verdict: str, text: str) -> str:
    number = "    -" if probability is None else f"{probability:.3f}"
    return f"  {number}  {verdict:<{_VERDICT_WIDTH}}  {text}"


def _warning(seen: Face | Prediction) -> str:
    return f"; {UNLIKE}" if seen.unlike else ""


def _where(face: Face, number: int, count: int) -> str:
    if face.box is None:
        return ""
    x, y, width, height = map(round, face.box)
    return f": face {number} of {count}, {width}x{height} at {x},{y}"


def _plural(n: int | None, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
