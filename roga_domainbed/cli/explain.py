r"""Show why saved models say what they say: heat maps over test images, and their features in the plane.

  $ roga-domainbed explain cam --run runs/erm runs/roga --output heat-maps.png
  ERM: ERM, trained on SynthFake DF, F2F, FS (not NT), split official, trial_seed 0, hparams_seed 0, seed 0
    maps of 8x8 after featurizer.blocks.3.2
  RoGA: RoGA, trained on SynthFake DF, F2F, FS (not NT), split official, trial_seed 0, hparams_seed 0, seed 0
    maps of 8x8 after featurizer.blocks.3.2
  Grad-CAM of 8 images of SynthFake
  Written to heat-maps.png
  $ roga-domainbed explain cam --run runs/roga --images portrait.jpg --output portrait.png
  $ roga-domainbed explain tsne --run runs/erm runs/roga --output features.pdf

cam draws a row a run and a column an image: the first test images of each environment, real and fake. The colours tell
which parts speak for fake. --images takes picture files instead; faces in them are found and cut out as the training
data was. tsne draws the features before the classifier, of test images drawn at random, and says how far apart real and
fake are in them (silhouette, 1 is best).

Test images are those of the dataset's published test part; where there is none, those of environments that every run
held out. Images that a model was trained on or selected by are refused unless --allow_leakage is given; the figure then
says so. --output is a PNG, SVG or PDF file.

To install what it needs: pip install 'roga-domainbed[explain]'
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from datasets_ext import trees
from roga_domainbed.cli.arguments import add_class_names
from roga_domainbed.errors import MissingExtra, Problems, unknown_name
from roga_domainbed.files import replacement_problem, replacing
from roga_domainbed.foreign import csv_cell, one_line
from roga_domainbed.inference.explain.methods import METHODS as HEAT_MAPS

if TYPE_CHECKING:
    from roga_domainbed.inference.explain.test_data import TestData
    from roga_domainbed.inference.saved_run import SavedRun

FORMATS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
_TABLES = {".parquet": b"PAR1", ".csv": b"run,"}
METHODS = tuple(HEAT_MAPS)
MOST_RUNS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``cam`` and ``tsne``."""
    actions = parser.add_subparsers(dest="action", metavar="cam|tsne", required=True)
    cam = _add_action(actions, "cam", "heat maps: which parts of an image speak for fake")
    cam.add_argument("--method", default="gradcam", help=f"{', '.join(METHODS)} (default gradcam)")
    cam.add_argument(
        "--n", type=int, help="images of each environment and class, of different videos (default 1)"
    )
    cam.add_argument("--images", nargs="+", metavar="FILE", help="these pictures, instead of test images")
    cam.add_argument(
        "--no_detect",
        "--no-detect",
        action="store_true",
        help="do not look for faces in --images: every picture is a crop already",
    )
    tsne = _add_action(actions, "tsne", "features before the classifier, in the plane")
    tsne.add_argument(
        "--n_samples", type=int, default=5000, help="test images, drawn at random (default 5000)"
    )
    tsne.add_argument("--seed", type=int, default=0, help="of the draw and of t-SNE (default 0)")
    tsne.add_argument("--coordinates", metavar="FILE", help="also write the points, as Parquet or CSV")
    tsne.add_argument("--n_workers", type=int, default=0, help="processes that read images (default 0)")


