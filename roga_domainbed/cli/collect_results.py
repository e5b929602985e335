r"""Tables from the records of a sweep, in DomainBed's layout.

For each selection rule: one table a dataset (algorithms by test environments, mean +/- error over trials in
percent), then one of averages over datasets. The error is the population standard deviation divided by the
square root of the number of trials. The same text goes to <input_dir>/results.txt (results.tex with --latex,
results_<metric>.* for another metric than acc).

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
  - names are never cut, and are escaped in LaTeX (upstream: cut to 20 or 25 characters, not escaped).
How many runs were found, are unfinished or have unreadable lines is said on stderr.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from roga_domainbed.errors import Problems, RogaError, unknown_name
from roga_domainbed.registry import load
from roga_domainbed.report.renderers import RENDERERS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Upstream's flags, then ours."""
    parser.add_argument("--input_dir", required=True, help="the sweep's output_dir")
    parser.add_argument(
        "--format",
        metavar="NAME",
        help="; ".join(f"{info.name}: {info.summary}" for info in RENDERERS) + " (default text)",
    )
    parser.add_argument("--latex", action="store_true", help="the same as --format latex")
    parser.add_argument("--auto_lr", action="store_true", help="for runs of DomainBed's train_autolr")
    parser.add_argument(
        "--metric",
        default="acc",
        help="acc (default), or another one that the records have, such as auc, ap, eer",
    )
    parser.add_argument(
        "--select",
        nargs="+",
        metavar="RULE",
        help="selection rules, in the order of the tables: iid, loo, oracle, last (default: iid loo oracle)",
    )
    parser.add_argument(
        "--compat", choices=["upstream"], help="reproduce upstream to the byte, with its known faults"
    )


def run(args: argparse.Namespace) -> int:
    """Print the tables."""
    # Imported here so that --help stays instant.
    from roga_domainbed import records as records_file
    from roga_domainbed import selection
    from roga_domainbed.catalog import DATASETS
    from roga_domainbed.report.tables import build_tables

    problems = Problems()
    if args.latex and args.format not in (None, "latex"):
        problems.add(f"--latex and --format {args.format} exclude each other")
    wanted = "latex" if args.latex else args.format or "text"
    if wanted not in RENDERERS:
        problems.add(unknown_name(RENDERERS.kind, wanted, RENDERERS.names()))
    if args.auto_lr and args.select:
        problems.add("--auto_lr has a selection rule of its own: leave out --select")
    names = ["auto_lr"] if args.auto_lr else args.select or ["iid", "loo", "oracle"]
    for name in names:
        if name not in selection.RULES or (name == "auto_lr" and not args.auto_lr):
            known = [rule for rule in selection.RULES.names() if rule != "auto_lr"]
            problems.add(unknown_name("selection rule", name, known))
    folder = Path(args.input_dir)
    if not folder.is_dir():
        problems.add(f"--input_dir {args.input_dir!r} is not a folder; give the output_dir of a sweep")
    problems.check()

    loaded = records_file.load(folder)
    _report_counts(folder, loaded.folders, loaded.problems)
    if not loaded.records:
        raise RogaError(
            f"no records under {args.input_dir!r}: expected <job>/results.jsonl in it. Give the output_dir of a "
            "sweep whose jobs have reached their first checkpoint"
        )
    mixed = selection.mixed_runs(loaded.records)
    if mixed:
        print(
            f"{mixed} runs are read from several folders each, which differ in other options than dataset, algorithm, "
            "test envs, trial and hparams_seed; give every sweep its own output_dir.",
            file=sys.stderr,
        )
    metric = selection.Metric(args.metric)
    known = selection.metrics_in(loaded.records)
    if metric.name not in known:
        raise RogaError(unknown_name("metric", metric.name, known))
    records = loaded.records
    if args.auto_lr:
        records = selection.merge_auto_lr_stages(records)
        if not any(key.startswith("fd_env") for record in records for key in record):
            raise RogaError(
                "--auto_lr: no record has fd_env* values; it is for runs of DomainBed's train_autolr"
            )
    if args.compat and not any(record["args"]["dataset"] in DATASETS for record in records):
        raise RogaError(
            "--compat upstream drops datasets that DomainBed does not know, and there is no other"
        )

    rules = [selection.RULES.get(name) for name in names]
    tables = build_tables(records, rules, metric, compat=args.compat, n_records=len(loaded.records))
    renderer = RENDERERS.get(wanted)
    text = load(renderer.target)(tables, compat=args.compat)
    _save(folder, metric.name, renderer.suffix, text)
    sys.stdout.write(text)
    return 0


def _report_counts(folder: Path, runs: Sequence[str], skipped: Sequence[str]) -> None:
    from roga_domainbed.records import is_done

    finished = sum(is_done(folder / run) for run in runs)
    started = {path.parent.name for path in folder.glob("*/job.json")}
    empty = sorted(started - set(runs))
    counts = f"{len(runs)} runs found: {finished} finished, {len(runs) - finished} unfinished"
    print(f"{counts}; {len(skipped)} lines skipped.", file=sys.stderr)
    if empty:
        shown = ", ".join(empty[:3]) + (", …" if len(empty) > 3 else "")
        print(f"{len(empty)} jobs ended or run without a record yet: {shown}", file=sys.stderr)
    for problem in skipped:
        print(f"  {problem}", file=sys.stderr)


def _save(folder: Path, metric: str, suffix: str, text: str) -> None:
    path = folder / ("results" + ("" if metric == "acc" else f"_{metric}") + suffix)
    try:
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        print(f"Not saved to {path}: {error.strerror}. The tables follow on stdout.", file=sys.stderr)
