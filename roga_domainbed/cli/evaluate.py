r"""Evaluate a saved model: on the splits of its own run, on another dataset, or on a folder of images.

  $ roga-domainbed evaluate runs/roga
  $ roga-domainbed evaluate runs/roga --dataset DeepfakeDatasets --data_dir ~/data --envs CelebDF2 UADFV
  $ roga-domainbed evaluate runs/roga --folder ~/frames

  RoGA, trained on SynthFake DF, F2F, FS (not NT), split official, trial_seed 0, hparams_seed 0, seed 0
  in %, log_loss in nats    level      n    acc  bal_acc    auc     ap    eer  tpr@1%  tpr@0.1%  log_loss    ece
  DF   in   training        frame    320   96.9 …
                            video     40  100.0 …

RUN is the output folder of a training, for its model.pkl, or a model file. --folder takes a folder with a
manifest.parquet, or with folders real and fake (spelled one way or another), or with one folder an environment that has
them; folders within real and fake are videos, and video files are taken as by 'predict'. --real and --fake say what
folders, or the classes of the model, are whose names do not say so. Data that the model was trained on or selected by
is refused as test data unless --allow_leakage is given; the table then says so. --save_scores writes the score of
every sample, in the format of a run's scores.parquet. --threshold adds the accuracy, the share of reals called fake and
the share of fakes that are missed at a threshold that the model keeps from its validation data, or at any probability.

  $ roga-domainbed evaluate --scores xception.csv roga.csv --report scores.html
  xception: xception.csv
  roga: roga.csv
  in %, log_loss in nats

                detector     n   auc  95 % interval   eer  95 % interval
  DF  frame     xception  3750  ...

--scores takes the scores of any detector, a CSV or Parquet file each: a row a sample, with the columns path (or id),
label, score (higher for fake), and env and video if known. Labels are 0 and 1, or names that mean real and fake, or
that --real and --fake say. It needs no model. --report writes a page with ROC and DET curves and histograms.

  $ roga-domainbed evaluate runs/erm runs/roga --corruptions --figure robustness.png
  ...
                       0     1     2     3     4     5
  jpeg        ERM   99.2  76.4  73.8  71.1  70.6  60.2
              RoGA  99.1  75.0  73.8  68.8  66.7  58.2

--corruptions damages the test images, of a run's own data those that it held out, and prints their AUC at each
strength; 0 is the image as it is.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets_ext import trees
from roga_domainbed.cli.arguments import add_class_names, add_threshold, parsed_threshold
from roga_domainbed.cli.output_files import FIGURES, PAGES, check_file, check_output
from roga_domainbed.errors import MissingExtra, Problems, RogaError, unknown_name
from roga_domainbed.files import replacement_problem, replacing
from roga_domainbed.foreign import one_line

if TYPE_CHECKING:
    from roga_domainbed.inference.saved_run import SavedRun

FORMATS = ("text", "json", "csv")
MOST_DETECTORS = 8  # lines that can be told apart in a figure
_PARTS = ("test", "val", "all")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, the data, the output format."""
    parser.add_argument("run", metavar="RUN", nargs="*", help="output folder of a training, or a model file")
    files = parser.add_argument_group("instead of a RUN, scores of any detector")
    files.add_argument(
        "--scores", metavar="FILE", nargs="+", help="CSV or Parquet files of scores, one a detector"
    )
    files.add_argument("--names", metavar="NAME", nargs="+", help="what to call them (default: their files)")
    files.add_argument("--report", metavar="FILE", help="also write an HTML page with curves")
    group = parser.add_argument_group("what to evaluate on (default: the splits of its own run)")
    group.add_argument("--dataset", metavar="NAME", help="a registered dataset, in --data_dir")
    group.add_argument("--data_dir", help="folder that contains the dataset's folder (default: the run's)")
    group.add_argument(
        "--folder", metavar="DIR", help="images and videos: real and fake folders, or a manifest"
    )
    group.add_argument("--envs", nargs="+", metavar="ENV", help="only these environments, by name or index")
    group.add_argument(
        "--part",
        choices=_PARTS,
        help="of --dataset: the published test or val part, or all (default test, all where none is published)",
    )
    group.add_argument(
        "--allow_leakage",
        "--allow-leakage",
        action="store_true",
        help="evaluate also on data that the model was trained on or selected by, or may have been",
    )
    add_class_names(group, "class folder, class of the model, or label of --scores,")
    group.add_argument(
        "--no_detect",
        "--no-detect",
        action="store_true",
        help="do not look for faces in video files: every frame is a crop already, as images are",
    )
    damage = parser.add_argument_group("robustness")
    damage.add_argument(
        "--corruptions",
        metavar="NAME",
        nargs="*",
        help="damage the test images, in five strengths: jpeg, h264, blur, noise, resize, brightness, contrast; all if "
        "none is named. Several RUNs are shown side by side, the mean of those of one row or with one of --names",
    )
    damage.add_argument("--figure", metavar="FILE", help="also draw AUC by strength: .png, .svg or .pdf")
    add_threshold(parser, "no further columns; acc is at 0.5 in any case")
    parser.add_argument("--format", default="text", help=f"{', '.join(FORMATS)} (default text)")
    parser.add_argument(
        "--save_scores",
        "--save-scores",
        metavar="FILE",
        help="also write the scores of every sample, as Parquet",
    )
    parser.add_argument("--n_workers", type=int, default=0, help="processes that read images (default 0)")


