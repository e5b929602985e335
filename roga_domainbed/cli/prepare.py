"""Make face crops and a manifest from a dataset as distributed.

    roga-domainbed prepare ffpp --source ~/FaceForensics++ --data_dir ~/data --n_workers 8

writes ~/data/FFPP/<DF|F2F|FS|NT>/{0_real,1_fake}/<video>/<frame>.png with manifest.parquet and prepare-report.json,
and ends with what was expected, found, made and dropped. An interrupted run is continued by the same command.
'roga-domainbed prepare ffpp --help' has the options.
"""

from __future__ import annotations

import argparse

from datasets_ext.prepare import ffpp
from datasets_ext.prepare.clips import CropOptions
from datasets_ext.prepare.detectors import DETECTORS
from datasets_ext.prepare.ffpp_layout import DATASET_NAMES
from roga_domainbed.cpus import usable_cpus


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one subcommand a dataset."""
    datasets = parser.add_subparsers(dest="prepared", metavar="DATASET", required=True)
    _add_ffpp(datasets.add_parser("ffpp", help="FaceForensics++: DF, F2F, FS, NT", description=ffpp.__doc__))


def run(args: argparse.Namespace) -> int:
    """Prepare and print the summary."""
    options = CropOptions(args.n_frames, args.size, args.margin, args.detector)
    report = ffpp.prepare(
        args.source, args.data_dir, args.compression, options, args.splits, args.n_workers, args.overwrite
    )
    print(report.summary())
    return 0


def _add_ffpp(parser: argparse.ArgumentParser) -> None:
    default = CropOptions()
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--source", required=True, metavar="DIR", help="has original_sequences/ and manipulated_sequences/"
    )
    parser.add_argument("--data_dir", required=True, metavar="DIR", help="the dataset's folder is made in it")
    parser.add_argument(
        "--compression",
        choices=list(DATASET_NAMES),
        default="c23",
        help="c23 (light) makes FFPP, c40 (strong) FFPP_c40, raw FFPP_raw; default %(default)s",
    )
    parser.add_argument(
        "--n_frames",
        type=int,
        default=default.n_frames,
        help="frames of each video, evenly spaced, first and last included; default %(default)s",
    )
    parser.add_argument(
        "--size", type=int, default=default.size, help="side of a crop in pixels; default %(default)s"
    )
    parser.add_argument(
        "--margin",
        type=float,
        default=default.margin,
        help="side of the square cut out, times the longer side of the face's box; default %(default)s",
    )
    parser.add_argument(
        "--detector",
        default=default.detector,
        help=f"one of: {', '.join(DETECTORS.names())}; default %(default)s",
    )
    parser.add_argument(
        "--splits",
        metavar="DIR",
        help="has train.json, val.json, test.json; default: the source, its splits/ or dataset/splits/",
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