def _add_action(actions: argparse._SubParsersAction, name: str, summary: str) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=summary, description=summary)
    parser.add_argument(
        "--run",
        nargs="+",
        action="extend",
        required=True,
        metavar="RUN",
        help="output folders of trainings, or model files",
    )
    parser.add_argument(
        "--names", nargs="+", metavar="NAME", help="what to call the runs (default: their rows)"
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="the figure: .png, .svg or .pdf")
    group = parser.add_argument_group("test images (default: of the dataset of the runs)")
    group.add_argument("--dataset", metavar="NAME", help="a registered dataset, in --data_dir")
    group.add_argument(
        "--data_dir", help="folder that contains the dataset's folder (default: the first run's)"
    )
    group.add_argument("--folder", metavar="DIR", help="images in real and fake folders")
    group.add_argument("--envs", nargs="+", metavar="ENV", help="only these environments, by name or index")
    group.add_argument(
        "--allow_leakage",
        "--allow-leakage",
        action="store_true",
        help="take also images that a model was trained on or selected by, or may have been",
    )
    add_class_names(group, "class of the models, or class folder,")
    return parser


def run(args: argparse.Namespace) -> int:
    """Draw the figure."""
    _check(args)
    for package, module in (("matplotlib", "matplotlib"), ("grad-cam", "pytorch_grad_cam")):
        if find_spec(module) is None and (args.action == "cam" or package == "matplotlib"):
            raise MissingExtra(package, "explain", f"explain {args.action}")
    return {"cam": _cam, "tsne": _tsne}[args.action](args)


def _cam(args: argparse.Namespace) -> int:
    from roga_domainbed.inference.explain.grid import first_samples, grid_of_files, grid_of_samples
    from roga_domainbed.inference.explain.runs import load_runs
    from roga_domainbed.inference.faces import find_inputs
    from roga_domainbed.report.figures.heat_maps import MOST_COLUMNS, save_heat_maps

    if args.images:
        files = find_inputs(args.images)
        _require_images(files)
        _require_room(len(files), MOST_COLUMNS, "--images has {} pictures")
    runs = load_runs(args.run, args.names or ())
    if args.images:
        grid = grid_of_files(
            runs, files, args.method, detect=not args.no_detect, real=args.real, fake=args.fake
        )
        _require_room(len(grid.columns), MOST_COLUMNS, "there are {} faces in the pictures")
        source = f"{len(files)} files"
    else:
        data = _test_data(args, runs)
        samples = first_samples(data, args.n or 1)
        _require_room(len(samples), MOST_COLUMNS, f"--n {args.n or 1} makes {{}} columns")
        grid = grid_of_samples(runs, data, samples, args.method)
        source = data.name
    title = HEAT_MAPS[args.method].title
    save_heat_maps(grid, title, Path(args.output))
    for row, found in zip(grid.rows, runs.values(), strict=True):
        print(f"{one_line(row.name)}: {found.describe()}\n  maps of {one_line(row.layer)}")
    print(f"{title} of {len(grid.columns)} images of {one_line(source)}")
    _end(args, grid.notes)
    return 0


def _tsne(args: argparse.Namespace) -> int:
    from roga_domainbed.inference.explain.embedding import drawn_samples, embed
    from roga_domainbed.inference.explain.runs import load_runs
    from roga_domainbed.report.figures.embedding import save_embeddings

    runs = load_runs(args.run, args.names or ())
    data = _test_data(args, runs)
    samples = drawn_samples(data, args.n_samples, args.seed)
    found = embed(runs, data, samples, args.seed, args.n_workers)
    save_embeddings(found, Path(args.output))
    if args.coordinates:
        _write_table(found.coordinates(), Path(args.coordinates))
    for entry, run_ in zip(found.runs, runs.values(), strict=True):
        said = "none: one class alone" if entry.silhouette is None else f"{entry.silhouette:.3f}"
        print(f"{one_line(entry.name)}: {run_.describe()}\n  silhouette of real against fake: {said}")
    print(f"t-SNE of {len(samples):,} of {len(data.samples):,} test images of {one_line(data.name)}")
    _end(args, found.notes)
    return 0


def _test_data(args: argparse.Namespace, runs: Mapping[str, SavedRun]) -> TestData:
    from roga_domainbed.inference.explain.test_data import DataOptions, open_test_data

    names = ("dataset", "data_dir", "folder", "envs", "allow_leakage", "real", "fake")
    return open_test_data(runs, DataOptions(**{name: getattr(args, name) for name in names}))