def run(args: argparse.Namespace) -> int:
    """Print the metrics."""
    threshold = _check(args)
    if args.corruptions is not None:
        return _of_damaged(args)
    return _of_files(args) if args.scores else _of_run(args, threshold)


def _of_run(args: argparse.Namespace, threshold: str | float | None) -> int:
    from roga_domainbed.inference.evaluate import evaluate
    from roga_domainbed.inference.saved_run import load_run

    found = evaluate(
        load_run(args.run[0]),
        dataset=args.dataset,
        data_dir=args.data_dir,
        folder=args.folder,
        part=args.part or "test",
        envs=args.envs,
        allow_leakage=args.allow_leakage,
        n_workers=args.n_workers,
        detect=not args.no_detect,
        real=args.real,
        fake=args.fake,
        threshold=threshold,
    )
    if args.save_scores:
        from roga_domainbed.trainer.scores import write_scores

        write_scores(Path(args.save_scores), found.scored)
    _print(found, args.format)
    return 0


def _of_files(args: argparse.Namespace) -> int:
    if args.report:
        from roga_domainbed.cli.report import require_extra

        require_extra("evaluate --report")
    from roga_domainbed.report.detectors import evaluate_files
    from roga_domainbed.report.score_files import read_score_files

    found = evaluate_files(read_score_files(args.scores, args.names or (), args.real, args.fake), args.envs)
    if args.report:
        from roga_domainbed.report.detectors_page import detectors_page

        with replacing(args.report) as partial:
            partial.write_text(detectors_page(found), encoding="utf-8")
    _print(found, args.format)
    return 0


def _of_damaged(args: argparse.Namespace) -> int:
    from roga_domainbed.inference.corruptions import chosen

    corruptions = chosen(args.corruptions)
    if args.figure and find_spec("matplotlib") is None:
        raise MissingExtra("matplotlib", "report", "evaluate --figure")
    from roga_domainbed.inference.explain.runs import load_runs, row_name
    from roga_domainbed.inference.robustness import measure_robustness

    names = ("dataset", "data_dir", "folder", "envs", "allow_leakage", "n_workers", "real", "fake")
    options = {name: getattr(args, name) for name in names}
    loaded = load_runs(args.run, args.run).values()
    runs: dict[str, list[SavedRun]] = {}
    for run, name in zip(loaded, args.names or map(row_name, loaded), strict=True):
        runs.setdefault(name, []).append(run)
    if len(runs) > MOST_DETECTORS:
        raise RogaError(f"{len(runs)} rows are too many to read side by side; {MOST_DETECTORS} are the most")
    found = measure_robustness(runs, corruptions, part=args.part or "test", **options)
    if args.figure:
        from roga_domainbed.report.figures.robustness import save_robustness

        save_robustness(found, Path(args.figure))
    _print(found, args.format)
    return 0


def _print(found: Any, form: str) -> None:
    if form == "csv":
        for note in found.notes:
            print(one_line(note), file=sys.stderr)
    forms = {"text": found.as_text, "json": found.as_json, "csv": found.as_csv}
    sys.stdout.write(forms[form]())


