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
is refused as test data unless --allow_leakage is given; the table then says so. --scores writes the score of every
sample, in the format of a run's scores.parquet. --threshold adds the accuracy, the share of reals called fake and the
share of fakes that are missed at a threshold that the model keeps from its validation data, or at any probability.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from datasets_ext import trees
from roga_domainbed.cli.arguments import add_class_names, add_threshold, parsed_threshold
from roga_domainbed.errors import Problems, unknown_name
from roga_domainbed.files import replacement_problem

FORMATS = ("text", "json", "csv")
_PARTS = ("test", "val", "all")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, the data, the output format."""
    parser.add_argument("run", metavar="RUN", help="output folder of a training, or a model file")
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
    add_class_names(group, "class folder, or class of the model,")
    group.add_argument(
        "--no_detect",
        "--no-detect",
        action="store_true",
        help="do not look for faces in video files: every frame is a crop already, as images are",
    )
    add_threshold(parser, "no further columns; acc is at 0.5 in any case")
    parser.add_argument("--format", default="text", help=f"{', '.join(FORMATS)} (default text)")
    parser.add_argument("--scores", metavar="FILE", help="also write the scores of every sample, as Parquet")
    parser.add_argument("--n_workers", type=int, default=0, help="processes that read images (default 0)")


def run(args: argparse.Namespace) -> int:
    """Print the metrics."""
    threshold = _check(args)
    from roga_domainbed.inference.evaluate import evaluate
    from roga_domainbed.inference.saved_run import load_run

    found = evaluate(
        load_run(args.run),
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
    if args.scores:
        from roga_domainbed.trainer.scores import write_scores

        write_scores(Path(args.scores), found.scored)
    if args.format == "csv":
        for note in found.notes:
            print(note, file=sys.stderr)
    forms = {"text": found.as_text, "json": found.as_json, "csv": found.as_csv}
    sys.stdout.write(forms[args.format]())
    return 0


def _check(args: argparse.Namespace) -> str | float | None:
    """The threshold, once nothing is wrong with the arguments."""
    from roga_domainbed.cli.checkout_names import add_checkout_names

    add_checkout_names()
    problems = Problems()
    if args.format not in FORMATS:
        problems.add(unknown_name("format", args.format, FORMATS))
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
    other = replacement_problem(args.scores, b"PAR1") if args.scores else None
    if other is not None:
        problems.add(f"--scores {args.scores!r} {other}")
    if args.n_workers < 0:
        problems.add(f"--n_workers must be at least 0; got {args.n_workers}")
    threshold = parsed_threshold(args.threshold, problems)
    problems.check()
    return threshold
