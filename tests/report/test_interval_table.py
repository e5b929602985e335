"""The intervals as text: those of ``cell_intervals``, and how many videos and trials they are made from."""

import pytest
from made_sweep import write_sweep

from roga_domainbed.cli import main
from roga_domainbed.metrics import get_metric
from roga_domainbed.report.interval_table import interval_tables
from roga_domainbed.report.intervals import cell_intervals
from roga_domainbed.report.scores import read_stored
from roga_domainbed.report.study import study
from roga_domainbed.results.runs import load_runs
from roga_domainbed.results.selection import RULES


def made(folder, **kwargs):
    return write_sweep(folder, algorithms=["RoGA", "ERM"], envs=[0, 3], **kwargs)


def printed(capsys, folder, *flags):
    argv = ["--input_dir", str(folder), "--metric", "auc", "--select", "last", "--intervals", *flags]
    assert main(["collect-results", *argv]) == 0
    return capsys.readouterr().out


def test_every_cell_has_its_interval_and_the_notes_say_over_how_many_videos(tmp_path, capsys):
    folder = made(tmp_path / "sweep", trials=3, videos=9)
    found = study([folder], load_runs(folder, "auc"), [RULES.get("last")], get_metric("auc"), "ERM").first
    stored, _ = read_stored(found.chosen)
    (table,) = interval_tables(found, stored)
    assert table.labels == ("Algorithm", "DF", "NT")
    assert [name for name, *_ in table.rows()] == ["ERM", "RoGA"], "the order of the other tables"
    expected = cell_intervals(found, stored)
    for name, *texts in table.rows():
        for env, text in zip((0, 3), texts, strict=True):
            own = expected["SynthFake", name, env]
            assert text == f"{100 * own.low:.1f} to {100 * own.high:.1f}"
            assert own.low < sum(run.test for run in found.trials["SynthFake", name, env]) / 3 < own.high
    out = printed(capsys, folder)
    assert "95 % intervals, dataset: SynthFake, metric: auc, model selection method: last step" in out
    assert all(text in out for row in table.rows() for text in row)
    assert out.count("Test videos: 9 real and 9 fake, in each environment\n") == 1, (
        "below the numbers, not twice"
    )
    assert "\nTrials: 3\n" in out


def test_without_scores_they_are_over_trials_or_there_is_a_reason(tmp_path, capsys):
    out = printed(capsys, made(tmp_path / "three", trials=3, scores=False))
    assert "95 % interval over trials: " in out
    assert "Test videos" not in out
    out = printed(capsys, made(tmp_path / "one", trials=1, scores=False))
    assert "X: no stored scores; an interval over trials needs 3, not 1" in out
    assert "95 % interval over" not in out


@pytest.mark.parametrize("layout", ["markdown", "latex"])
def test_other_formats_of_text_have_them_too(tmp_path, capsys, layout):
    assert "Trials: 1" in printed(capsys, made(tmp_path / "sweep"), "--format", layout)


def test_formats_and_tables_without_a_place_for_them_are_refused(tmp_path, capsys):
    folder = str(made(tmp_path / "sweep"))
    for flags, message in (
        (["--format", "csv"], "--format csv cannot hold --intervals: choose text, latex or markdown"),
        (["--compat", "upstream"], "upstream has no table for --intervals: leave out --compat"),
    ):
        assert main(["collect-results", "--input_dir", folder, "--intervals", *flags]) == 2
        assert message in capsys.readouterr().err
