"""Imports point one way: a module imports from its own row or from rows above it (docs/design.md has the rows)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

ROW = {
    "roga_domainbed": 0,
    "roga_domainbed.cpus": 0,
    "roga_domainbed.errors": 0,
    "roga_domainbed.records": 0,
    "roga_domainbed.runs": 0,
    "roga_domainbed.seeds": 0,
    "roga_domainbed.plugins": 0,
    "roga_domainbed.checkout": 0,
    "roga_domainbed.optional_imports": 0,
    "roga_domainbed.registry": 1,
    "roga_domainbed.hparams": 1,
    "roga_domainbed.catalog": 1,
    "roga_domainbed.metrics": 2,
    "roga_domainbed.selection": 2,
    "roga_domainbed.statistics": 2,
    "roga_domainbed.optim": 2,
    "roga_domainbed.engine": 2,
    "roga_domainbed.backend": 2,
    "roga_domainbed.augmentation": 2,
    "roga_domainbed.launch": 2,
    "roga_domainbed.algorithms": 3,
    "roga_domainbed.backbones": 3,
    "roga_domainbed.featurizer_slot": 3,
    "datasets_ext": 3,
    "roga_domainbed.sweep": 3,
    "roga_domainbed.trainer": 4,
    "roga_domainbed.stock_splits": 4,
    "roga_domainbed.bridge": 4,
    "roga_domainbed.verify": 5,
    "roga_domainbed.report": 4,
    "roga_domainbed.cli": 5,
    "roga_domainbed.__main__": 5,
}


def row(module):
    parts = module.split(".")
    for n in range(len(parts), 0, -1):
        if ".".join(parts[:n]) in ROW:
            return ROW[".".join(parts[:n])]
    raise KeyError(module)


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
                nested = f"{node.module}.{alias.name}"
                yield nested if nested in ROW else node.module


@pytest.mark.parametrize(
    ("name", "path"), list(modules()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_module_imports_from_its_own_row_or_above(name, path):
    for target in imported(path):
        if target.split(".")[0] in ("roga_domainbed", "datasets_ext"):
            assert row(target) <= row(name), f"{name} (row {row(name)}) imports {target} (row {row(target)})"


@pytest.mark.parametrize(
    "module",
    [
        "roga_domainbed",
        "roga_domainbed.cli",
        "roga_domainbed.catalog",
        "roga_domainbed.records",
        "roga_domainbed.selection",
        "roga_domainbed.statistics",
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
        "roga_domainbed.trainer.leakage",
        "roga_domainbed.cli.evaluate",
        "roga_domainbed.cli.predict",
        "roga_domainbed.cli.verify",
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