def _check(args: argparse.Namespace) -> str | float | None:
    """The threshold, once nothing is wrong with the arguments."""
    problems = Problems()
    threshold = parsed_threshold(args.threshold, problems)
    if args.format not in FORMATS:
        problems.add(unknown_name("format", args.format, FORMATS))
    if bool(args.run) == bool(args.scores):
        problems.add(
            "--scores reads the scores of any detector and goes without a RUN; to write a run's, use --save_scores"
            if args.run
            else "give a RUN, or the scores of any detector with --scores FILE"
        )
    elif args.scores:
        _check_files(args, problems)
    else:
        _check_run(args, problems)
    problems.check()
    return threshold


def _check_files(args: argparse.Namespace, problems: Problems) -> None:
    names = (
        "dataset",
        "data_dir",
        "folder",
        "part",
        "allow_leakage",
        "no_detect",
        "save_scores",
        "n_workers",
    )
    useless = [f"--{name}" for name in names if getattr(args, name)]
    useless += [
        f"--{name}" for name in ("corruptions", "figure", "threshold") if getattr(args, name) is not None
    ]
    if useless:
        problems.add(f"--scores needs no model and no images: leave out {', '.join(useless)}")
    if args.names and len(args.names) != len(args.scores):
        problems.add(f"--names needs a name for each of the {len(args.scores)} files; got {len(args.names)}")
    if args.names and len(set(args.names)) < len(args.names):
        problems.add("--names must differ from each other")
    if len({os.path.realpath(file) for file in args.scores}) < len(args.scores):
        problems.add("a file of --scores is there twice: give each once")
    if len(args.scores) > MOST_DETECTORS:
        problems.add(f"--scores takes at most {MOST_DETECTORS} files: more are not read side by side")
    if args.report is not None:
        check_output("--report", args.report, PAGES[".html"], problems)


def _check_damage(args: argparse.Namespace, problems: Problems) -> None:
    from roga_domainbed.inference.corruptions import chosen

    try:
        chosen(args.corruptions)
    except RogaError as error:
        problems.add(str(error))
    if args.names and len(args.names) != len(args.run):
        problems.add(f"--names needs a name for each of the {len(args.run)} runs; got {len(args.names)}")
    if len({os.path.realpath(run) for run in args.run}) < len(args.run):
        problems.add("a run is there twice: give each once")
    useless = [f"--{name}" for name in ("save_scores", "no_detect", "threshold") if getattr(args, name)]
    if useless:
        problems.add(f"--corruptions does not go with {', '.join(useless)}")
    if args.figure is not None:
        check_file("--figure", args.figure, FIGURES, problems)


def _check_run(args: argparse.Namespace, problems: Problems) -> None:
    from roga_domainbed.cli.checkout_names import add_checkout_names

    add_checkout_names()
    if args.report:
        problems.add("--report goes with --scores; write the scores of the run with --save_scores first")
    if args.corruptions is None:
        if len(args.run) > 1:
            problems.add(f"one RUN is evaluated at a time, several with --corruptions; got {len(args.run)}")
        if args.names:
            problems.add("--names goes with --scores or --corruptions")
        if args.figure:
            problems.add("--figure goes with --corruptions")
    else:
        _check_damage(args, problems)
    if args.dataset is not None and args.data_dir is not None:  # else the run says where
        unknown = trees.problem(args.dataset, args.data_dir)
        if unknown is not None:
            problems.add(unknown)
    if args.folder is not None and (args.dataset is not None or args.data_dir is not None):
        problems.add("--folder goes without --dataset and --data_dir: evaluate on one or the other")
    if args.part is not None and args.dataset is None:
        problems.add("--part goes with --dataset")
    if args.no_detect and args.folder is None:
        problems.add("--no_detect goes with --folder")
    if (args.real or args.fake) and args.folder is None and args.dataset is None:
        problems.add(
            "--real and --fake go with --folder or --dataset: a run's own classes have the numbers of training"
        )
    other = replacement_problem(args.save_scores, b"PAR1") if args.save_scores else None
    if other is not None:
        problems.add(f"--save_scores {args.save_scores!r} {other}")
    if args.n_workers < 0:
        problems.add(f"--n_workers must be at least 0; got {args.n_workers}")
