r"""One HTML file that says what a sweep found: tables, intervals, curves, what is missing, and where it came from.

The file needs no network and nothing beside it; it opens in any browser, light or dark, on a phone and on paper.
Its sections: a summary in words; the tables of collect-results with 95 % intervals, sortable, and the comparison
with a baseline; for each data set results by environment, ROC and DET curves, scores of reals and fakes, training
curves, the cost of a step, sharpness, agreement of gradients, the search for hyper-parameters and what was chosen;
the health of the sweep; provenance, with the command of every chosen run.

  $ roga-domainbed report --input_dir roga-demo/sweep --output report.html
  4 algorithms on SynthFake, one trial, one draw of hyper-parameters a cell, 16 runs.
  ...
  SynthFake: ERM has the highest average AUC, 99.0, before SAGM with 98.7.
  SynthFake: Too few pairs to tell, whatever the differences: the test cannot reach p < 0.05, add trials: SAM, ...
  No cell lacks a run that other cells have.
  Written to report.html (0.5 MB)

What the records do not hold (DomainBed's own scripts store no AUC, scores or versions) is said in its section.
--select oracle puts the word oracle into the title, the rows, the captions and the file names.

Needs matplotlib and Jinja2: pip install 'roga-domainbed[report]'
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from roga_domainbed.errors import MissingExtra, Problems, RogaError, unknown_name
from roga_domainbed.files import replacing

if TYPE_CHECKING:
    from roga_domainbed.metrics import Metric
    from roga_domainbed.results.runs import LoadedRuns

FIGURE_FORMATS = ("pdf", "svg", "png")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to read, what to show, where to write."""
    parser.add_argument(
        "--input_dir", required=True, nargs="+", help="the sweep's output_dir; several are read as one sweep"
    )
    parser.add_argument(
        "--output",
        help="the HTML file (default: report.html in the first folder; report_oracle.html for the oracle)",
    )
    parser.add_argument(
        "--metric", help="what to select by and to show (default: auc where the records have it, else acc)"
    )
    parser.add_argument(
        "--select",
        nargs="+",
        default=["iid"],
        help="selection rules: iid, loo, oracle, last; figures and summary follow the first (default iid)",
    )
    parser.add_argument(
        "--baseline", help="the algorithm to compare with (default: ERM, where the records have it)"
    )
    parser.add_argument("--figures", metavar="DIR", help="write the figures as files, too")
    parser.add_argument(
        "--figure-format",
        "--figure_format",
        default="pdf",
        choices=FIGURE_FORMATS,
        help="of --figures (default pdf)",
    )


def run(args: argparse.Namespace) -> int:
    """Read, draw, write."""
    from roga_domainbed.results import selection

    _check(args)
    for package, module in (("matplotlib", "matplotlib"), ("Jinja2", "jinja2")):
        if find_spec(module) is None:
            raise MissingExtra(package, "report", "report")
    loaded, metric = _load(args.input_dir, args.metric)
    baseline = _baseline(args.baseline, loaded)
    rules = [selection.RULES.get(name) for name in args.select]

    from roga_domainbed.report import page
    from roga_domainbed.report.health import run_health
    from roga_domainbed.report.study import study
    from roga_domainbed.report.words import summary

    found = study(args.input_dir, loaded, rules, metric, baseline)
    health = run_health(args.input_dir, loaded.runs)
    report = page.make_report(found, health)
    html = _drawn(report)
    output = _output(args)
    _write(output, html)
    figures = (
        [] if args.figures is None else page.save_figures(report, Path(args.figures), args.figure_format)
    )
    for sentence in summary(found, health):
        print(sentence.text)
    print(f"Written to {output} ({len(html.encode('utf-8')) / 1e6:.1f} MB)")
    if args.figures is not None:
        print(f"{len(figures)} figures in {args.figures}")
    return 0


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
    elif not output.parent.is_dir():
        problems.add(f"--output {str(output)!r}: the folder {str(output.parent)!r} is not there")
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
    """The runs of all folders, and the metric: the wanted one, else AUC where there is one, else accuracy."""
    from roga_domainbed.metrics import get_metric
    from roga_domainbed.results import selection

    for name in [wanted] if wanted else ["auc", "acc"]:
        loaded = _load_metric(folders, name)
        known = selection.metrics_in(loaded.runs)
        if name in known:
            return loaded, get_metric(name)
    if wanted:
        raise RogaError(unknown_name("metric", wanted, known))
    raise RogaError(
        "the records have neither auc nor acc of both an in- and an out-split, such as env0_in_acc and env0_out_acc; "
        f"--metric may be one of: {', '.join(known) or 'none'}"
    )


def _load_metric(folders: Sequence[str], metric: str) -> LoadedRuns:
    from roga_domainbed.results import runs

    whole = runs.LoadedRuns()
    for folder in folders:
        whole.add(runs.load_runs(folder, metric))
    if not whole.runs:
        lines = whole.problems + whole.notes
        unreadable = f" Unreadable: {'; '.join(lines[:3])}{'; …' * (len(lines) > 3)}." if lines else ""
        raise RogaError(
            f"no records under {', '.join(map(repr, folders))}: expected <job>/results.jsonl in it.{unreadable} Give "
            "the output_dir of a sweep whose jobs have reached their first checkpoint"
        )
    whole.notes += [
        f"{run}: in several folders, {', '.join(sources)}; of a step that is there twice the later folder counts"
        for run, sources in runs.runs_in_several_folders(whole.runs).items()
    ]
    return whole


def _baseline(wanted: str | None, loaded: LoadedRuns) -> str:
    known = list(dict.fromkeys(run.args["algorithm"] for run in loaded.runs))
    if wanted is not None and wanted not in known:
        raise RogaError(unknown_name("algorithm of these records", wanted, known))
    return wanted or ("ERM" if "ERM" in known else known[0])


def _drawn(report: object) -> str:
    """The page, with a progress bar where someone watches."""
    from tqdm import tqdm

    from roga_domainbed.report import page

    bar = tqdm(
        total=page.n_panels(report),
        unit="panel",
        desc="Drawing",
        disable=not sys.stderr.isatty(),
        leave=False,
    )
    with bar:
        return page.render_page(report, bar.update)


def _write(path: Path, html: str) -> None:
    with replacing(path) as partial:
        partial.write_text(html, encoding="utf-8")
