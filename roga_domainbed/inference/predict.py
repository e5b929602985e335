"""The probability of being fake of the faces in images and videos, and its printed forms."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from datasets_ext.prepare.options import CropOptions
from roga_domainbed.engine.lib.misc import evaluation_mode
from roga_domainbed.errors import Problems
from roga_domainbed.foreign import csv_cell
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
from roga_domainbed.trainer.evaluation import decide

if TYPE_CHECKING:
    from roga_domainbed.inference.explain.verdicts import KeptCrops

BATCH_SIZE = 64
THRESHOLD = 0.5
_CSV_COLUMNS = "path kind level frame x y width height detection_score probability verdict error".split()


@dataclass
class Predictions:
    """A model's predictions for some files.

    Attributes:
        run: the model.
        options: how faces were cut out; None if every picture was taken whole.
        crops: the same in words.
        files: one entry a file.
    """

    run: SavedRun
    options: CropOptions | None
    crops: str
    files: list[Prediction]

    def verdict(self, probability: float) -> str:
        """``fake`` or ``real``."""
        return _verdict(probability)

    def as_json(self) -> str:
        """Everything, as one JSON object."""
        content = {
            "model": str(self.run.path),
            "trained_on": self.run.describe(),
            "crops": {"in_words": self.crops, **(asdict(self.options) if self.options else {})},
            "threshold": THRESHOLD,
            "results": [
                {
                    **asdict(prediction),
                    "probability": prediction.probability,
                    "error": prediction.error or None,
                    "note": prediction.note or None,
                }
                for prediction in self.files
            ],
        }
        return json.dumps(content, indent=1) + "\n"

    def as_csv(self) -> str:
        """A row a face, and a row a video with its mean."""
        file = io.StringIO()
        writer = csv.DictWriter(file, _CSV_COLUMNS, lineterminator="\n")
        rows: list[dict[str, Any]] = []
        for prediction in self.files:
            common = {"path": prediction.path, "kind": prediction.kind}
            if not prediction.faces:
                rows.append({**common, "error": prediction.error or "no face"})
            for face in prediction.faces:
                box = dict(zip(("x", "y", "width", "height"), face.box or (), strict=False))
                row = {"level": "face", "frame": face.frame, "detection_score": face.detection_score, **box}
                rows.append({**common, **row, **_answer(face.probability)})
            mean = prediction.probability
            if mean is not None:
                row = {"level": "video", "error": prediction.note}
                rows.append({**common, **row, **_answer(mean)})
        writer.writeheader()
        writer.writerows({name: csv_cell(value) for name, value in row.items()} for row in rows)
        return file.getvalue()

    def as_text(self) -> str:
        """A line a face of an image, a line a video."""
        lines = [self.run.describe(), self.crops, "", "p(fake)"]
        lines += [line for prediction in self.files for line in _lines(prediction)]
        return "\n".join(lines) + "\n"


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

    Raises:
        RogaError: a missing input or package, no such run, a model for other inputs or other classes.
    """
    files = find_inputs(inputs, frames=frames)
    run = load_run(where)
    check_said(run, (), real, fake)
    as_detector(run, "predict", real, fake)
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
        return Predictions(run, None, f"pictures taken whole, {cut.n_frames} frames a video", predictions)
    changed = f"; by option: {', '.join(options)}" if options else ""
    return Predictions(run, cut, in_words(cut, origin + changed), predictions)


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
    with evaluation_mode(run.algorithm):
        for start in range(0, len(model_inputs), BATCH_SIZE):
            batch = torch.stack(model_inputs[start : start + BATCH_SIZE]).to(run.device)
            with run.autocast():
                logits = run.algorithm.predict(batch).float().reshape(len(batch), -1).cpu()
            _, probabilities = decide(logits)
            for face, (_, fake) in zip(faces[start : start + BATCH_SIZE], probabilities, strict=True):
                face.probability = float(fake)


def _without_nan(prediction: Prediction) -> Prediction:
    """``prediction``; one whose network output is NaN is an error, and never a verdict."""
    n_odd = sum(not math.isfinite(face.probability) for face in prediction.faces)
    if n_odd:
        faces = _plural(len(prediction.faces), "face")
        error = f"{prediction.path}: no verdict: the network's output is NaN for {n_odd} of {faces}"
        return replace(prediction, faces=[], error=error)
    return prediction


def _lines(prediction: Prediction) -> list[str]:
    path, faces = prediction.path, prediction.faces
    if prediction.error:
        return [f"      -        {prediction.error}"]
    note = f" ({prediction.note})" if prediction.note else ""
    if not faces:
        where = f" in {_plural(prediction.n_frames, 'frame')}" if prediction.n_frames else ""
        return [f"      -        {path}: no face{where}{note}"]
    if prediction.kind == "video":
        low, high = (f(face.probability for face in faces) for f in (min, max))
        what = f"mean of {_plural(len(faces), 'face')} in {_plural(prediction.n_frames, 'frame')}"
        return [_line(prediction.probability, f"{path}: {what}, {low:.3f} to {high:.3f}{note}")]
    return [
        _line(face.probability, path + _where(face, number, len(faces)))
        for number, face in enumerate(faces, 1)
    ]


def _line(probability: float, text: str) -> str:
    return f"  {probability:.3f}  {_verdict(probability)}  {text}"


def _where(face: Face, number: int, count: int) -> str:
    if face.box is None:
        return ""
    x, y, width, height = map(round, face.box)
    return f": face {number} of {count}, {width}x{height} at {x},{y}"


def _answer(probability: float) -> dict[str, Any]:
    return {"probability": probability, "verdict": _verdict(probability)}


def _verdict(probability: float) -> str:
    return "fake" if probability > THRESHOLD else "real"


def _plural(n: int | None, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
