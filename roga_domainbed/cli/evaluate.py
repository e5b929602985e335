r"""Evaluate a saved model: on the splits of its own run, on another dataset, or on a folder of images.

  $ roga-domainbed evaluate runs/roga
  $ roga-domainbed evaluate runs/roga --dataset DeepfakeDatasets --data_dir ~/data --envs CelebDF2 UADFV
  $ roga-domainbed evaluate runs/roga --folder ~/frames

  RoGA, trained on SynthFake DF, F2F, FS (not NT), split official, trial_seed 0, hparams_seed 0, seed 0
  in %, log_loss in nats    level      n    acc  bal_acc    auc     ap    eer  tpr@1%  tpr@0.1%  log_loss    ece
  DF   in   training        frame    320   96.9 …
                            video     40  100.0 …

RUN is the folder of a training, for its model.pkl, or a model file. A folder has a manifest.parquet, or folders real
and fake (in one spelling or another) with images, or folders with these; folders in real and fake are videos. What the
model was trained on or selected by is refused as test data unless --allow_leakage is given, and said then too.
--scores writes what the model says of every sample, in the form of a run's scores.parquet.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roga_domainbed.catalog import DATASETS
from roga_domainbed.errors import Problems, RogaError, unknown_name

if TYPE_CHECKING:
    from roga_domainbed.inference.evaluation_sets import Evaluated, EvaluationSet
    from roga_domainbed.inference.saved_run import SavedRun
    from roga_domainbed.metrics import Metric
    from roga_domainbed.trainer.evaluation import EvaluatedSplit

FORMATS = ("text", "json", "csv")
_PARTS = ("test", "val", "all")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, the data, the form of the answer."""
    parser.add_argument("run", metavar="RUN", help="folder of a training, or a model file")
    group = parser.add_argument_group("what to evaluate on (default: the splits of its own run)")
    group.add_argument("--dataset", metavar="NAME", help="a registered dataset, in --data_dir")
    group.add_argument("--data_dir", help="folder that contains the dataset's folder (default: the run's)")
    group.add_argument("--folder", metavar="DIR", help="images: real and fake folders, or a manifest")
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
        help="evaluate on what the model was trained on or selected by, too",
    )
    parser.add_argument("--format", default="text", help=f"{', '.join(FORMATS)} (default text)")
    parser.add_argument("--scores", metavar="FILE", help="also write the scores of every sample, as Parquet")
    parser.add_argument("--n_workers", type=int, default=0, help="processes that read images (default 0)")


def run(args: argparse.Namespace) -> int:
    """Print the metrics."""
    _check(args)
    from roga_domainbed.inference.contamination import own_leaks, seen_before
    from roga_domainbed.inference.evaluation_sets import choose, dataset_sets, folder_sets, own_sets
    from roga_domainbed.inference.saved_run import load_run

    saved = load_run(args.run)
    if args.folder is not None:
        evaluated = folder_sets(saved, args.folder)
    elif args.dataset is not None:
        data_dir = args.data_dir or saved.config.data_dir
        evaluated = dataset_sets(saved, args.dataset, data_dir, args.part or "test")
    else:
        evaluated = own_sets(saved, args.data_dir)
    own = args.folder is None and args.dataset is None
    if own:
        leaks, notes = own_leaks(evaluated), []
        evaluated = choose(evaluated, args.envs)
    else:
        evaluated = choose(evaluated, args.envs)
        leaks, notes = seen_before(saved, evaluated)
        if leaks and not args.allow_leakage:
            listed = "".join(f"\n  {leak}" for leak in leaks)
            raise RogaError(
                f"the model knows some of {evaluated.name}:{listed}\n"
                "Choose another part with --part or --envs, or say --allow_leakage, which will be printed"
            )
    notes = [*(f"LEAK: {leak}" for leak in leaks), *evaluated.notes, *notes]
    scored = _score(saved, evaluated, args.n_workers)
    if args.scores:
        from roga_domainbed.trainer.scores import write_scores_file

        write_scores_file(Path(args.scores), scored)
    rows = [row for entry, split in zip(evaluated.sets, scored, strict=True) for row in _rows(entry, split)]
    sys.stdout.write(_render(args.format, saved, evaluated, rows, notes))
    return 0


def _check(args: argparse.Namespace) -> None:
    problems = Problems()
    if args.format not in FORMATS:
        problems.add(unknown_name("format", args.format, FORMATS))
    if args.dataset is not None and args.dataset not in DATASETS:
        problems.add(unknown_name("dataset", args.dataset, DATASETS.names()))
    if args.folder is not None and (args.dataset is not None or args.data_dir is not None):
        problems.add("--folder goes without --dataset and --data_dir: it is all there is to evaluate on")
    if args.part is not None and args.dataset is None:
        problems.add("--part goes with --dataset")
    if args.n_workers < 0:
        problems.add(f"--n_workers must be at least 0; got {args.n_workers}")
    problems.check()


