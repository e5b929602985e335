r"""Write a detector to one file for programs without this package: ONNX or TorchScript.

  $ roga-domainbed export runs/roga --format onnx --output roga.onnx
  RoGA, trained on SynthFake DF, F2F, FS (not NT), split official, trial_seed 0, hparams_seed 0, seed 1542524416
  images: uint8, N x 64 x 64 x 3, RGB  ->  probability_of_fake: float32, N
  largest difference of p(fake) on 100 images: 9.1e-08 (they are between 0.509 and 0.580)
  Written to roga.onnx (0.1 MB)

RUN is the output folder of a training, for its model.pkl, or a model file. The images are crops of faces as the model
was trained on, resized to the side that the second line says. Scaling, normalization and softmax are in the file. N is
any number. Before the file is put in place, its answers are compared with the model's.

ONNX (.onnx) needs: pip install 'roga-domainbed[export]'. TorchScript (.pt) needs torch alone.
"""

from __future__ import annotations

import argparse
import os
from importlib.util import find_spec
from pathlib import Path

from roga_domainbed.cli.arguments import add_class_names
from roga_domainbed.errors import MissingExtra, Problems, unknown_name

SUFFIXES = {"onnx": ".onnx", "torchscript": ".pt"}
_PACKAGES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "torchscript": ()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, the format, the file."""
    parser.add_argument("run", metavar="RUN", help="output folder of a training, or a model file")
    parser.add_argument("--format", required=True, help=" or ".join(SUFFIXES))
    parser.add_argument(
        "--output", required=True, metavar="FILE", help=f"the file: {' or '.join(SUFFIXES.values())}"
    )
    add_class_names(parser, "class of the model")


def run(args: argparse.Namespace) -> int:
    """Write the file."""
    _check(args)
    from roga_domainbed.inference.export import INPUT, N_CHECKED, OUTPUT, export

    found = export(args.run, args.output, args.format, real=args.real, fake=args.fake)
    side = found.side
    print(found.run.describe())
    print(f"{INPUT}: uint8, N x {side} x {side} x 3, RGB  ->  {OUTPUT}: float32, N")
    print(
        f"largest difference of p(fake) on {N_CHECKED} images: {found.difference:.1e} "
        f"(they are between {found.lowest:.3f} and {found.highest:.3f})"
    )
    print(f"Written to {args.output} ({found.n_bytes / 1e6:.1f} MB)")
    return 0


def _check(args: argparse.Namespace) -> None:
    problems = Problems()
    if args.format not in SUFFIXES:
        problems.add(unknown_name("format", args.format, SUFFIXES))
    else:
        for package in _PACKAGES[args.format]:
            if find_spec(package) is None:
                problems.add(str(MissingExtra(package, "export", f"--format {args.format}")))
        _check_file(args.output, args.format, problems)
    problems.check()


def _check_file(name: str, kind: str, problems: Problems) -> None:
    path = Path(name)
    if path.suffix != SUFFIXES[kind]:
        problems.add(f"--output {name!r} must end in {SUFFIXES[kind]} for --format {kind}")
    elif path.is_dir():
        problems.add(f"--output {name!r} is a folder; give the name of a file")
    elif not path.parent.is_dir():
        problems.add(f"--output {name!r}: the folder {str(path.parent)!r} does not exist")
    elif os.path.lexists(path):
        from roga_domainbed.inference.export import is_exported

        if not is_exported(path, kind):
            problems.add(f"--output {name!r} holds something else; choose another name, or remove it")
