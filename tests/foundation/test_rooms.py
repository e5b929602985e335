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


def test_whole_rooms_and_what_cli_and_reports_need_load_no_torch():
    without = {"catalog", "launch", "metrics", "report", "results", "sweep", "cli"}
    names = [name for name, _ in modules() if room(name) in without and name not in WITH_TORCH]
    names += [name.strip() for name in NO_TORCH.split()]
    code = (
        "import importlib, sys\n"
        f"for name in {names}:\n"
        "    importlib.import_module(name)\n"
        "    assert 'torch' not in sys.modules, name + ' loads torch'\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr


WITH_TORCH = ("roga_domainbed.cli.full_checks",)

NO_TORCH = """
    roga_domainbed.trainer.config roga_domainbed.trainer.scores
    datasets_ext.audit datasets_ext.leakage datasets_ext.near_duplicates datasets_ext.splits datasets_ext.stats
    datasets_ext.training_rows datasets_ext.verify datasets_ext.synthfake.generate
    datasets_ext.selfblend.options datasets_ext.selfblend.photographs
    datasets_ext.prepare.csv_list datasets_ext.prepare.deepfakebench datasets_ext.prepare.driver
    datasets_ext.prepare.ffpp datasets_ext.prepare.report_page
"""
