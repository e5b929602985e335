r"""Print the tables of a sweep, in DomainBed's layout, and write them to a file.

For each selection rule: one table for each dataset (algorithms by test environments, mean +/- error over trials in
percent), then one of averages over datasets. The error is the population standard deviation divided by the square
root of the number of trials. The file is <input_dir>/results.txt, or .tex, .md, .csv, .parquet or .json with --format.
Its name is results_<metric>.* for another metric than acc, and results_oracle.* if only the oracle selects. With
several input folders it is in the first; --output names another file.

  $ roga-domainbed collect-results --input_dir sweeps/s1
  Total records: 200

  -------- Dataset: VLCS, model selection method: training-domain validation set
  Algorithm             C                     L                     S                     V           ...
  ERM                   98.0 +/- 0.2          64.2 +/- 0.8          74.1 +/- 0.4          77.1 +/- 0.2  ...

Selection rules (--select): iid, training-domain validation; loo, leave-one-domain-out, which needs runs with pairs of
test environments; oracle, which chooses with test data; last, the last step. Whatever test data chose has the word
oracle beside it.

Rows: one for each algorithm, or for each row that the plan of the sweep names. --rows makes them from arguments and
hyper-parameters: with --rows algorithm,hparams.backbone a row is "ERM, backbone resnet34". Models are selected within
a row. Without --rows, runs of one algorithm with different settings (steps, split, --hparams, backend) get a row each.

Training sets: runs that train on one environment, or on a few, and hold out all others together have a table for each
training set, apart from that of runs that leave one out. --by train_envs makes one of every training set.

--against paper prints the numbers of a paper beside ours, for sweeps of the presets table1_… to table6_…: ours with its
95 % interval, the difference, and whether the paper's number is inside the interval. --format csv then holds these
cells instead of those of the tables.

X is a cell without a number; the lines below a table say why. A number of a single trial has no error. Below a table
is how many videos and people each column was tested on, as far as the records tell, and † marks a number that was
tested on fewer than 10 videos or 5 people of a class.

Where upstream is wrong the default differs from it; --compat upstream prints upstream's tables byte for byte:
  - a validation metric that is NaN or null is never chosen (upstream chooses a NaN in a first record);
  - a step recorded twice counts once, the later record (upstream drops it in leave-one-domain-out);
  - the averages table uses complete trials only, X if there is none (upstream averages what there is);
  - runs that test on several environments at once are shown, a table for each training set (upstream ignores them);
  - datasets that DomainBed does not know are shown last (upstream drops them);
  - names are never cut, and are escaped in LaTeX (upstream cuts at 20 or 25 characters and does not escape);
  - the mean of fewer trials than the sweep has is marked *, and missing runs are listed below each table (upstream
    does neither), and so is what each column was tested on;
  - a table without a number is a sentence that says why (upstream prints a table of X);
  - a single trial has no error (upstream: 0.0), and runs of different settings have rows of their own (upstream
    chooses among them).
A run that has not finished counts up to its last record. What cannot be read is skipped and named below the tables.
The exit status is 1 if the file could not be written. Standard error gets the number of runs, unfinished runs and
unreadable lines; Markdown, LaTeX and JSON name the unfinished runs, too.

Words such as oracle, in-split and trial: the glossary in docs/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from roga_domainbed.catalog.registry import load
from roga_domainbed.errors import Problems, RogaError, shortened, unknown_name
from roga_domainbed.files import replacement_problem, replacing
from roga_domainbed.foreign import one_line
from roga_domainbed.report.renderers import RENDERERS

if TYPE_CHECKING:
    from roga_domainbed.report.scores import StoredScores
    from roga_domainbed.results.runs import LoadedRuns, Run

_BEGIN = 10  # bytes by which an earlier table of the same format is known
MOST_BELOW = 12  # problems that are named below the tables


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Upstream's flags, then ours."""
    parser.add_argument(
        "--input_dir",
        required=True,
        nargs="+",
        help="the sweep's output_dir, or where 'sweep pack' packed it; several are read as one sweep",
    )
    parser.add_argument("--latex", action="store_true", help="a LaTeX document: --format latex")
    parser.add_argument(
        "--format",
        metavar="NAME",
        help="; ".join(f"{info.name}: {info.summary}" for info in RENDERERS) + " (default text)",
    )
    parser.add_argument("--output", help="the file to write instead of <input_dir>/results.*")
    parser.add_argument("--auto_lr", action="store_true", help="for runs of DomainBed's train_autolr")
    parser.add_argument(
        "--metric",
        default="acc",
        help="what to select by and to show: acc (default), or another metric of the records, such as auc, ap or eer",
    )
    parser.add_argument(
        "--level",
        choices=["frame", "video"],
        default="frame",
        help="video: the metric over videos, like --metric video_<metric>",
    )
    parser.add_argument("--algorithms", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="only these")
    add_rows_argument(parser)
    add_by_argument(parser)
    parser.add_argument(
        "--select",
        nargs="+",
        metavar="RULE",
        help="selection rules, in the order of the tables: iid, loo, oracle, last (default: iid loo oracle)",
    )
    parser.add_argument(
        "--intervals",
        action="store_true",
        help="also print 95 %% intervals over test videos, or over trials where no scores are stored",
    )
    parser.add_argument(
        "--compare",
        metavar="ROW",
        help="also compare every row with this one, in pairs: differences, intervals, tests, ranks",
    )
    add_against_argument(parser)
    parser.add_argument(
        "--compat", choices=["upstream"], help="print upstream's tables byte for byte, with its known faults"
    )


