"""Cut the faces out of a dataset as distributed, and write its manifest.

    $ roga-domainbed prepare ffpp --source ~/FaceForensics++ --data_dir ~/data --n_workers 8
    FFPP: 224 crops of 7 videos in /home/you/data/FFPP
      class           expected  found  prepared  crops
      real                1000      3         3     96
      Deepfakes           1000      1         1     32
      …
      dropped, the file has zero bytes: 1 video (real/021)

The crops are in ~/data/FFPP/<DF|F2F|FS|NT>/{0_real,1_fake}/<video>/<frame>.png, beside manifest.parquet and
prepare-report.html with everything that was dropped, and why. If a run is interrupted, run the same command again: it
resumes. The source is only read. 'roga-domainbed prepare ffpp --help' lists the options of one dataset.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from datasets_ext import manifest
from datasets_ext.prepare import (
    celebdf,
    csv_list,
    deepfakebench,
    dfd,
    dfdc,
    dfdcp,
    driver,
    ffpp,
    identities,
    plain_folders,
    uadfv,
)
from datasets_ext.prepare.detectors import DETECTORS
from datasets_ext.prepare.ffpp_layout import COMPRESSION, COMPRESSIONS, FACESHIFTER, Part
from datasets_ext.prepare.layout import Layout
from datasets_ext.prepare.link import LINKS, LinkOptions
from datasets_ext.prepare.options import IMAGE_FORMATS, CropOptions, Options
from datasets_ext.selfblend import photographs
from datasets_ext.selfblend.options import RATE_FACTORS, BlendOptions
from roga_domainbed.cli.arguments import add_class_names
from roga_domainbed.errors import Problems
from roga_domainbed.processes import usable_cpus

_CROP_FLAGS = ("size", "margin", "detector", "min_score", "align", "image_format")  # fields of CropOptions


def _given_crop_flags(args: argparse.Namespace) -> dict[str, Any]:
    """The crop flags that the user gave: they have no default in the parser, but in ``CropOptions``."""
    return {name: getattr(args, name) for name in _CROP_FLAGS if hasattr(args, name)}


def _crop_options(args: argparse.Namespace) -> Options:
    return CropOptions(args.n_frames, **_given_crop_flags(args))


def _link_options(args: argparse.Namespace) -> Options:
    return LinkOptions(args.n_frames, args.link)


def _blend_options(args: argparse.Namespace) -> Options:
    return BlendOptions(
        args.n_frames, compression=args.compression, seed=args.seed, **_given_crop_flags(args)
    )


def _own_options(args: argparse.Namespace) -> Options:
    return _crop_options(args) if args.link is None else _link_options(args)


def _refuse_crop_flags(args: argparse.Namespace, problems: Problems) -> None:
    given = ", ".join(f"--{name}" for name in _given_crop_flags(args))
    if args.link is not None and given:
        problems.add(
            f"--link {args.link} takes images as they are, so {given} would have no effect: leave out --link to have "
            f"faces cut out of them, or leave out {given}"
        )


def _read_csv(args: argparse.Namespace, problems: Problems) -> Layout:
    _refuse_crop_flags(args, problems)
    return csv_list.read(args.list, args.name, problems, args.link is not None)


def _read_folders(args: argparse.Namespace, problems: Problems) -> Layout:
    _refuse_crop_flags(args, problems)
    return plain_folders.read(
        args.source, args.name, args.real, args.fake, args.identity, problems, args.link is not None
    )


@dataclass(frozen=True)
class _Command:
    """One dataset.

    Attributes:
        summary: one line of help.
        description: the long help.
        add_options: adds its own flags.
        read: its reader.
        options: what decides its files.
        finds_faces: whether it has the flags of ``CropOptions``.
        n_frames: default of ``--n_frames``.
    """

    summary: str
    description: str | None
    add_options: Callable[[argparse.ArgumentParser], None]
    read: Callable[[argparse.Namespace, Problems], Layout]
    options: Callable[[argparse.Namespace], Options] = _crop_options
    finds_faces: bool = True
    n_frames: int = CropOptions().n_frames


def _source(help_text: str) -> Callable[[argparse.ArgumentParser], None]:
    def add_source(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--source", required=True, metavar="DIR", help=help_text)

    return add_source


def _add_compression(parser: argparse.ArgumentParser, default: str | None = COMPRESSION) -> None:
    parser.add_argument(
        "--compression",
        choices=COMPRESSIONS,
        default=default,
        help="c23 (light, the default), c40 (strong) or raw; the dataset's name ends in _c40 or _raw for these",
    )


def _add_splits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--splits",
        metavar="DIR",
        help="folder of train.json, val.json and test.json; default: the source, its splits/ or dataset/splits/",
    )


def _add_ffpp(parser: argparse.ArgumentParser) -> None:
    _source("the folder with original_sequences/ and manipulated_sequences/")(parser)
    _add_compression(parser)
    _add_splits(parser)


def _add_dfd(parser: argparse.ArgumentParser) -> None:
    _source("the folder with original_sequences/actors/ and manipulated_sequences/DeepFakeDetection/")(parser)
    _add_compression(parser)


def _add_deepfakebench(parser: argparse.ArgumentParser) -> None:
    _source("the benchmark's folder 'rgb', or the dataset's folder in it")(parser)
    parser.add_argument(
        "--json", required=True, nargs="+", metavar="FILE", help="the index; several files of one dataset"
    )
    _add_compression(parser, None)  # a dataset without compressions refuses it
    _add_splits(parser)
    _add_link(parser, "copy")


def _add_link(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument(
        "--link",
        choices=list(LINKS),
        default=default,
        help="take images as they are, as copies or links"
        + (f"; default {default}" if default else "; without this, faces are cut out of them"),
    )


def _add_csv(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--list",
        required=True,
        metavar="FILE",
        help=f"CSV file with the columns {', '.join(csv_list.COLUMNS)}, …",
    )
    parser.add_argument("--name", required=True, help="name of the dataset and its folder")
    _add_link(parser, None)


def _add_folder(parser: argparse.ArgumentParser) -> None:
    _source("the folder of the environments, with real and fake folders in each")(parser)
    parser.add_argument("--name", help="name of the dataset and its folder; default: that of the source")
    add_class_names(parser, "class folder")
    parser.add_argument("--identity", metavar="RULE", help=f"{identities.HELP}; default: nobody is known")
    _add_link(parser, None)


def _add_selfblend(parser: argparse.ArgumentParser) -> None:
    default = BlendOptions()
    parser.add_argument(
        "--faces", required=True, metavar="DIR", help="folder of photographs, one face in each"
    )
    parser.add_argument(
        "--identity",
        default="stem",
        metavar="RULE",
        help=f"{identities.HELP}; default %(default)s",
    )
    parser.add_argument(
        "--compression",
        choices=list(RATE_FACTORS),
        default=default.compression,
        help="H.264 as in FaceForensics++: c23 light, c40 strong; default %(default)s",
    )
    parser.add_argument(
        "--seed", type=int, default=default.seed, help="of everything random; default %(default)s"
    )
    _add_crop_flags(parser, "size", "margin")


def _ffpp(summary: str, *part: Part) -> _Command:
    return _Command(
        summary,
        ffpp.__doc__,
        _add_ffpp,
        lambda args, problems: ffpp.read(args.source, args.compression, args.splits, problems, *part),
    )


def _from_source(summary: str, module: ModuleType, help_text: str, *options: Any) -> _Command:
    """A dataset whose reader takes the source, ``options`` and the problems."""
    return _Command(
        summary,
        module.__doc__,
        _source(help_text),
        lambda args, problems: module.read(args.source, *options, problems),
    )


_CELEBDF = "the folder with Celeb-real/, YouTube-real/, Celeb-synthesis/ and the list of testing videos"
_DFDC = "a folder with videos and a metadata.json or labels.csv, or the folder of several"
_DFDCP = "the folder with original_videos/, method_A/, method_B/ and dataset.json"
COMMANDS = {
    "ffpp": _ffpp("FaceForensics++: DF, F2F, FS, NT"),
    "faceshifter": _ffpp("FaceShifter, from FaceForensics++'s download", FACESHIFTER),
    "dfd": _Command(
        "DeepFakeDetection, from FaceForensics++'s download",
        dfd.__doc__,
        _add_dfd,
        lambda args, problems: dfd.read(args.source, args.compression, problems),
    ),
    "celebdf1": _from_source("Celeb-DF v1", celebdf, _CELEBDF, 1),
    "celebdf2": _from_source("Celeb-DF v2", celebdf, _CELEBDF, 2),
    "dfdc": _from_source("DFDC: train parts, validation, test", dfdc, _DFDC),
    "dfdcp": _from_source("DFDC preview", dfdcp, _DFDCP),
    "uadfv": _from_source("UADFV", uadfv, "the folder with real/ and fake/"),
    "deepfakebench": _Command(
        "frames preprocessed by DeepfakeBench, with its JSON index",
        deepfakebench.__doc__,
        _add_deepfakebench,
        lambda args, problems: deepfakebench.read(
            args.source, args.json, args.compression, args.splits, problems
        ),
        _link_options,
        finds_faces=False,
    ),
    "csv": _Command(
        "any videos or images, listed in a CSV file",
        csv_list.__doc__,
        _add_csv,
        _read_csv,
        _own_options,
    ),
    "folder": _Command(
        "your own images and videos in plain folders, real and fake",
        plain_folders.__doc__,
        _add_folder,
        _read_folders,
        _own_options,
    ),
    "selfblend": _Command(
        "your face photographs, manipulated: DF, F2F, FS, NT",
        photographs.__doc__,
        _add_selfblend,
        lambda args, problems: photographs.read(
            args.faces, args.identity, args.compression, args.seed, problems
        ),
        _blend_options,
        finds_faces=False,
        n_frames=BlendOptions().n_frames,
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A subcommand for each dataset."""
    datasets = parser.add_subparsers(dest="prepared", metavar="DATASET", required=True)
    for name, command in COMMANDS.items():
        sub = datasets.add_parser(name, help=command.summary, description=command.description)
        sub.formatter_class = argparse.RawDescriptionHelpFormatter
        command.add_options(sub)
        if command.finds_faces:
            _add_crop_flags(sub, *_CROP_FLAGS)
        _add_common(sub, command.n_frames)