def _write_table(table, path: Path) -> None:
    with replacing(path) as partial:
        if path.suffix == ".parquet":
            table.to_parquet(partial, index=False)
        else:
            table.map(csv_cell).to_csv(partial, index=False)


def _end(args: argparse.Namespace, notes: list[str]) -> None:
    for note in notes:
        print(one_line(note))
    print(f"Written to {args.output}" + (f" and {args.coordinates}" if vars(args).get("coordinates") else ""))


def _require_images(files: list[tuple[str, str]]) -> None:
    problems = Problems()
    for path, kind in files:
        if kind != "image":
            problems.add(f"--images takes pictures, and {path!r} is a video")
    problems.check()


def _require_room(n: int, most: int, what: str) -> None:
    problems = Problems()
    if n > most:
        problems.add(
            f"{what.format(n)}, and a figure has room for {most}: take fewer, for example with --envs"
        )
    problems.check()


def _check(args: argparse.Namespace) -> None:
    """All faults of the arguments at once."""
    from roga_domainbed.cli.checkout_names import add_checkout_names

    add_checkout_names()
    problems = Problems()
    _check_file("--output", args.output, FORMATS, problems)
    if len(args.run) > MOST_RUNS:
        problems.add(
            f"--run takes at most {MOST_RUNS} runs: more cannot be read side by side; got {len(args.run)}"
        )
    if args.names and len(args.names) != len(args.run):
        problems.add(f"--names needs a name for each of the {len(args.run)} runs; got {len(args.names)}")
    if args.names and len(set(args.names)) < len(args.names):
        problems.add("--names must differ from each other")
    if args.dataset is not None and args.data_dir is not None:
        unknown = trees.problem(args.dataset, args.data_dir)
        if unknown is not None:
            problems.add(unknown)
    if args.folder is not None and (args.dataset is not None or args.data_dir is not None):
        problems.add("--folder goes without --dataset and --data_dir: explain on one or the other")
    (_check_cam if args.action == "cam" else _check_tsne)(args, problems)
    problems.check()


def _check_cam(args: argparse.Namespace, problems: Problems) -> None:
    if args.method not in METHODS:
        problems.add(unknown_name("method", args.method, METHODS))
    if args.n is not None and args.n < 1:
        problems.add(f"--n must be at least 1; got {args.n}")
    if args.images:
        given = [
            name for name in ("n", "dataset", "data_dir", "folder", "envs") if getattr(args, name) is not None
        ]
        if given:
            problems.add(
                f"--images are all that is drawn: leave out {', '.join(f'--{name}' for name in given)}"
            )
    elif args.no_detect:
        problems.add("--no_detect goes with --images: test images are crops already")


def _check_tsne(args: argparse.Namespace, problems: Problems) -> None:
    if args.n_samples < 1:
        problems.add(f"--n_samples must be at least 1; got {args.n_samples}")
    if not 0 <= args.seed < 2**32:
        problems.add(f"--seed must be at least 0 and below 2**32; got {args.seed}")
    if args.n_workers < 0:
        problems.add(f"--n_workers must be at least 0; got {args.n_workers}")
    if args.coordinates is not None:
        _check_file("--coordinates", args.coordinates, _TABLES, problems)


def _check_file(flag: str, name: str, kinds: Mapping[str, bytes], problems: Problems) -> None:
    path = Path(name)
    if path.suffix not in kinds:
        problems.add(f"{flag} {name!r} must end in {', '.join(kinds)}")
    elif path.is_dir():
        problems.add(f"{flag} {name!r} is a folder; give the name of a file")
    elif not path.parent.is_dir():
        problems.add(f"{flag} {name!r}: the folder {str(path.parent)!r} does not exist")
    elif (other := replacement_problem(path, kinds[path.suffix])) is not None:
        problems.add(f"{flag} {name!r} {other}")
