"""The LaTeX document goes through pdflatex, whatever names are made of."""

import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from roga_domainbed.metrics import get_metric
from roga_domainbed.report.comparison import comparison_table
from roga_domainbed.report.renderers.latex import escape, render_latex
from roga_domainbed.report.tables import build_tables
from roga_domainbed.results.runs import as_runs
from roga_domainbed.results.selected import select
from roga_domainbed.results.selection import RULES

AWKWARD = ["ERM_v2", "50% off", "R&D", "#1 {best} \\method", "$x^2$", "a~b", "p<q>r|s"]


def record(algorithm, dataset, env, trial):
    values = {
        f"env{i}_{split}_tpr_at_fpr_1pct": 0.5 + len(algorithm) / 100
        for i in range(3)
        for split in ("in", "out")
    }
    args = {
        "algorithm": algorithm,
        "dataset": dataset,
        "test_envs": [env],
        "trial_seed": trial,
        "hparams_seed": 0,
    }
    return {"args": args, "step": 0, **values}


def document():
    """Every algorithm on two data sets with hostile names, runs missing, and a comparison."""
    records = [
        record(algorithm, dataset, env, trial)
        for algorithm in AWKWARD
        for dataset in ("Faces_100% & more", "B<2>")
        for env in range(3)
        for trial in range(2)
        if (algorithm, env, trial) != ("R&D", 1, 1)
    ]
    runs, metric = as_runs(records), get_metric("tpr_at_fpr_1pct")
    selected = [select(runs, RULES.get(name), metric) for name in ("iid", "oracle")]
    comparison = comparison_table(selected[0], AWKWARD[0])
    return render_latex(replace(build_tables(runs, selected), comparisons=(comparison,)))


def test_characters_that_computer_modern_prints_as_others_are_escaped():
    assert escape("p<q>r|s") == r"p\textless{}q\textgreater{}r\textbar{}s"


@pytest.mark.slow
def test_the_document_compiles_and_prints_every_name_as_it_is(tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed (Debian: texlive-latex-extra)")
    (tmp_path / "results.tex").write_text(document(), encoding="utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "results.tex"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if "adjustbox.sty' not found" in made.stdout or "booktabs.sty' not found" in made.stdout:
        pytest.skip("TeX lacks booktabs or adjustbox (Debian: texlive-latex-extra)")
    assert made.returncode == 0, made.stdout[-2000:]
    assert "\n! " not in made.stdout
    if shutil.which("pdftotext") is None:
        return
    text = subprocess.run(
        ["pdftotext", "-layout", "results.pdf", "-"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    text = text.replace("_", " ")  # the escaped one is a drawn rule, which is no character of the file
    for name in ("ERM v2", "50% off", "R&D", "#1 {best}", "p<q>r|s", "Faces 100% & more"):
        assert name in text, sys.stdout.write(text)
