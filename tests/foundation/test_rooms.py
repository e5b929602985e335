"""Imports point one way: from a room to itself or to rooms above it in the table of docs/design.md."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def rows():
    """Row of each room, from the first column of the table in docs/design.md."""
    lines = (ROOT / "docs/design.md").read_text(encoding="utf-8").splitlines()
    table = [line for line in lines if line.startswith("| `")]
    return {
        room.rstrip("/"): row
        for row, line in enumerate(table)
        for room in re.findall(r"`([^`]+)`", line.split("|")[1])
    }


ROW = rows()


def room(module):
    parts = module.split(".")
    if parts[0] == "datasets_ext":
        return "datasets_ext"
    return parts[1] if len(parts) > 1 else ""  # the package itself: its version


def modules():
    for package in ("roga_domainbed", "datasets_ext"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield name.removesuffix(".__init__"), path


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def test_the_table_has_every_room():
    folders = {room(name) for name, _ in modules()} - {"", "__main__"}
    assert set(ROW) == folders


@pytest.mark.parametrize(
    ("name", "path"), list(modules()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_module_imports_from_its_own_room_or_from_rooms_above(name, path):
    if room(name) in ("", "__main__"):
        return
    for target in imported(path):
        if target.split(".")[0] in ("roga_domainbed", "datasets_ext") and room(target) in ROW:
            ours, theirs = room(name), room(target)
            assert ours == theirs or ROW[theirs] < ROW[ours], f"{name} imports {target}"


@pytest.mark.parametrize(
    "module",
    [
        "roga_domainbed",
        "roga_domainbed.cli",
        "roga_domainbed.catalog",
        "roga_domainbed.results.records",
        "roga_domainbed.results.selection",
        "roga_domainbed.results.statistics",
        "roga_domainbed.report.cells",
        "roga_domainbed.report.comparison",
        "roga_domainbed.report.markdown",
        "roga_domainbed.report.text",
        "roga_domainbed.report.latex",
        "roga_domainbed.report.page",
        "roga_domainbed.report.unfinished",
        "roga_domainbed.report.scores",
        "roga_domainbed.launch.local",
        "roga_domainbed.sweep.jobs",
        "roga_domainbed.trainer.config",
        "roga_domainbed.cli.train",
        "roga_domainbed.cli.sweep",
        "roga_domainbed.cli.collect_results",
        "roga_domainbed.cli.demo",
        "roga_domainbed.cli.report",
        "roga_domainbed.cli.doctor",
        "roga_domainbed.cli.upstream",
        "roga_domainbed.cli.list_names",
        "roga_domainbed.cli.prepare",
        "roga_domainbed.cli.audit",
        "roga_domainbed.cli.data",
        "roga_domainbed.cli.data_options",
        "datasets_ext.leakage",
        "roga_domainbed.cli.evaluate",
        "roga_domainbed.cli.predict",
        "roga_domainbed.metrics.split",
        "roga_domainbed.trainer.scores",
        "datasets_ext.audit",
        "datasets_ext.splits",
        "datasets_ext.near_duplicates",
        "datasets_ext.stats",
        "datasets_ext.training_rows",
        "datasets_ext.verify",
        "datasets_ext.synthfake.generate",
        "datasets_ext.prepare.driver",
        "datasets_ext.prepare.ffpp",
        "datasets_ext.prepare.deepfakebench",
        "datasets_ext.prepare.csv_list",
        "datasets_ext.prepare.report_page",
        "datasets_ext.selfblend.photographs",
        "datasets_ext.selfblend.options",
    ],
)
def test_importing_it_loads_no_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
