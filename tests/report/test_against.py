"""A paper's numbers beside ours: difference, interval, what is the paper's only, and every format that holds it."""

import csv
import io
import json
import re

import pytest
from made_sweep import arguments, write_run

from roga_domainbed.cli import main
from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.report.against import AgainstCell, paper_tables
from roga_domainbed.report.intervals import Interval
from roga_domainbed.sweep.folder import store_plan
from roga_domainbed.sweep.paper import PaperColumn
from roga_domainbed.sweep.plan import Plan

BLOCK = {
    "source": "Someone 2024, Table 9",
    "note": "They chose by test data.",
    "columns": [
        {"name": "DF AUC", "dataset": "SynthFake", "env": "DF", "metric": "auc"},
        {"name": "DF ACC", "dataset": "SynthFake", "env": "DF", "metric": "acc", "times": 100},
        {"name": "NT AUC", "dataset": "SynthFake", "env": "NT", "metric": "auc"},
    ],
    "rows": {"RoGA": [90.0, 0.8, 70.0], "DisGRL": [86.1, None, 72.8], "SAM": [91.0, None, None]},
}


def sweep(folder, *, paper=BLOCK, values=(0.7, 0.8, 0.84)):
    """Trials of RoGA and ERM on DF that score ``values`` in every metric, and a plan that also has SAM."""
    for trial, value in enumerate(values):
        for algorithm in ("RoGA", "ERM"):
            args = arguments("SynthFake", algorithm, (0,), trial)
            write_run(folder, args, metrics=value + 0.05 * (algorithm == "ERM"))
    problems = Problems()
    plan = {"datasets": ["SynthFake"], "algorithms": ["ERM", "SAM", "RoGA"], "n_hparams": 1, "test_envs": [0]}
    store_plan(folder, Plan.of(plan | ({"paper": paper} if paper else {}), "", problems))
    problems.check()
    return folder


def collected(capsys, folder, *flags):
    assert main(["collect-results", "--input_dir", str(folder), "--metric", "auc", "--against", *flags]) == 0
    return capsys.readouterr().out


def lines_of(text):
    """(row, column) → the other cells of its line."""
    table = text[text.index("-------- Against") :].splitlines()[2:]
    cells = [re.split(" {2,}", line.strip()) for line in table if " AUC  " in line or " ACC  " in line]
    return {(row, column): others for row, column, *others in cells}


def test_each_cell_has_paper_ours_interval_difference_and_whether_it_is_inside(tmp_path, capsys):
    out = collected(capsys, sweep(tmp_path / "sweep"), "paper")
    assert (
        "-------- Against Someone 2024, Table 9, model selection method of ours: training-domain validation set, "
        "split: official" in out
    )
    found = lines_of(out)
    # Of 70, 80 and 84: mean 78, standard deviation 7.2111; t(0.975, 2) = 4.3027, so ± 4.3027 x 7.2111 / √3 = 17.9136.
    assert found["RoGA", "DF AUC"] == ["90.00", "78.0", "60.1 to 95.9", "-12.0", "yes"]
    assert found["RoGA", "DF ACC"] == ["80.0", "78.0", "60.1 to 95.9", "-2.0", "yes"]
    assert found["RoGA", "NT AUC"] == ["70.00", "no run"]
    assert found["DisGRL", "DF AUC"] == ["86.10", "paper only"]
    assert found["SAM", "DF AUC"] == ["91.00", "no run"]
    assert found["ERM", "DF AUC"] == ["83.0", "65.1 to 100.0"]
    assert ("DisGRL", "DF ACC") not in found, "neither has a number"
    for note in (
        "They chose by test data.",
        "Trials: 3",
        "95 % interval over trials: how much the mean would change",
        "is inside ours in 2 of 2",
        "paper only: the sweep has no such row",
    ):
        assert note in out


@pytest.mark.parametrize(
    ("paper", "ours", "low", "high", "difference", "inside"),
    [
        (80.0, 75.0, 0.70, 0.79, -5.0, False),
        (80.0, 75.0, 0.70, 0.80, -5.0, True),  # a limit is inside
        (60.0, 75.0, 0.70, 0.80, 15.0, False),
        (None, 75.0, 0.70, 0.80, None, None),
    ],
)
def test_difference_and_inside_by_hand(paper, ours, low, high, difference, inside):
    column = PaperColumn("c", "SynthFake", "DF", "auc")
    cell = AgainstCell("RoGA", column, paper, ours, Interval(low, high, "videos"), 3, "")
    assert cell.difference == difference
    assert cell.is_inside is inside


