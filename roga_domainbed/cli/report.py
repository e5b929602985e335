r"""Write one HTML file that shows what a sweep found.

The file needs no network and no other file; it opens in any browser, light or dark, on a phone and on paper. It has a
summary; the tables of collect-results with 95 % intervals, sortable; the comparison with a baseline; for each dataset
the results by environment, ROC and DET curves, histograms of scores, training curves, the cost of a step, sharpness,
gradient agreement, the hyper-parameter search and the chosen runs; the health of the sweep; and versions and data of
the runs, with the command that repeats each chosen run.

  $ roga-domainbed report --input_dir roga-demo/sweep --output report.html
  4 algorithms on SynthFake: one trial, one draw of hyper-parameters for each cell, 16 runs.
  ...
  SynthFake: SAGM has the highest average AUC, 99.8; ERM is second with 99.3.
  Too few trials to compare SAM, SAGM and RoGA with ERM: with 4 pairs the test cannot reach p < 0.05. Add trials.
  No runs are missing.
  Written to report.html (0.5 MB)

With --against paper the page also has the numbers of the paper that the sweep repeats (presets table1_… to table6_…)
beside ours, and they are printed: ours with its 95 % interval, the difference, and whether the paper's is inside.

  $ roga-domainbed report --input_dir sweeps/table2 --against paper
  ...
  Row     Column      Paper  Ours  95 % interval  Difference  Paper inside
  RoGA    GID-DF AUC  90.08  ...
  DisGRL  GID-DF AUC  86.10  paper only

Sections say what the records do not hold: DomainBed's own scripts record no AUC, scores or versions. With --select
oracle the word oracle is in the title, the rows, the captions and the file names.

Words such as oracle, in-split and trial are explained on the page, and in docs/README.md.

To install matplotlib and Jinja2, which it needs: pip install 'roga-domainbed[report]'
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from roga_domainbed.cli.collect_results import (
    add_against_argument,
    add_by_argument,
    add_rows_argument,
    make_rows,
)
from roga_domainbed.errors import MissingExtra, Problems, RogaError, unknown_name
from roga_domainbed.files import replacement_problem, replacing
from roga_domainbed.foreign import one_line

if TYPE_CHECKING:
    from roga_domainbed.metrics import Metric
    from roga_domainbed.report.page import Report
    from roga_domainbed.results.runs import LoadedRuns, Run

FIGURE_FORMATS = ("pdf", "svg", "png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to read, what to show, where to write."""
    parser.add_argument(
        "--input_dir",
        required=True,
        nargs="+",
        help="the sweep's output_dir, or where 'sweep pack' packed it; several are read as one sweep",
    )
    parser.add_argument(
        "--output",
        help="the HTML file (default: report.html in the first folder; report_oracle.html for the oracle)",
    )
    parser.add_argument(
        "--metric", help="what to select by and to show (default: auc if the records have it, else acc)"
    )
    parser.add_argument(
        "--select",
        nargs="+",
        default=["iid"],
        help="selection rules: iid, loo, oracle, last; figures and summary follow the first (default iid)",
    )
    add_rows_argument(parser)
    add_by_argument(parser)
    parser.add_argument(
        "--baseline", metavar="ROW", help="the row to compare with (default: ERM, or the first row)"
    )
    add_against_argument(parser)
    parser.add_argument("--figures", metavar="DIR", help="also write the figures as files")
    parser.add_argument(
        "--figure-format",
        "--figure_format",
        default="pdf",
        choices=FIGURE_FORMATS,
        help="format of --figures (default pdf)",
    )