def _score(saved: SavedRun, evaluated: Evaluated, n_workers: int) -> list[EvaluatedSplit]:
    """The scores of every set, read as the run's own evaluation read its images."""
    from roga_domainbed.input.path import InputOptions, InputPath
    from roga_domainbed.trainer.evaluation import EvaluatedSplit, score_parts

    sets = evaluated.sets
    of_env = {entry.env: entry.environment for entry in sets}
    environments, position = list(of_env.values()), {env: i for i, env in enumerate(of_env)}
    reader = InputPath(
        environments,
        InputOptions(saved.config.input, cache="off"),  # nothing is read twice
        name=evaluated.name,
        seed=saved.config.seed,
        n_workers=n_workers,
        device=saved.device,
    )
    parts = [(position[entry.env], entry.indices) for entry in sets]
    with saved.autocast():
        scored = score_parts(saved.algorithm, environments, reader, parts)
    return [
        EvaluatedSplit(entry.env, entry.env_name, entry.part, entry.environment, scores)
        for entry, scores in zip(sets, scored, strict=True)
    ]


def _rows(entry: EvaluationSet, split: EvaluatedSplit) -> list[dict[str, Any]]:
    """One row of metrics a level."""
    from roga_domainbed.metrics.split import split_metrics

    metrics = split_metrics(split.scores)
    rows = []
    for level, prefix in (("frame", ""), ("video", "video_")):
        if f"{prefix}n" not in metrics.values:
            continue
        names = [
            name
            for name in metrics.values
            if name.startswith(prefix) and (prefix or not name.startswith("video_"))
        ]
        why = {name: metrics.why_null[name] for name in names if name in metrics.why_null}
        rows.append(
            {
                "env": entry.env,
                "env_name": entry.env_name,
                "part": entry.part,
                "role": entry.role or None,
                "level": level,
                **{name.removeprefix(prefix): metrics.values[name] for name in names},
                "why_null": {name.removeprefix(prefix): reason for name, reason in why.items()},
            }
        )
    return rows


def _render(form: str, saved: SavedRun, evaluated: Evaluated, rows: list[dict], notes: list[str]) -> str:
    if form == "json":
        content = {
            "model": str(saved.path),
            "trained_on": saved.describe(),
            "args": saved.args,
            "hparams": saved.hparams,
            "dataset": evaluated.name,
            "results": rows,
            "notes": notes,
        }
        return json.dumps(content, indent=1) + "\n"
    if form == "csv":
        for note in notes:
            print(note, file=sys.stderr)
        names = list(dict.fromkeys(name for row in rows for name in row if name != "why_null"))
        file = io.StringIO()
        writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return file.getvalue()
    return _text(saved, evaluated, rows, notes)


def _text(saved: SavedRun, evaluated: Evaluated, rows: list[dict], notes: list[str]) -> str:
    from roga_domainbed.metrics import METRICS

    metrics = [metric for metric in METRICS if metric.heading and any(metric.name in row for row in rows)]
    head = ["", "", "", "level", "n", *(metric.heading for metric in metrics)]
    lines, before = [head], None
    for row in rows:
        which = [row["env_name"], row["part"], row["role"] or ""]
        cells = [_cell(row.get(metric.name), metric) for metric in metrics]
        lines.append([*(which if which != before else ["", "", ""]), row["level"], str(row["n"]), *cells])
        before = which
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = [saved.describe(), f"evaluated on {evaluated.name}; in %, log_loss in nats", ""]
    for line in lines:
        named = [cell.ljust(width) for cell, width in zip(line[:4], widths, strict=False)]
        numbers = [cell.rjust(width) for cell, width in zip(line[4:], widths[4:], strict=True)]
        text.append("  ".join(named + numbers).rstrip())
    reasons = dict.fromkeys(
        f"{row['env_name']} {row['part']}, {row['level']} level: no {', '.join(names)}: {reason}"
        for row in rows
        for reason, names in _by_reason(row["why_null"]).items()
    )
    text += ["", *notes, *reasons] if notes or reasons else []
    return "\n".join(text) + "\n"


def _cell(value: float | None, metric: Metric) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.1f}" if metric.unit == "%" else f"{value:.3f}"


def _by_reason(why_null: dict[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, reason in why_null.items():
        found.setdefault(reason, []).append(name)
    return found
