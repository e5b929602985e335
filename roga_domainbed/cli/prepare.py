"""Make face crops and a manifest from a dataset as distributed.

    roga-domainbed prepare ffpp --source ~/FaceForensics++ --data_dir ~/data --n_workers 8

writes ~/data/FFPP/<DF|F2F|FS|NT>/{0_real,1_fake}/<video>/<frame>.png with manifest.parquet and prepare-report.html,
and ends with what was expected, found, made and dropped. An interrupted run is continued by the same command.
'roga-domainbed prepare ffpp --help' has the options.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from datasets_ext.prepare import celebdf, csv_list, deepfakebench, dfd, dfdc, dfdcp, driver, ffpp, uadfv
from datasets_ext.prepare.detectors import DETECTORS
from datasets_ext.prepare.ffpp_layout import COMPRESSION, COMPRESSIONS, FACESHIFTER
from datasets_ext.prepare.layout import Layout
from datasets_ext.prepare.link import LINKS, LinkOptions
from datasets_ext.prepare.options import IMAGE_FORMATS, CropOptions, Options
from datasets_ext.selfblend import photographs
from datasets_ext.selfblend.options import RATE_FACTORS, BlendOptions
from roga_domainbed.errors import Problems
from roga_domainbed.processes import usable_cpus

_OF_A_CROP = ("size", "margin", "detector", "align", "image_format")  # arguments, and fields of CropOptions


def _given_of_a_crop(args: argparse.Namespace) -> dict[str, Any]:
    """What the user said of how faces are cut out; the parser has no defaults for it, ``CropOptions`` has."""
    return {name: getattr(args, name) for name in _OF_A_CROP if hasattr(args, name)}


def _crop_options(args: argparse.Namespace) -> Options:
    return CropOptions(args.n_frames, **_given_of_a_crop(args))


def _link_options(args: argparse.Namespace) -> Options:
    return LinkOptions(args.n_frames, args.link)


def _blend_options(args: argparse.Namespace) -> Options:
    return BlendOptions(args.n_frames, compression=args.compression, seed=args.seed, **_given_of_a_crop(args))


def _csv_options(args: argparse.Namespace) -> Options:
    return _crop_options(args) if args.link is None else _link_options(args)


def _read_csv(args: argparse.Namespace, problems: Problems) -> Layout:
    given = _given_of_a_crop(args)
    if args.link is not None and given:
        options = ", ".join(f"--{name}" for name in given)
        problems.add(
            f"--link {args.link} takes images as they are, so {options} would have no effect: leave out --link to have "
            f"faces cut out of them, or leave out {options}"
        )
    return csv_list.read(args.list, args.name, problems, args.link is not None)


@dataclass(frozen=True)
class _Command:
    """One dataset: its line of help, its long help, its own arguments, its reader, what decides its files."""

    summary: str
    description: str | None
    add_options: Callable[[argparse.ArgumentParser], None]
    read: Callable[[argparse.Namespace, Problems], Layout]
    options: Callable[[argparse.Namespace], Options] = _crop_options
    finds_faces: bool = True
    n_frames: int = CropOptions().n_frames


def _source_only(help_text: str) -> Callable[[argparse.ArgumentParser], None]:
    def add_source(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--source", required=True, metavar="DIR", help=help_text)

    return add_source


def _add_compression(parser: argparse.ArgumentParser, default: str | None = COMPRESSION) -> None:
    parser.add_argument(
        "--compression",
        choices=COMPRESSIONS,
        default=default,
        help="c23 (light), c40 (strong) or raw; the last two become part of the dataset's name; "
        f"default {COMPRESSION}",
    )


def _add_splits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--splits",
        metavar="DIR",
        help="has train.json, val.json, test.json; default: the source, its splits/ or dataset/splits/",
    )


def _add_ffpp(parser: argparse.ArgumentParser) -> None:
    _source_only("has original_sequences/ and manipulated_sequences/")(parser)
    _add_compression(parser)
    _add_splits(parser)


def _add_dfd(parser: argparse.ArgumentParser) -> None:
    _source_only("has original_sequences/actors/ and manipulated_sequences/DeepFakeDetection/")(parser)
    _add_compression(parser)


def _add_deepfakebench(parser: argparse.ArgumentParser) -> None:
    _source_only("the benchmark's folder 'rgb', or that of the dataset in it")(parser)
    parser.add_argument(
        "--json", required=True, nargs="+", metavar="FILE", help="its index; several of one dataset together"
    )
    _add_compression(parser, None)  # so that it is noticed where it has no effect
    _add_splits(parser)
    _add_link(parser, "copy")


def _add_link(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument(
        "--link",
        choices=list(LINKS),
        default=default,
        help="how images that are crops already get into the dataset"
        + (f"; default {default}" if default else "; without it faces are looked for in them"),
    )


def _add_csv(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--list", required=True, metavar="FILE", help=f"CSV file: {', '.join(csv_list.COLUMNS)}, …"
    )
    parser.add_argument("--name", required=True, help="the dataset's name, and that of its folder")
    _add_link(parser, None)


def _add_selfblend(parser: argparse.ArgumentParser) -> None:
    default = BlendOptions()
    parser.add_argument("--faces", required=True, metavar="DIR", help="has photographs, one face in each")
    parser.add_argument(
        "--identity",
        default="stem",
        metavar="RULE",
        help="who is in a photograph: stem (every file another person), folder, or a regular expression that "
        "matches the person in the file's name; default %(default)s",
    )
    parser.add_argument(
        "--compression",
        choices=list(RATE_FACTORS),
        default=default.compression,
        help="H.264 as FaceForensics++: c23 light, c40 strong; default %(default)s",
    )
    parser.add_argument(
        "--seed", type=int, default=default.seed, help="of all that is random; default %(default)s"
    )
    _add_square(parser)


_CELEBDF = _source_only("has Celeb-real/, YouTube-real/, Celeb-synthesis/ and the list of testing videos")
COMMANDS = {
    "ffpp": _Command(
        "FaceForensics++: DF, F2F, FS, NT",
        ffpp.__doc__,
        _add_ffpp,
        lambda args, problems: ffpp.read(args.source, args.compression, args.splits, problems),
    ),
    "faceshifter": _Command(
        "FaceShifter, of FaceForensics++'s download",
        ffpp.__doc__,
        _add_ffpp,
        lambda args, problems: ffpp.read(args.source, args.compression, args.splits, problems, FACESHIFTER),
    ),
    "dfd": _Command(
        "DeepFakeDetection, of FaceForensics++'s download",
        dfd.__doc__,
        _add_dfd,
        lambda args, problems: dfd.read(args.source, args.compression, problems),
    ),
    "celebdf1": _Command(
        "Celeb-DF v1",
        celebdf.__doc__,
        _CELEBDF,
        lambda args, problems: celebdf.read(args.source, 1, problems),
    ),
    "celebdf2": _Command(
        "Celeb-DF v2",
        celebdf.__doc__,
        _CELEBDF,
        lambda args, problems: celebdf.read(args.source, 2, problems),
    ),
    "dfdc": _Command(
        "DFDC: train parts, validation, test",
        dfdc.__doc__,
        _source_only("has folders with videos and a metadata.json or labels.csv, or is one"),
        lambda args, problems: dfdc.read(args.source, problems),
    ),
    "dfdcp": _Command(
        "DFDC preview",
        dfdcp.__doc__,
        _source_only("has original_videos/, method_A/, method_B/ and dataset.json"),
        lambda args, problems: dfdcp.read(args.source, problems),
    ),
    "uadfv": _Command(
        "UADFV",
        uadfv.__doc__,
        _source_only("has real/ and fake/"),
        lambda args, problems: uadfv.read(args.source, problems),
    ),
    "deepfakebench": _Command(
        "frames that DeepfakeBench has preprocessed, with its JSON",
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
        _csv_options,
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
    """Add one subcommand a dataset."""
    datasets = parser.add_subparsers(dest="prepared", metavar="DATASET", required=True)
    for name, command in COMMANDS.items():
        sub = datasets.add_parser(name, help=command.summary, description=command.description)
        sub.formatter_class = argparse.RawDescriptionHelpFormatter
        command.add_options(sub)
        if command.finds_faces:
            _add_crop_options(sub)
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
    return 0


def _add_square(parser: argparse.ArgumentParser) -> None:
    default = CropOptions()
    parser.add_argument(
        "--size",
        type=int,
        default=argparse.SUPPRESS,
        help=f"side of a crop in pixels; default {default.size}",
    )
    parser.add_argument(
        "--margin",
        type=float,
        default=argparse.SUPPRESS,
        help=f"side of the square cut out, times the longer side of the face's box; default {default.margin}",
    )


def _add_crop_options(parser: argparse.ArgumentParser) -> None:
    default = CropOptions()
    _add_square(parser)
    parser.add_argument(
        "--detector",
        default=argparse.SUPPRESS,
        help=f"one of: {', '.join(DETECTORS.names())}; default {default.detector}",
    )
    parser.add_argument(
        "--align",
        action="store_true",
        default=argparse.SUPPRESS,
        help="turn and scale each face so that its eyes, nose and mouth lie where a template has them",
    )
    parser.add_argument(
        "--image_format",
        choices=IMAGE_FORMATS,
        default=argparse.SUPPRESS,
        help=f"png, or jpg of quality 95 for a fifth of the disk; default {default.image_format}",
    )


def _add_common(parser: argparse.ArgumentParser, n_frames: int) -> None:
    parser.add_argument("--data_dir", required=True, metavar="DIR", help="the dataset's folder is made in it")
    parser.add_argument(
        "--n_frames",
        type=int,
        default=n_frames,
        help="frames of each video, evenly spaced, first and last included; of a photograph, itself and then moved a "
        "little; default %(default)s",
    )
    parser.add_argument(
        "--n_workers",
        type=int,
        default=usable_cpus(),
        help="processes; default: the usable CPUs (%(default)s)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="remove what an earlier run made, begin anew"
    )
