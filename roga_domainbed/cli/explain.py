r"""Show why saved models say what they say: heat maps, a video over time, features in the plane, sharpness.

  $ roga-domainbed explain cam --run runs/erm runs/roga --output heat-maps.png
  ERM: ERM, trained on SynthFake DF, F2F, FS (not NT), split official, trial_seed 0, hparams_seed 0, seed 0
    maps of 8x8 after featurizer.blocks.3.2
  RoGA: RoGA, trained on SynthFake DF, F2F, FS (not NT), split official, trial_seed 0, hparams_seed 0, seed 0
    maps of 8x8 after featurizer.blocks.3.2
  Grad-CAM of 8 images of SynthFake
  Written to heat-maps.png
  $ roga-domainbed explain cam --run runs/roga --images portrait.jpg --output portrait.png
  $ roga-domainbed explain video --run runs/erm runs/roga --video clip.mp4 --output timeline.png
  $ roga-domainbed explain tsne --run runs/erm runs/roga --output features.pdf
  $ roga-domainbed explain sharpness --run runs/erm runs/roga --output sharpness.html

cam draws a row a run and a column an image: the first test images of each environment, real and fake. The colours tell
which parts speak for fake. --images takes picture files instead; faces in them are found and cut out as the training
data was. video draws the probability of fake over time, and below it the most suspicious frames with their heat maps.
tsne draws the features before the classifier, of test images drawn at random, and says how far apart real and fake are
in them (silhouette, 1 is best). sharpness draws the loss of training images along its gradient, for all environments
together and for each, and says by how much it rises within rho.

Test images are those of the dataset's published test part; where there is none, those of environments that every run
held out. Images that a model was trained on or selected by are refused unless --allow_leakage is given; the figure then
says so. --output is a PNG, SVG or PDF file, or an HTML page with the figure, what was printed, and the command.

To install what it needs: pip install 'roga-domainbed[explain]'
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from datasets_ext import trees
from roga_domainbed.cli.arguments import add_class_names, command_of
from roga_domainbed.cli.output_files import FIGURES, PAGES, check_file
from roga_domainbed.errors import MissingExtra, Problems, unknown_name
from roga_domainbed.files import replacing
from roga_domainbed.foreign import csv_cell, one_line
from roga_domainbed.inference.explain.methods import METHODS as HEAT_MAPS

if TYPE_CHECKING:
    from roga_domainbed.inference.explain.test_data import TestData
    from roga_domainbed.inference.saved_run import SavedRun
    from roga_domainbed.report.explained import Explained
    from roga_domainbed.report.page_tables import PageTable

FORMATS = {**FIGURES, **PAGES}
_TABLES = {".parquet": b"PAR1", ".csv": b"run,"}
PACKAGES = {"matplotlib": "matplotlib", "grad-cam": "pytorch_grad_cam", "Jinja2": "jinja2"}
METHODS = tuple(HEAT_MAPS)
MOST_RUNS = 8
MOST_FRAMES = 500  # of a video: their crops are held, and more points do not show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``cam``, ``video``, ``tsne`` and ``sharpness``."""
    actions = parser.add_subparsers(dest="action", metavar="cam|video|tsne|sharpness", required=True)
    cam = _add_action(actions, "cam", "heat maps: which parts of an image speak for fake")
    _add_method(cam)
    cam.add_argument(
        "--n", type=int, help="images of each environment and class, of different videos (default 1)"
    )
    cam.add_argument("--images", nargs="+", metavar="FILE", help="these pictures, instead of test images")
    _add_no_detect(cam, "do not look for faces in --images: every picture is a crop already")
    _add_test_images(cam)
    video = _add_action(actions, "video", "a video's probability of fake over time, and its extreme frames")
    video.add_argument("--video", required=True, metavar="FILE", help="the video")
    _add_method(video)
    video.add_argument("--n_frames", type=int, help="frames, evenly spaced (default: as in training)")
    _add_no_detect(video, "do not look for faces: every frame is a crop already")
    add_class_names(video, "class of the models")
    tsne = _add_action(actions, "tsne", "features before the classifier, in the plane")
    tsne.add_argument(
        "--n_samples", type=int, default=5000, help="test images, drawn at random (default 5000)"
    )
    _add_seed(tsne, "of the draw and of t-SNE")
    tsne.add_argument("--coordinates", metavar="FILE", help="also write the points, as Parquet or CSV")
    _add_n_workers(tsne)
    _add_test_images(tsne)
    sharp = _add_action(actions, "sharpness", "the loss along its gradient, and the sharpness at rho")
    sharp.add_argument("--rho", type=float, help="the radius (default: that of the runs' hyper-parameters)")
    sharp.add_argument(
        "--n_samples",
        type=int,
        default=128,
        help="training images of each environment, drawn at random (default 128)",
    )
    _add_seed(sharp, "of the draw")
    sharp.add_argument("--data_dir", help="folder that contains the dataset's folder (default: each run's)")
    _add_n_workers(sharp)


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
    parser.add_argument(
        "--output", required=True, metavar="FILE", help="the figure: .png, .svg or .pdf; or a page: .html"
    )
    parser.set_defaults(default_of=parser.get_default)
    return parser