def run(args: argparse.Namespace) -> int:
    """Read, draw, write."""
    from roga_domainbed.report.against import against_tables, paper_tables
    from roga_domainbed.report.renderers.text import render_more
    from roga_domainbed.results import selection
    from roga_domainbed.results.runs import runs_in_several_folders

    _check(args)
    papers = paper_tables(args.input_dir, args.against) if args.against else []
    require_extra("report")
    loaded, metric = _load(args.input_dir, args.metric)
    loaded.notes += make_rows(loaded.runs, args)
    loaded.notes += [
        f"{run}: in several folders, {', '.join(sources)}; of a step that is there twice the later folder counts"
        for run, sources in runs_in_several_folders(loaded.runs).items()
    ]
    baseline = _baseline(args.baseline, loaded.runs)
    rules = [selection.RULES.get(name) for name in args.select]

    from roga_domainbed.report import page
    from roga_domainbed.report.health import run_health
    from roga_domainbed.report.study import study
    from roga_domainbed.results.protocols import grouped
    from roga_domainbed.sweep.folder import planned

    groups = grouped(loaded.runs, args.by, planned(args.input_dir))
    found = study(args.input_dir, loaded, rules, metric, baseline, groups)
    against = against_tables(args.input_dir, papers, rules)
    report = page.make_report(found, run_health(args.input_dir, loaded.runs), against)
    html = _drawn(report)
    output = _output(args)
    with replacing(output) as partial:
        partial.write_text(html, encoding="utf-8")
    for sentence in report.sentences:
        print(one_line(sentence.text))
    print(render_more(against), end="")
    print(f"Written to {output} ({len(html.encode('utf-8')) / 1e6:.1f} MB)")
    if args.figures is not None:
        figures = page.save_figures(report, Path(args.figures), args.figure_format)
        print(f"{len(figures)} figures in {args.figures}")
    return 0


def require_extra(purpose: str) -> None:
    """Raise ``MissingExtra`` unless pages can be drawn; ``purpose`` is what for."""
    for package, module in (("matplotlib", "matplotlib"), ("Jinja2", "jinja2")):
        if find_spec(module) is None:
            raise MissingExtra(package, "report", purpose)


def _check(args: argparse.Namespace) -> None:
    """All faults of the flags at once."""
    from roga_domainbed.results import selection

    problems = Problems()
    for folder in args.input_dir:
        if not Path(folder).is_dir():
            problems.add(f"--input_dir {folder!r} is not a folder; give the output_dir of a sweep")
    known = [name for name in selection.RULES.names() if name != "auto_lr"]
    for name in args.select:
        if name not in known:
            problems.add(unknown_name("selection rule", name, known))
    output = _output(args)
    if output.is_dir():
        problems.add(f"--output {str(output)!r} is a folder; give the name of a file")
    elif (other := replacement_problem(output, b"<!doctype html")) is not None:
        problems.add(f"{str(output)!r} {other}")
    elif not output.parent.is_dir():
        problems.add(f"--output {str(output)!r}: the folder {str(output.parent)!r} does not exist")
    if args.figures is not None and Path(args.figures).exists() and not Path(args.figures).is_dir():
        problems.add(f"--figures {args.figures!r} is a file; give a folder")
    problems.check()
    args.select = list(dict.fromkeys(args.select))
    args.input_dir = list({os.path.realpath(folder): folder for folder in args.input_dir}.values())


def _output(args: argparse.Namespace) -> Path:
    if args.output:
        return Path(args.output)
    return Path(args.input_dir[0]) / ("report_oracle.html" if "oracle" in args.select else "report.html")


def _load(folders: Sequence[str], wanted: str | None) -> tuple[LoadedRuns, Metric]:
    """The runs of all folders, and the metric: the wanted one, else AUC if there is one, else accuracy."""
    from roga_domainbed.metrics import get_metric
    from roga_domainbed.results import selection
    from roga_domainbed.results.runs import load_sweeps

    for name in [wanted] if wanted else ["auc", "acc"]:
        loaded = load_sweeps(folders, name)
        known = selection.metrics_in(loaded.runs)
        if name in known:
            return loaded, get_metric(name)
    if wanted:
        raise RogaError(selection.no_such_metric(get_metric(wanted), loaded.runs))
    raise RogaError(
        "the records have neither auc nor acc of both an in- and an out-split, such as env0_in_acc and env0_out_acc; "
        f"--metric may be one of: {', '.join(known) or 'none'}"
    )


def _baseline(wanted: str | None, runs: Sequence[Run]) -> str:
    from roga_domainbed.results.rows import rows_of

    known = list(rows_of(runs))
    if wanted is not None and wanted not in known:
        raise RogaError(unknown_name("row of these tables", wanted, known))
    return wanted or ("ERM" if "ERM" in known else known[0])


def _drawn(report: Report) -> str:
    """The page, with a progress bar on a terminal."""
    from tqdm import tqdm

    from roga_domainbed.report import page

    terminal = sys.stderr.isatty()
    with tqdm(
        total=page.n_panels(report), unit="panel", desc="Drawing", disable=not terminal, leave=False
    ) as bar:
        return page.render_page(report, bar.update)