def add_rows_argument(parser: argparse.ArgumentParser) -> None:
    """``--rows``, which ``report`` has, too."""
    parser.add_argument(
        "--rows",
        metavar="KEY,…",
        type=lambda text: [key.strip() for key in text.split(",") if key.strip()],
        help="name the rows after these arguments and hyper-parameters, such as algorithm,hparams.backbone",
    )


def add_by_argument(parser: argparse.ArgumentParser) -> None:
    """``--by``, which ``report`` has, too."""
    parser.add_argument(
        "--by",
        choices=["test_envs", "train_envs"],
        help="train_envs: a table for each training set; test_envs: one table, with a column for each test "
        "environment, whatever is trained on (default: one table of the runs that leave one out, and one for each "
        "other training set)",
    )


def add_against_argument(parser: argparse.ArgumentParser) -> None:
    """``--against``, which ``report`` has, too."""
    parser.add_argument(
        "--against",
        metavar="paper|PRESET",
        help="also compare with a paper's numbers: those of the sweep's own preset, or of a preset or YAML file",
    )


def run(args: argparse.Namespace) -> int:
    """Print the tables."""
    gc.disable()  # a million small dicts, none of them garbage: collecting would take much of the time
    try:
        return _run(args)
    finally:
        gc.enable()


def _run(args: argparse.Namespace) -> int:
    # Imported here so that --help stays instant.
    from roga_domainbed.catalog import DATASETS
    from roga_domainbed.metrics import get_metric
    from roga_domainbed.report.comparison import can_compare, comparison_table
    from roga_domainbed.report.incomplete import MOST_NAMED, unfinished_runs
    from roga_domainbed.report.sizes import with_sizes
    from roga_domainbed.report.tables import build_tables
    from roga_domainbed.results import selection
    from roga_domainbed.results.protocols import by_test_env, grouped
    from roga_domainbed.results.rows import rows_of
    from roga_domainbed.results.runs import load_sweeps
    from roga_domainbed.results.selected import select_each
    from roga_domainbed.sweep.folder import planned

    rules = _check(args)
    metric = get_metric(("video_" if args.level == "video" else "") + args.metric)
    loaded = load_sweeps(args.input_dir, metric.name)
    _print_counts(args.input_dir, loaded)
    runs = _filtered(loaded.runs, args)
    if metric.name not in selection.metrics_in(runs):
        raise RogaError(selection.no_such_metric(metric, runs))
    problems = [*loaded.problems, *make_rows(runs, args)]
    _print_runs_in_several_folders(runs)
    unfinished = unfinished_runs(runs, loaded.unfinished)
    _print_some((f"unfinished: {run}" for run in unfinished), most=MOST_NAMED)
    n_records = sum(map(len, runs))
    if args.auto_lr:
        runs = selection.merge_auto_lr_stages(runs)
        if not any(key.startswith("fd_env") for run in runs for key in run.columns):
            raise RogaError(
                "--auto_lr: no record has fd_env* values; it is for runs of DomainBed's train_autolr"
            )
    if args.compat and not any(run.args["dataset"] in DATASETS for run in runs):
        raise RogaError(
            "--compat upstream drops datasets that DomainBed does not know, and there are no others"
        )
    if args.compare and args.compare not in rows_of(runs):
        raise RogaError(unknown_name("row of these tables", args.compare, rows_of(runs)))

    chosen_by = [selection.RULES.get(rule) for rule in rules]
    groups = by_test_env(runs) if args.compat else grouped(runs, args.by, planned(args.input_dir))
    selected = select_each(runs, chosen_by, metric, compat=args.compat, groups=groups)
    tables = build_tables(runs, selected, compat=args.compat, n_records=n_records, unfinished=unfinished)
    if not args.compat:
        more = [f"and {len(problems) - MOST_BELOW} more; standard error has all"] * (
            len(problems) > MOST_BELOW
        )
        tables = replace(tables, problems=(*problems[:MOST_BELOW], *more))
    stored: StoredScores = {}
    if args.intervals:
        from roga_domainbed.report.interval_table import interval_tables
        from roga_domainbed.report.scores import read_stored

        stored, unusable = read_stored(run for own in selected for run in own.chosen)
        _print_some(unusable)
        found = [table for own in selected for table in interval_tables(own, stored)]
        tables = replace(tables, intervals=tuple(found))
    if not args.compat:
        tables = with_sizes(tables, runs, selected, stored)
    if args.against:
        from roga_domainbed.report.against import against_tables, paper_tables

        wanted = paper_tables(args.input_dir, args.against)
        rules_of_ours = [rule for rule in chosen_by if args.select or rule.name == "iid"]
        tables = replace(tables, against=tuple(against_tables(args.input_dir, wanted, rules_of_ours)))
    if args.compare:
        parts = [own.within(group) for own in selected for group in groups]
        parts = [own for own in parts if args.compare in own.values]
        # a group without anything to compare is said to have none only if no group has
        parts = [own for own in parts if can_compare(own, args.compare)] or parts
        tables = replace(tables, comparisons=tuple(comparison_table(own, args.compare) for own in parts))
    renderer = RENDERERS.get(_format(args))
    content = load(renderer.target)(tables, compat=args.compat)
    oracle = "_oracle" * (rules == ["oracle"])
    name = "results" + (f"_{metric.name}" if metric.name != "acc" else "") + oracle + renderer.suffix
    path = Path(args.output) if args.output else Path(args.input_dir[0]) / name
    saved = _save(path, content)
    if isinstance(content, str):
        print(content, end="")
    elif saved:
        print(f"Written to {path}")
    return 0 if saved else 1


