"""What the demo does after its tables."""

import os
from pathlib import Path

import pytest

from roga_domainbed.cli import demo, main
from roga_domainbed.sweep.jobs import train_job


def test_without_the_extra_one_line_says_how_to_get_the_report(monkeypatch, capsys):
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    assert demo._report("out/sweep", Path("out/report.html")) == 0
    assert capsys.readouterr().out == (
        "\nFor the HTML report: pip install 'roga-domainbed[report]'; roga-domainbed report "
        "--input_dir out/sweep --output out/report.html --metric auc\n"
    )


def test_with_it_the_report_is_written(monkeypatch):
    called = []
    monkeypatch.setattr(demo, "own_command", lambda name, options: called.append((name, options)) or 0)
    assert demo._report("out/sweep", Path("out/report.html")) == 0
    assert called == [
        ("report", {"--input_dir": "out/sweep", "--output": "out/report.html", "--metric": "auc"})
    ]


def test_a_folder_of_somebody_else_and_numbers_beyond_measure_are_refused(tmp_path, capsys):
    (tmp_path / "report.html").write_text("mine")
    numbers = ["--steps", "10000000000", "--n_trials", "0", "--seed", "-1", "--n_workers", "100000"]
    assert main(["demo", "--output_dir", str(tmp_path), *numbers]) == 2
    err = capsys.readouterr().err
    assert "holds other files and no demo (report.html)" in err
    assert all(f"{option} must be" in err for option in numbers[::2])
    assert os.listdir(tmp_path) == ["report.html"]


@pytest.mark.parametrize(
    "there",
    [
        "data/SynthFake/parameters.json",
        "data/.SynthFake.1234.part/x",
        "sweep/plan.json",
        f"sweep/{'0' * 32}/job.json",
    ],
)
def test_a_demo_goes_on_in_its_own_folder(there, tmp_path):
    (tmp_path / there).parent.mkdir(parents=True)
    (tmp_path / there).touch()
    assert demo._folder_problem(tmp_path) is None


def test_at_the_end_the_model_without_nt_judges_a_person_whom_no_training_saw(monkeypatch, tmp_path, capsys):
    jobs = [
        train_job(
            {"dataset": "SynthFake", "algorithm": name, "test_envs": [env], "hparams_seed": 0}, str(tmp_path)
        )
        for name in ("ERM", "RoGA")
        for env in range(4)
    ]
    monkeypatch.setattr(demo, "jobs_by_their_files", lambda folder: (jobs, 0))
    called = []
    monkeypatch.setattr(demo, "own_command", lambda *words: called.append(words) or 0)
    words = (jobs[-1].output_dir, str(tmp_path / "unseen"), "--frames", "--no_detect")
    monkeypatch.setattr(demo, "_are_there", lambda *modules: True)
    assert demo._verdict("sweep", tmp_path / "unseen", seed=0) == 0
    assert called.pop() == ("predict", {}, *words, "--explain", str(tmp_path / "verdict.html"))
    monkeypatch.setattr(demo, "_are_there", lambda *modules: False)
    assert demo._verdict("sweep", tmp_path / "unseen", seed=0) == 0
    assert called == [("predict", {}, *words)]
    assert "pip install 'roga-domainbed[explain]'" in capsys.readouterr().out
    assert {path.name: len(list(path.iterdir())) for path in (tmp_path / "unseen").iterdir()} == {
        "real": 8,
        "fake-DF": 8,
        "fake-NT": 8,
    }
