r"""Tables from the records of a sweep, in DomainBed's layout.

For each selection rule: one table a dataset (algorithms by test environments, mean +/- error over trials in
percent), then one of averages over datasets. The error is the population standard deviation divided by the
square root of the number of trials. The same goes to <input_dir>/results.txt (.tex, .md, .csv, .parquet, .json by
--format; results_<metric>.* for another metric than acc; results_oracle.* where only the oracle selects), or to the
file named by --output. With several input folders, the first.

  $ roga-domainbed collect-results --input_dir sweeps/s1
  Total records: 200

  -------- Dataset: VLCS, model selection method: training-domain validation set
  Algorithm             C                     L                     S                     V           ...
  ERM                   98.0 +/- 0.2          64.2 +/- 0.8          74.1 +/- 0.4          77.1 +/- 0.2  ...

Rules (--select): iid, training-domain validation; loo, leave-one-domain-out, which needs a sweep with pairs of
test environments; oracle, chosen with test data; last, the last step. Whatever test data decided carries the
word oracle.

Where upstream is wrong, the default differs from it; --compat upstream gives upstream's tables to the byte:
  - a validation metric that is NaN or null is never chosen (upstream: NaN in a first record is);
  - a step recorded twice counts once, the later record (upstream: leave-one-domain-out loses it);
  - the averages table takes complete trials only, X if there is none (upstream: averages what there is);
  - runs that test on several environments at once are shown (upstream: ignored);
  - datasets DomainBed does not know are shown last (upstream: dropped);
  - names are never cut, and are escaped in LaTeX (upstream: cut to 20 or 25 characters, not escaped);
  - a number made of fewer trials than the sweep has is marked *, and missing runs are listed below each table
    (upstream: a number like any other).
A run that has not finished counts up to its last record. How many runs were found, are unfinished, are there twice
or have unreadable lines is said on stderr; the unfinished ones are named below Markdown and LaTeX tables and in JSON,
too.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from roga_domainbed.catalog.registry import load
from roga_domainbed.errors import Problems, RogaError, unknown_name
from roga_domainbed.report.renderers import RENDERERS

if TYPE_CHECKING:
    from roga_domainbed.metrics import Metric
    from roga_domainbed.report.comparison import ComparisonTable
    from roga_domainbed.results.runs import LoadedRuns, Run
    from roga_domainbed.results.selection import Rule


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Upstream's flags, then ours."""
    parser.add_argument(
        "--input_dir", required=True, nargs="+", help="the sweep's output_dir; several are read as one sweep"
    )
    parser.add_argument("--latex", action="store_true", help="a LaTeX document: --format latex")
    parser.add_argument(
        "--format",
        metavar="NAME",
        help="; ".join(f"{info.name}: {info.summary}" for info in RENDERERS) + " (default text)",
    )
    parser.add_argument("--output", help="the file to write, instead of <input_dir>/results.*")
    parser.add_argument("--auto_lr", action="store_true", help="for runs of DomainBed's train_autolr")
    parser.add_argument(
        "--metric",
        default="acc",
        help="acc (default), or another one that the records have, such as auc, ap, eer",
    )
    parser.add_argument(
        "--level",
        choices=["frame", "video"],
        default="frame",
        help="video: the metric of videos, as --metric video_<metric> does",
    )
    parser.add_argument("--algorithms", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="only these")
    parser.add_argument(
        "--select",
        nargs="+",
        metavar="RULE",
        help="selection rules, in the order of the tables: iid, loo, oracle, last (default: iid loo oracle)",
    )
    parser.add_argument(
        "--compare",
        metavar="BASELINE",
        help="also compare every algorithm with this one, paired: differences, intervals, tests, ranks",
    )
    parser.add_argument(
        "--compat", choices=["upstream"], help="reproduce upstream to the byte, with its known faults"
    )


def run(args: argparse.Namespace) -> int:
    """Print the tables."""
    gc.disable()  # a million small dicts, none of them garbage: collecting would be much of the time
    try:
        return _run(args)
    finally:
        gc.enable()


def _run(args: argparse.Namespace) -> int:
    # Imported here so that --help stays instant.
    from roga_domainbed.catalog import DATASETS
    from roga_domainbed.metrics import get_metric
    from roga_domainbed.report.tables import build_tables
    from roga_domainbed.report.unfinished import MOST_NAMED, unfinished_runs
    from roga_domainbed.results import selection

    names = _check(args)
    folders = list(map(Path, args.input_dir))
    metric = get_metric(("video_" if args.level == "video" else "") + args.metric)
    loaded = _load(folders, metric)
    runs = _filtered(loaded.runs, args)
    unfinished = unfinished_runs(runs, loaded.unfinished)
    _print_some((f"unfinished: {run}" for run in unfinished), most=MOST_NAMED)
    n_records = sum(map(len, runs))
    known = selection.metrics_in(runs)
    if metric.name not in known:
        raise RogaError(unknown_name("metric", metric.name, known))
    if args.auto_lr:
        runs = selection.merge_auto_lr_stages(runs)
        if not any(key.startswith("fd_env") for run in runs for key in run.columns):
            raise RogaError(
                "--auto_lr: no record has fd_env* values; it is for runs of DomainBed's train_autolr"
            )
    if args.compat and not any(run.args["dataset"] in DATASETS for run in runs):
        raise RogaError(
            "--compat upstream drops datasets that DomainBed does not know, and there is no other"
        )

    rules = [selection.RULES.get(name) for name in names]
    tables = build_tables(runs, rules, metric, compat=args.compat, n_records=n_records, unfinished=unfinished)
    renderer = RENDERERS.get(_format(args))
    if args.compare:
        tables = replace(tables, comparisons=_comparisons(runs, rules, args.compare, metric))
    content = load(renderer.target)(tables, compat=args.compat)
    oracle = "_oracle" * (names == ["oracle"])
    name = "results" + (f"_{metric.name}" if metric.name != "acc" else "") + oracle + renderer.suffix
    path = Path(args.output) if args.output else folders[0] / name
    saved = _save(path, content)
    if isinstance(content, str):
        sys.stdout.write(content)
    elif saved:
        print(f"Written to {path}")
    return 0 if saved or isinstance(content, str) else 1


