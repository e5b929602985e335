r"""A probability of being fake for the faces in images, folders of them, and videos.

  $ roga-domainbed predict runs/roga clip.mp4 photos/
  RoGA, trained on FFPP DF, F2F, FS (not NT), split official, trial_seed 0, hparams_seed 0, seed 0
  faces by yunet, margin 1.3, 256 pixels, 32 frames a video (as in data/FFPP/prepare-report.json)
  threshold 0.512, equal error on 13440 validation frames of DF, F2F, FS; undecided up to 0.913, 1 % false alarms
  threshold 0.498, equal error on 420 validation videos of DF, F2F, FS; undecided up to 0.744, 1 % false alarms

  p(fake)
    0.973  fake       clip.mp4: mean of 31 faces in 32 frames, 0.812 to 0.998
    0.120  real       photos/two.jpg: face 1 of 2, 64x80 at 120,88
    0.655  undecided  photos/two.jpg: face 2 of 2, 40x52 at 301,95
        -             photos/sea.jpg: no face

RUN is the output folder of a training, for its model.pkl, or a model file. Faces are found and cut out as 'prepare' did
for the training data: every face of an image; in a video, the face of its main person in evenly spaced frames. Scores
of other crops are not comparable. --no_detect takes pictures that are crops already. With --frames, each folder of
images is a video, and the images are its frames. A file that cannot be read is named, the others are processed, and the
exit status is 1. Finding faces and reading videos need the extra 'prepare'. Which of the model's two classes is fake,
their names tell (real, original, fake, not_fake …); if they do not, say so with --real NAME --fake NAME.

The thresholds are of the model's validation data. A video whose frames disagree is undecided, too. --threshold decides
alone: eer, fpr=0.01, fpr=0.05, or a probability. What is unlike anything the model was trained on is marked.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from roga_domainbed.cli.arguments import add_class_names, add_threshold, parsed_threshold
from roga_domainbed.cli.verdicts import add_explain_argument, check_explain, crops_to_keep, draw
from roga_domainbed.errors import Problems, unknown_name

FORMATS = ("text", "json", "csv")
_CROPS = ("margin", "size", "n_frames", "detector", "align")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, the files, the crops, the output format."""
    parser.add_argument("run", metavar="RUN", help="output folder of a training, or a model file")
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
        help="do not detect faces: every picture, and every frame of a video, is a crop already",
    )
    parser.add_argument(
        "--frames",
        action="store_true",
        help="a folder of images is a video: they are its frames, in order of their names",
    )
    add_class_names(parser, "class of the model")
    add_threshold(parser, "eer, and undecided between it and fpr=0.01; 0.5 for a model without these")
    add_explain_argument(parser)
    parser.add_argument("--format", default="text", help=f"{', '.join(FORMATS)} (default text)")


def run(args: argparse.Namespace) -> int:
    """Print the probabilities; 1 if a file could not be read."""
    threshold = _check(args)
    from roga_domainbed.inference.predict import predict

    options, kept = _given(args, *_CROPS), crops_to_keep(args)
    found = predict(
        args.run,
        args.inputs,
        options,
        detect=not args.no_detect,
        frames=args.frames,
        real=args.real,
        fake=args.fake,
        kept=kept,
        threshold=threshold,
    )
    forms = {"text": found.as_text, "json": found.as_json, "csv": found.as_csv}
    # File names need not be text; what cannot be printed must not stop the printing.
    sys.stdout.write(_printable(forms[args.format]()))
    if kept is not None:
        draw(args, found, kept)
    errors = [prediction.error for prediction in found.files if prediction.error]
    for error in errors if args.format != "text" else ():
        print(_printable(error), file=sys.stderr)
    return int(bool(errors))


def _given(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    return {name: value for name, value in vars(args).items() if name in names and value is not None}


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _check(args: argparse.Namespace) -> str | float | None:
    """The threshold, once nothing is wrong with the arguments."""
    from datasets_ext.prepare.options import CropOptions

    problems = Problems()
    if args.format not in FORMATS:
        problems.add(unknown_name("format", args.format, FORMATS))
    check_explain(args, problems)
    for message in CropOptions(**_given(args, "n_frames", "size", "margin", "detector")).problems():
        problems.add(message)
    if args.no_detect:
        useless = [f"--{name}" for name in _given(args, "margin", "size", "detector", "align")]
        if useless:
            problems.add(f"--no_detect cuts nothing out: leave out {', '.join(useless)}")
    threshold = parsed_threshold(args.threshold, problems)
    problems.check()
    return threshold