def make_rows(runs: list[Run], args: argparse.Namespace) -> list[str]:
    """Name the rows of the tables, as ``--rows`` asks or so that each has runs of one setting.

    Returns:
        A sentence for everything that the numbers of a row should not be read without.
    """
    from roga_domainbed.results.rows import mixed_hparams, name_rows, name_variants, variants_in_rows

    if getattr(args, "auto_lr", False):
        return []  # its stages differ, as meant
    if getattr(args, "compat", None):
        for sentence in variants_in_rows(runs):
            print(f"{one_line(sentence)}; upstream takes them together", file=sys.stderr)
        return []
    if args.rows:
        name_rows(runs, args.rows)
        return [*variants_in_rows(runs), *mixed_hparams(runs)]
    divided, mixed = name_variants(runs)
    for sentence in divided:
        print(f"{one_line(sentence)}. --rows algorithm takes them together.", file=sys.stderr)
    return mixed


def _format(args: argparse.Namespace) -> str:
    return "latex" if args.latex else args.format or "text"


def _check(args: argparse.Namespace) -> list[str]:
    """The names of the selection rules; all faults of the flags at once."""
    from roga_domainbed.results import selection

    problems = Problems()
    if args.auto_lr and args.select:
        problems.add("--auto_lr has its own selection rule: leave out --select")
    if args.latex and args.format not in (None, "latex"):
        problems.add(f"--latex and --format {args.format} exclude each other")
    if _format(args) not in RENDERERS:
        problems.add(unknown_name(RENDERERS.kind, _format(args), RENDERERS.names()))
    if args.format == "parquet" and find_spec("pyarrow") is None:
        problems.add("--format parquet needs the package 'pyarrow': pip install pyarrow")
    rules = ["auto_lr"] if args.auto_lr else args.select or ["iid", "loo", "oracle"]
    if args.compat and args.intervals:
        problems.add("upstream has no table for --intervals: leave out --compat")
    if args.intervals and _format(args) in ("csv", "json", "parquet"):
        problems.add(f"--format {_format(args)} cannot hold --intervals: choose text, latex or markdown")
    for name in rules:
        if name not in selection.RULES or (name == "auto_lr" and not args.auto_lr):
            known = [rule for rule in selection.RULES.names() if rule != "auto_lr"]
            problems.add(unknown_name("selection rule", name, known))
    if args.by and args.compat:
        problems.add("upstream has no tables for --by: leave out --compat")
    if args.against and (args.compat or args.auto_lr):
        problems.add("--against compares by our rules: leave out --compat and --auto_lr")
    if args.against and args.format == "parquet":
        problems.add("--format parquet cannot hold --against: choose text, latex, markdown, csv or json")
    if args.compare and args.compat:
        problems.add("upstream has no table for --compare: leave out --compat")
    if args.compare and args.format in ("csv", "parquet"):
        problems.add(f"--format {args.format} cannot hold --compare: choose text, latex, markdown or json")
    for folder in args.input_dir:
        if not Path(folder).is_dir():
            problems.add(f"--input_dir {folder!r} is not a folder; give the output_dir of a sweep")
    problems.check()
    return rules


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