def _format(args: argparse.Namespace) -> str:
    return "latex" if args.latex else args.format or "text"


def _check(args: argparse.Namespace) -> list[str]:
    """The names of the selection rules; all faults of the flags at once."""
    from roga_domainbed.results import selection

    problems = Problems()
    if args.auto_lr and args.select:
        problems.add("--auto_lr has a selection rule of its own: leave out --select")
    if args.latex and args.format not in (None, "latex"):
        problems.add(f"--latex and --format {args.format} exclude each other")
    if _format(args) not in RENDERERS:
        problems.add(unknown_name(RENDERERS.kind, _format(args), RENDERERS.names()))
    if args.format == "parquet" and find_spec("pyarrow") is None:
        problems.add("--format parquet needs the package 'pyarrow': pip install pyarrow")
    names = ["auto_lr"] if args.auto_lr else args.select or ["iid", "loo", "oracle"]
    for name in names:
        if name not in selection.RULES or (name == "auto_lr" and not args.auto_lr):
            known = [rule for rule in selection.RULES.names() if rule != "auto_lr"]
            problems.add(unknown_name("selection rule", name, known))
    if args.compare and args.compat:
        problems.add("--compare is none of upstream's tables: leave out --compat")
    if args.compare and args.format in ("csv", "parquet"):
        problems.add(
            f"--compare has no place in a {args.format} of cells: choose text, latex, markdown or json"
        )
    for folder in args.input_dir:
        if not Path(folder).is_dir():
            problems.add(f"--input_dir {folder!r} is not a folder; give the output_dir of a sweep")
    problems.check()
    return names


def _load(folders: Sequence[Path], metric: Metric) -> LoadedRuns:
    """The runs, finished or not, of all folders; what was found is said on stderr."""
    from roga_domainbed.results.runs import LoadedRuns, load_runs, runs_in_several_folders

    found = LoadedRuns()
    for folder in {folder.resolve(): folder for folder in folders}.values():
        loaded = load_runs(folder, metric.name)
        _report_counts(folder, loaded)
        found.add(loaded)
    if not found.runs:
        raise RogaError(
            f"no records under {', '.join(repr(str(folder)) for folder in folders)}: expected <job>/results.jsonl "
            "in it. Give the output_dir of a sweep whose jobs have reached their first checkpoint"
        )
    mixed = runs_in_several_folders(found.runs)
    if mixed:
        print(
            f"{len(mixed)} runs are read from several folders each: a sweep that was copied, or sweeps that differ "
            "in other options than dataset, algorithm, test envs, trial and hparams_seed. Of a step that is there "
            "twice the later folder counts.",
            file=sys.stderr,
        )
        _print_some(f"{run}: {', '.join(sources)}" for run, sources in mixed.items())
    return found


def _filtered(runs: list[Run], args: argparse.Namespace) -> list[Run]:
    """The runs of ``--algorithms`` and ``--datasets``."""
    problems = Problems()
    for kind, wanted in (("algorithm", args.algorithms), ("dataset", args.datasets)):
        if wanted:
            present = sorted({run.args[kind] for run in runs})
            for name in wanted:
                if name not in present:
                    problems.add(unknown_name(f"{kind} of these records", name, present))
            runs = [run for run in runs if run.args[kind] in wanted] or runs
    problems.check()
    return runs


def _comparisons(
    runs: list[Run], rules: Sequence[Rule], baseline: str, metric: Metric
) -> tuple[ComparisonTable, ...]:
    from roga_domainbed.report.comparison import comparison_table

    known = sorted({run.args["algorithm"] for run in runs})
    if baseline not in known:
        raise RogaError(unknown_name("algorithm of these records", baseline, known))
    return tuple(comparison_table(runs, rule, baseline, metric) for rule in rules)


def _report_counts(folder: Path, loaded: LoadedRuns) -> None:
    unfinished = len(loaded.unfinished)
    without = sorted(set(os.listdir(folder)) - set(loaded.folders))
    empty = [run for run in without if (folder / run / "job.json").exists()]
    finished = len(loaded.folders) - unfinished
    counts = f"{len(loaded.folders)} runs found: {finished} finished, {unfinished} unfinished"
    print(f"{counts}; {len(loaded.problems)} lines skipped.", file=sys.stderr)
    if empty:
        shown = ", ".join(empty[:3]) + (", …" if len(empty) > 3 else "")
        print(f"{len(empty)} jobs ended or run without a record yet: {shown}", file=sys.stderr)
    for problem in loaded.problems:
        print(f"  {problem}", file=sys.stderr)
    _print_some(loaded.notes)


def _print_some(lines: Iterable[str], most: int = 20) -> None:
    lines = list(lines)
    for line in lines[:most]:
        print(f"  {line}", file=sys.stderr)
    if len(lines) > most:
        print(f"  … and {len(lines) - most} more like these", file=sys.stderr)


def _save(path: Path, content: str | bytes) -> bool:
    try:
        path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    except OSError as error:
        follow = " The tables follow on stdout." if isinstance(content, str) else ""
        print(f"Not saved to {path}: {error.strerror}.{follow}", file=sys.stderr)
        return False
    return True
