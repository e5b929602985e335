"""``predict --explain FILE``: the heat map of each face beside its verdict."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from roga_domainbed.cli.arguments import command_of
from roga_domainbed.cli.explain import FORMATS, PACKAGES
from roga_domainbed.cli.output_files import check_file
from roga_domainbed.errors import MissingExtra, Problems
from roga_domainbed.foreign import one_line

if TYPE_CHECKING:
    from roga_domainbed.inference.explain.verdicts import KeptCrops
    from roga_domainbed.inference.predict import Predictions


def add_explain_argument(parser: argparse.ArgumentParser) -> None:
    """``--explain``."""
    parser.add_argument(
        "--explain",
        metavar="FILE",
        help="also draw each face, of a video its most suspicious one, with heat map and verdict: .png, .svg, .pdf, "
        "or a page: .html",
    )
    parser.set_defaults(default_of=parser.get_default)


def check_explain(args: argparse.Namespace, problems: Problems) -> None:
    """Faults of ``--explain``."""
    if args.explain is not None:
        check_file("--explain", args.explain, FORMATS, problems)


def crops_to_keep(args: argparse.Namespace) -> KeptCrops | None:
    """What keeps the crops for the figure; None without ``--explain``.

    Raises:
        MissingExtra: a package is missing.
    """
    if args.explain is None:
        return None
    needed = ["matplotlib", "grad-cam"] + ["Jinja2"] * args.explain.endswith(".html")
    for package in needed:
        if find_spec(PACKAGES[package]) is None:
            raise MissingExtra(package, "explain", "predict --explain")
    from roga_domainbed.inference.explain.verdicts import KeptCrops

    return KeptCrops()


def draw(args: argparse.Namespace, found: Predictions, kept: KeptCrops) -> None:
    """Write the figure, and on stderr what is in it: stdout has the predictions."""
    from roga_domainbed.inference.explain.methods import METHODS
    from roga_domainbed.inference.explain.verdicts import METHOD, verdicts
    from roga_domainbed.report.explained import Explained, save
    from roga_domainbed.report.figures.verdicts import verdicts_drawing
    from roga_domainbed.report.page_tables import PageTable, text

    drawn = verdicts(found, kept)
    if drawn is None:
        print(f"no face has a verdict: {args.explain} is not written", file=sys.stderr)
        return
    method = METHODS[METHOD].title
    rows = tuple((text(one_line(face.title)), text(face.verdict), text(face.frame)) for face in drawn.faces)
    table = PageTable(
        "Verdicts", ("file", "p(fake) and verdict", "most suspicious frame"), rows
    ).without_empty_columns()
    notes = (found.run.describe(), one_line(found.crops), f"{method}, maps of {drawn.layer}")
    n, total = len(drawn.faces), drawn.total
    what = f"{n} face{'s' * (n != 1)}" if n == total else f"the first {n} of {total} faces"
    title = f"Verdicts on {what}"
    explained = Explained(title, verdicts_drawing(drawn, method), table, notes)
    save(
        explained,
        Path(args.explain),
        command_of(["predict", args.run, *args.inputs], args, ("run", "inputs")),
    )
    print(f"{title}, with heat maps, written to {args.explain}", file=sys.stderr)
