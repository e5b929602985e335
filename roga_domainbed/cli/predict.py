r"""A probability of being fake for the faces in images, folders of them, and videos.

  $ roga-domainbed predict runs/roga clip.mp4 photos/
  RoGA, trained on FFPP DF, F2F, FS (not NT), split official, trial_seed 0, hparams_seed 0, seed 0
  faces by yunet, margin 1.3, 256 pixels, 32 frames a video (as in data/FFPP/prepare-report.json)

  p(fake)
    0.973  fake  clip.mp4: mean of 31 faces in 32 frames, 0.812 to 0.998
    0.120  real  photos/two.jpg: face 1 of 2, 64x80 at 120,88
    0.655  fake  photos/two.jpg: face 2 of 2, 40x52 at 301,95
        -        photos/sea.jpg: no face

RUN is the folder of a training, for its model.pkl, or a model file. Faces are found and cut out as 'prepare' did for
the training data: every face of an image, that of the person whom a video is of in evenly spaced frames of it. Scores
of other crops are not comparable. --no_detect takes pictures that are crops already. A file that cannot be read is
named, the others are done, and the exit status is 1. Finding faces and reading videos need the extra 'prepare'.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from roga_domainbed.errors import Problems, unknown_name

if TYPE_CHECKING:
    from datasets_ext.prepare.options import CropOptions
    from roga_domainbed.inference.faces import Face, Prediction
    from roga_domainbed.inference.saved_run import SavedRun

FORMATS = ("text", "json", "csv")
THRESHOLD = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, the files, the crop, the form of the answer."""
    parser.add_argument("run", metavar="RUN", help="folder of a training, or a model file")
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="image, video, or folder of them")
    group = parser.add_argument_group("how faces are cut out (default: as the training data was)")
    group.add_argument("--margin", type=float, help="side of the square, times the longer side of the box")
    group.add_argument("--size", type=int, help="side of a crop in pixels, before the model's own resizing")
    group.add_argument("--n_frames", type=int, help="frames of a video, evenly spaced")
    group.add_argument("--detector", help="name of the face detector")
    group.add_argument(
        "--align", action=argparse.BooleanOptionalAction, help="turn faces upright by their landmarks"
    )
    group.add_argument(
        "--no_detect",
        "--no-detect",
        action="store_true",
        help="look for no faces: every picture, and every frame of a video, is a crop already",
    )
    parser.add_argument("--format", default="text", help=f"{', '.join(FORMATS)} (default text)")


def run(args: argparse.Namespace) -> int:
    """Print the probabilities; 1 if a file could not be read."""
    _check(args)
    from tqdm import tqdm

    from roga_domainbed.inference.faces import FaceCutter, crops_of_training, find_inputs, predict
    from roga_domainbed.inference.saved_run import load_run

    files = find_inputs(args.inputs)
    saved = load_run(args.run)
    trained, origin = crops_of_training(saved)
    given = {
        name: value
        for name in ("margin", "size", "n_frames", "detector", "align")
        if (value := getattr(args, name)) is not None
    }
    options = replace(trained, **given)
    problems = Problems()
    for message in options.problems():  # an option may not go with what the training data was made with
        problems.add(message)
    problems.check()
    cutter = FaceCutter(options, detect=not args.no_detect, kinds=[kind for _, kind in files])
    progress = tqdm(files, unit="file", disable=None, leave=False)
    predictions = list(predict(saved, progress, cutter))
    crops = _crops_in_words(options, origin, given, detect=not args.no_detect)
    # File names need not be text; what cannot be printed must not stop the printing.
    text = _render(args.format, saved, None if args.no_detect else options, crops, predictions)
    sys.stdout.write(text.encode("utf-8", "backslashreplace").decode())
    failed = [prediction for prediction in predictions if prediction.error]
    if failed and args.format != "text":
        for prediction in failed:
            print(prediction.error.encode("utf-8", "backslashreplace").decode(), file=sys.stderr)
    return int(bool(failed))


def _check(args: argparse.Namespace) -> None:
    from datasets_ext.prepare.options import CropOptions

    problems = Problems()
    if args.format not in FORMATS:
        problems.add(unknown_name("format", args.format, FORMATS))
    given = {name: getattr(args, name) for name in ("n_frames", "size", "margin", "detector")}
    options = CropOptions(**{name: value for name, value in given.items() if value is not None})
    for message in options.problems():
        problems.add(message)
    if args.no_detect:
        useless = [
            f"--{name}" for name in ("margin", "size", "detector", "align") if getattr(args, name) is not None
        ]
        if useless:
            problems.add(f"--no_detect cuts nothing out: leave out {', '.join(useless)}")
    problems.check()


def _crops_in_words(options: CropOptions, origin: str, given: dict, *, detect: bool) -> str:
    if not detect:
        return f"pictures taken whole, {options.n_frames} frames a video"
    changed = f"; by option: {', '.join(given)}" if given else ""
    aligned = ", aligned" if options.align else ""
    return (
        f"faces by {options.detector}{aligned}, margin {options.margin:g}, {options.size} pixels, "
        f"{options.n_frames} frames a video ({origin}{changed})"
    )


def _render(
    form: str, saved: SavedRun, options: CropOptions | None, crops: str, predictions: Sequence[Prediction]
) -> str:
    if form == "csv":
        return _csv(predictions)
    if form == "json":
        content = {
            "model": str(saved.path),
            "trained_on": saved.describe(),
            "crops": {"in_words": crops, **(asdict(options) if options else {})},
            "threshold": THRESHOLD,
            "results": [
                {
                    **asdict(prediction),
                    "probability": prediction.probability,
                    "error": prediction.error or None,
                    "note": prediction.note or None,
                }
                for prediction in predictions
            ],
        }
        return json.dumps(content, indent=1) + "\n"
    lines = [saved.describe(), crops, "", "p(fake)"]
    return "\n".join([*lines, *(line for prediction in predictions for line in _lines(prediction))]) + "\n"


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


def _verdict(probability: float) -> str:
    return "fake" if probability > THRESHOLD else "real"


def _plural(n: int | None, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


_CSV_COLUMNS = "path kind level frame x y width height detection_score probability verdict error".split()


def _csv(predictions: Sequence[Prediction]) -> str:
    """A row a face, and a row a video with its mean."""
    file = io.StringIO()
    writer = csv.DictWriter(file, _CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for prediction in predictions:
        common = {"path": prediction.path, "kind": prediction.kind}
        if not prediction.faces:
            writer.writerow({**common, "error": prediction.error or "no face"})
        for face in prediction.faces:
            box = dict(zip(("x", "y", "width", "height"), face.box or (), strict=False))
            numbers = {"detection_score": face.detection_score, "probability": face.probability}
            verdict = _verdict(face.probability)
            writer.writerow(
                {**common, "level": "face", "frame": face.frame, **box, **numbers, "verdict": verdict}
            )
        mean = prediction.probability
        if mean is not None:
            row = {**common, "level": "video", "probability": mean, "verdict": _verdict(mean)}
            writer.writerow({**row, "error": prediction.note})
    return file.getvalue()