def _add_method(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--method", default="gradcam", help=f"{', '.join(METHODS)} (default gradcam)")


def _add_no_detect(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--no_detect", "--no-detect", action="store_true", help=text)


def _add_seed(parser: argparse.ArgumentParser, of: str) -> None:
    parser.add_argument("--seed", type=int, default=0, help=f"{of} (default 0)")


def _add_n_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--n_workers", type=int, default=0, help="processes that read images (default 0)")


def _add_test_images(parser: argparse.ArgumentParser) -> None:
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


def run(args: argparse.Namespace) -> int:
    """Make the figure, print what it shows."""
    _check(args)
    for package in _packages(args):
        if find_spec(PACKAGES[package]) is None:
            raise MissingExtra(package, "explain", f"explain {args.action}")
    action = {"cam": _cam, "video": _video, "tsne": _tsne, "sharpness": _sharpness}[args.action]
    explained, lines = action(args)

    from roga_domainbed.report.explained import save

    save(explained, Path(args.output), command_of(["explain", args.action], args, ("action",)))
    for line in (*lines, *map(one_line, explained.notes)):
        print(line)
    print(f"Written to {args.output}" + (f" and {args.coordinates}" if vars(args).get("coordinates") else ""))
    return 0


def _packages(args: argparse.Namespace) -> list[str]:
    drawn = ["matplotlib"] + ["Jinja2"] * args.output.endswith(".html")
    return drawn + ["grad-cam"] * (args.action in ("cam", "video"))


def _cam(args: argparse.Namespace) -> tuple[Explained, list[str]]:
    from roga_domainbed.inference.explain.grid import first_samples, grid_of_files, grid_of_samples
    from roga_domainbed.inference.explain.runs import load_runs
    from roga_domainbed.inference.faces import find_inputs
    from roga_domainbed.report.explained import Explained
    from roga_domainbed.report.figures.heat_maps import MOST_COLUMNS, heat_maps_drawing

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
    method = HEAT_MAPS[args.method].title
    table, lines = _of_runs(runs, "maps of", [row.layer for row in grid.rows])
    title = f"{method} of {len(grid.columns)} images of {one_line(source)}"
    drawing = heat_maps_drawing(grid, method)
    return Explained(title, drawing, table, tuple(grid.notes)), [*lines, title]


def _video(args: argparse.Namespace) -> tuple[Explained, list[str]]:
    from roga_domainbed.inference.explain.runs import load_runs
    from roga_domainbed.inference.explain.timeline import N_MOST, timeline
    from roga_domainbed.inference.faces import find_inputs
    from roga_domainbed.report.explained import Explained
    from roga_domainbed.report.figures import over_time

    _require_video(find_inputs([args.video]), args.video)
    runs = load_runs(args.run, args.names or ())
    found = timeline(
        runs,
        args.video,
        args.method,
        n_frames=args.n_frames,
        detect=not args.no_detect,
        real=args.real,
        fake=args.fake,
    )
    method = HEAT_MAPS[args.method].title
    table, lines = _of_runs(runs, "p(fake)", [found.summary(name) for name in runs])
    most = ", ".join(found.when(place) for place in found.shown[:N_MOST])
    lines.append(f"most suspicious{' in the mean of the runs' * (len(runs) > 1)}: {most}")
    explained = Explained(
        f"{one_line(Path(args.video).name)} over time",
        over_time.over_time_drawing(found, method),
        table,
        (lines[-1], *found.notes),
        (over_time.over_time_figure(found), over_time.frames_drawing(found, method)),
    )
    return explained, lines[:-1]


def _tsne(args: argparse.Namespace) -> tuple[Explained, list[str]]:
    from roga_domainbed.inference.explain.embedding import drawn_samples, embed
    from roga_domainbed.inference.explain.runs import load_runs
    from roga_domainbed.report.explained import Explained
    from roga_domainbed.report.figures.embedding import embeddings_drawing

    runs = load_runs(args.run, args.names or ())
    data = _test_data(args, runs)
    samples = drawn_samples(data, args.n_samples, args.seed)
    found = embed(runs, data, samples, args.seed, args.n_workers)
    if args.coordinates:
        _write_table(found.coordinates(), Path(args.coordinates))
    said = [
        "none: one class alone" if entry.silhouette is None else f"{entry.silhouette:.3f}"
        for entry in found.runs
    ]
    table, lines = _of_runs(runs, "silhouette of real against fake:", said)
    title = f"t-SNE of {len(samples):,} of {len(data.samples):,} test images of {one_line(data.name)}"
    return Explained(title, embeddings_drawing(found), table, tuple(found.notes)), [*lines, title]


def _sharpness(args: argparse.Namespace) -> tuple[Explained, list[str]]:
    from roga_domainbed.inference.explain.runs import load_runs
    from roga_domainbed.inference.explain.sharpness import radius, sharpness
    from roga_domainbed.report.explained import Explained
    from roga_domainbed.report.figures.ascent import ascent_figure
    from roga_domainbed.report.page_tables import PageTable, Value, number, text
    from roga_domainbed.results.text_table import text_table

    runs = load_runs(args.run, args.names or ())
    rho = radius(runs, args.rho)
    found = sharpness(runs, rho, args.n_samples, args.seed, args.data_dir, args.n_workers)
    columns = ("run", "environment", "images", "loss", "loss at rho", "sharpness", "gradient norm")
    rows = tuple(
        (
            text(one_line(name)),
            text(one_line(curve.name)),
            Value(str(curve.n), curve.n),
            *(
                number(float(x), ".4g")
                for x in (curve.losses[0], curve.at_rho, curve.sharpness, curve.grad_norm)
            ),
        )
        for name, curves in found.curves.items()
        for curve in curves
    )
    title = f"Sharpness at rho = {rho:g}"
    table = PageTable(title, columns, rows)
    lines = [f"{one_line(name)}: {run.describe()}" for name, run in runs.items()]
    printed = text_table([columns, *([cell.text for cell in row] for row in rows)], 2).splitlines()
    notes = (*lines, *found.notes)
    return Explained(title, ascent_figure(found), table, notes), [f"{title}, on training images", *printed]


def _of_runs(runs: Mapping[str, SavedRun], what: str, values: Sequence[str]) -> tuple[PageTable, list[str]]:
    """A row a run, for the page and as lines: what it is, and one value of ``what``."""
    from roga_domainbed.report.page_tables import PageTable, text

    names, models = [one_line(name) for name in runs], [run.describe() for run in runs.values()]
    values = [one_line(value) for value in values]
    rows = tuple(tuple(map(text, row)) for row in zip(names, values, models, strict=True))
    lines = []
    for name, model, value in zip(names, models, values, strict=True):
        lines += [f"{name}: {model}", f"  {what} {value}"]
    return PageTable("Runs", ("run", what.rstrip(":"), "model"), rows), lines


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


def _require_images(files: list[tuple[str, str]]) -> None:
    problems = Problems()
    for path, kind in files:
        if kind != "image":
            problems.add(f"--images takes pictures, and {path!r} is a video")
    problems.check()


def _require_video(files: list[tuple[str, str]], given: str) -> None:
    problems = Problems()
    if len(files) != 1 or files[0][0] != given:
        problems.add(f"--video takes one video, and {given!r} is a folder")
    elif files[0][1] != "video":
        problems.add(f"--video takes a video, and {given!r} is a picture: 'explain cam --images' draws those")
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
    check_file("--output", args.output, FORMATS, problems)
    if len(args.run) > MOST_RUNS:
        problems.add(
            f"--run takes at most {MOST_RUNS} runs: more cannot be read side by side; got {len(args.run)}"
        )
    if args.names and len(args.names) != len(args.run):
        problems.add(f"--names needs a name for each of the {len(args.run)} runs; got {len(args.names)}")
    if args.names and len(set(args.names)) < len(args.names):
        problems.add("--names must differ from each other")
    {"cam": _check_cam, "video": _check_video, "tsne": _check_tsne, "sharpness": _check_sharpness}[
        args.action
    ](args, problems)
    problems.check()


def _check_test_images(args: argparse.Namespace, problems: Problems) -> None:
    if args.dataset is not None and args.data_dir is not None:
        unknown = trees.problem(args.dataset, args.data_dir)
        if unknown is not None:
            problems.add(unknown)
    if args.folder is not None and (args.dataset is not None or args.data_dir is not None):
        problems.add("--folder goes without --dataset and --data_dir: explain on one or the other")


def _check_cam(args: argparse.Namespace, problems: Problems) -> None:
    _check_test_images(args, problems)
    _check_method(args, problems)
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


def _check_video(args: argparse.Namespace, problems: Problems) -> None:
    _check_method(args, problems)
    if args.n_frames is not None and not 1 <= args.n_frames <= MOST_FRAMES:
        problems.add(f"--n_frames must be from 1 to {MOST_FRAMES}, more do not show; got {args.n_frames}")


def _check_method(args: argparse.Namespace, problems: Problems) -> None:
    if args.method not in METHODS:
        problems.add(unknown_name("method", args.method, METHODS))


def _check_draw(args: argparse.Namespace, problems: Problems) -> None:
    if args.n_samples < 1:
        problems.add(f"--n_samples must be at least 1; got {args.n_samples}")
    if not 0 <= args.seed < 2**32:
        problems.add(f"--seed must be at least 0 and below 2**32; got {args.seed}")
    if args.n_workers < 0:
        problems.add(f"--n_workers must be at least 0; got {args.n_workers}")


def _check_sharpness(args: argparse.Namespace, problems: Problems) -> None:
    _check_draw(args, problems)
    if args.rho is not None and not 0 < args.rho < math.inf:
        problems.add(f"--rho must be above 0 and finite; got {args.rho}")


def _check_tsne(args: argparse.Namespace, problems: Problems) -> None:
    _check_test_images(args, problems)
    _check_draw(args, problems)
    if args.coordinates is not None:
        check_file("--coordinates", args.coordinates, _TABLES, problems)