def test_a_number_without_an_interval_is_not_judged_and_the_reason_is_said(tmp_path, capsys):
    out = collected(capsys, sweep(tmp_path / "sweep", values=(0.7,)), "paper")
    assert lines_of(out)["RoGA", "DF AUC"] == ["90.00", "70.0", "-20.0"]
    prose = " ".join(out.split())
    assert "No interval: no stored scores of the step" in prose
    assert "; an interval over trials needs 3, not 1" in prose
    assert "is inside ours" not in out


def test_csv_and_json_hold_the_cells_and_other_text_formats_the_table(tmp_path, capsys):
    folder = sweep(tmp_path / "sweep")
    cells = list(csv.DictReader(io.StringIO(collected(capsys, folder, "paper", "--format", "csv"))))
    first = cells[0]
    assert (first["row"], first["env"], first["metric"], first["paper"]) == ("RoGA", "DF", "auc", "90.0")
    assert float(first["ours"]) == pytest.approx(78)
    assert float(first["difference"]) == pytest.approx(-12)
    assert (first["inside"], first["trials"], first["over"]) == ("True", "3", "trials")
    assert [cell["absent"] for cell in cells if cell["row"] == "DisGRL"] == ["paper only"] * 2
    content = json.loads(collected(capsys, folder, "paper", "--format", "json"))
    assert content["against"][0]["difference"] == pytest.approx(-12)
    assert content["cells"]
    for layout in ("latex", "markdown"):
        assert "DisGRL" in collected(capsys, folder, "paper", "--format", layout)


def test_every_rule_that_was_asked_for_has_a_table_and_the_oracle_is_named(tmp_path, capsys):
    out = collected(capsys, sweep(tmp_path / "sweep"), "paper", "--select", "last", "oracle")
    assert out.count("-------- Against") == 2
    assert "model selection method of ours: test-domain validation set (oracle)" in out


def test_runs_of_other_settings_do_not_pass_for_the_papers_row(tmp_path, capsys):
    folder = sweep(tmp_path / "sweep")
    write_run(folder, arguments("SynthFake", "RoGA", (0,), 3, hparams='{"rho": 9}'), metrics=0.1)
    found = lines_of(collected(capsys, folder, "paper"))
    assert found["RoGA", "DF AUC"][1] == "78.0"
    assert found["RoGA, rho 9", "DF AUC"] == ["10.0"]


def test_the_report_shows_and_prints_it(tmp_path, capsys):
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    folder = sweep(tmp_path / "sweep")
    assert main(["report", "--input_dir", str(folder), "--against", "paper"]) == 0
    out = capsys.readouterr().out
    assert lines_of(out)["DisGRL", "DF AUC"] == ["86.10", "paper only"]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Against Someone 2024, Table 9" in page
    assert "They chose by test data." in page


def test_a_preset_or_file_gives_the_numbers_to_a_sweep_without_them(tmp_path, capsys):
    folder = sweep(tmp_path / "sweep", paper=None)
    argv = ["collect-results", "--input_dir", str(folder), "--metric", "auc", "--against"]
    assert main([*argv, "paper"]) == 2
    assert "has no numbers of a paper; those of the presets table1_" in capsys.readouterr().err
    file = tmp_path / "mine.yaml"
    file.write_text(json.dumps({"paper": BLOCK}))  # JSON is YAML
    assert lines_of(collected(capsys, folder, str(file)))["RoGA", "DF AUC"][0] == "90.00"
    file.write_text("steps: 1\n")
    with pytest.raises(RogaError, match=r"--against .*mine\.yaml: it has no 'paper' block"):
        paper_tables([str(folder)], str(file))
    with pytest.raises(RogaError, match=r"--against: no such file: 'no\.yaml'"):
        paper_tables([str(folder)], "no.yaml")
    (table,) = paper_tables([str(folder)], "table2_cross_manipulation")
    assert table.source == "arXiv:2505.20653, Table II"


def test_what_cannot_hold_it_is_refused(tmp_path, capsys):
    folder = str(sweep(tmp_path / "sweep"))
    for flags, message in (
        (["--format", "parquet"], "--format parquet cannot hold --against"),
        (["--compat", "upstream"], "--against compares by our rules: leave out --compat"),
    ):
        assert main(["collect-results", "--input_dir", folder, "--against", "paper", *flags]) == 2
        assert message in capsys.readouterr().err