def run(args: argparse.Namespace) -> int:
    """Prepare and print the summary."""
    command = COMMANDS[args.prepared]
    report = driver.prepare(
        lambda problems: command.read(args, problems),
        args.data_dir,
        command.options(args),
        args.n_workers,
        args.overwrite,
    )
    print(report.summary())
    print(f"next: {_next_command(report.dataset, args.data_dir)}")
    return 0


def _next_command(name: str, data_dir: str) -> str:
    """What a person would type now: a sweep over the environments, or for a single one a check of its files."""
    rows = manifest.read(Path(data_dir, name))
    if rows["env"].nunique() == 1:
        return shlex.join(["roga-domainbed", "data", "verify", data_dir, "--dataset", name])
    words = ["roga-domainbed", "sweep", "launch", "--datasets", name, "--algorithms", "ERM", "RoGA"]
    words += ["--n_hparams", "1", "--single_test_envs"]
    words += [] if rows["split"].all() else ["--split", "group"]
    return shlex.join([*words, "--data_dir", data_dir, "--output_dir", f"sweeps/{name}"])


def _add_crop_flags(parser: argparse.ArgumentParser, *names: str) -> None:
    default = CropOptions()
    rows: dict[str, tuple[str, dict[str, Any]]] = {
        "size": ("side of a crop in pixels", {"type": int}),
        "margin": ("side of the square cut out, times the longer side of the face's box", {"type": float}),
        "detector": (f"one of {', '.join(DETECTORS.names())}", {}),
        "min_score": (
            "the detector's score from which on a face counts; default "
            + ", ".join(
                f"{info.min_score:g} ({info.name})" for info in DETECTORS if info.min_score is not None
            ),
            {"type": float},
        ),
        "align": ("turn and scale each face to a template of eyes, nose and mouth", {"action": "store_true"}),
        "image_format": ("png, or jpg of quality 95, a fifth of the size", {"choices": IMAGE_FORMATS}),
    }
    for name in names:
        text, how = rows[name]
        text += "" if name in ("align", "min_score") else f"; default {getattr(default, name)}"
        parser.add_argument(f"--{name}", default=argparse.SUPPRESS, help=text, **how)


def _add_common(parser: argparse.ArgumentParser, n_frames: int) -> None:
    parser.add_argument(
        "--data_dir",
        required=True,
        metavar="DIR",
        help="folder of all datasets: this one's folder is made in it",
    )
    parser.add_argument(
        "--n_frames",
        type=int,
        default=n_frames,
        help="most frames of each video, evenly spaced; of a photograph, itself and slightly moved copies; "
        "default %(default)s",
    )
    parser.add_argument(
        "--n_workers",
        type=int,
        default=usable_cpus(),
        help="processes; default: the usable CPUs (%(default)s)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="remove what an earlier run made, nothing else, and start over",
    )