def _print_counts(folders: list[str], loaded: LoadedRuns) -> None:
    """What reading found, to standard error."""
    from roga_domainbed.results.packed import packed_runs
    from roga_domainbed.results.records import RECORDS

    n_unfinished = len(loaded.unfinished)
    n_dropped = len({run.source for run in loaded.runs if run.dropped is not None})
    counts = f"{len(loaded.folders) - n_unfinished - n_dropped} finished, {n_unfinished} unfinished"
    counts += f", {n_dropped} dropped by halving" if n_dropped else ""
    lines = f"{len(loaded.problems)} lines skipped."
    print(f"{len(loaded.folders)} runs found: {counts}; {lines}", file=sys.stderr)
    empty = []
    for folder in dict.fromkeys(folders):
        jobs = sorted(Path(folder).glob("*/job.json"))
        empty += [job.parent.name for job in jobs if not os.path.exists(job.with_name(RECORDS))]
        with contextlib.suppress(RogaError):  # is among the problems
            empty += [name for name, run in packed_runs(folder).items() if run.lines is None]
    if empty:
        print(f"{len(empty)} jobs have no records yet: {one_line(shortened(empty))}", file=sys.stderr)
    _print_some(loaded.problems, most=len(loaded.problems))
    _print_some(loaded.notes)


def _print_runs_in_several_folders(runs: Iterable[Run]) -> None:
    from roga_domainbed.results.runs import runs_in_several_folders

    found = runs_in_several_folders(runs)
    if found:
        print(
            f"{len(found)} runs are in several folders each: the sweep was copied, or the runs differ in other options "
            "than algorithm, dataset, test_envs, trial_seed and hparams_seed; --rows makes rows of such options. Of a "
            "step that is there twice the later folder counts.",
            file=sys.stderr,
        )
        _print_some(f"{run}: {', '.join(sources)}" for run, sources in found.items())


def _print_some(lines: Iterable[str], most: int = 20) -> None:
    lines = list(lines)
    for line in lines[:most]:
        print(f"  {one_line(line)}", file=sys.stderr)
    if len(lines) > most:
        print(f"  … and {len(lines) - most} more like these", file=sys.stderr)


def _save(path: Path, content: str | bytes) -> bool:
    data = content.encode("utf-8") if isinstance(content, str) else content
    reason = replacement_problem(path, data[: 4 if data.startswith(b"PAR1") else _BEGIN])
    if reason is None:
        try:
            with replacing(path) as partial:
                partial.write_bytes(data)
            return True
        except OSError as error:
            reason = error.strerror or str(error)
    follow = " The tables follow on standard output." if isinstance(content, str) else ""
    print(f"Not saved to {path}: {reason}.{follow}", file=sys.stderr)
    return False
