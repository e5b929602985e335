"""Whatever reads a sweep says the same of a packed one, to the byte."""

import os

import pytest
from made_sweep import arguments, write_run, write_sweep

from roga_domainbed.cli import main
from roga_domainbed.launch.jobfile import JobFile, write_job_file
from roga_domainbed.sweep.pack import pack


def failed(folder, exit_code, algorithm="SAM"):
    argv = ("train", "--dataset", "SynthFake", "--algorithm", algorithm, "--test_envs", "2")
    write_job_file(folder, JobFile(argv, exit_code, 0.0, 1.0, "elsewhere", 1))


def read(at, monkeypatch, capsys, command, *flags):
    """What a command prints for the folder ``sweep`` in ``at``: output, errors."""
    monkeypatch.chdir(at)
    assert main([command, "--input_dir", "sweep", *flags]) == 0
    return capsys.readouterr()


@pytest.fixture
def both(tmp_path):
    """A sweep of runs that are done, unfinished, failed with and without records, and damaged; and the same packed."""
    sweep = tmp_path / "folders" / "sweep"
    sweep.mkdir(parents=True)
    write_sweep(sweep, algorithms=["ERM", "RoGA"], envs=[0, 1], hparams=2, videos=6, frames=2)
    write_run(sweep, arguments(algorithm="RoGA", test_envs=(2,)), done=False, videos=6, frames=2)
    failed(write_run(sweep, arguments(algorithm="ERM", test_envs=(2,)), done=False, videos=6, frames=2), 3)
    damaged = write_run(sweep, arguments(algorithm="ERM", test_envs=(3,)), videos=6, frames=2)
    with open(damaged / "results.jsonl", "ab") as file:
        file.write(b'\n\xff{"loss": NaN\r\n{"torn')
    (sweep / ("a" * 32)).mkdir()
    (sweep / ("a" * 32) / "results.jsonl").touch()
    (sweep / ("b" * 32)).mkdir()
    failed(sweep / ("b" * 32), 1)
    pack(sweep, tmp_path / "packed" / "sweep")
    assert sorted(os.listdir(tmp_path / "packed" / "sweep")) == ["records.parquet", "scores.parquet"]
    return tmp_path / "folders", tmp_path / "packed"


def test_the_page_of_a_packed_sweep_is_that_of_its_folders(both, monkeypatch, capsys):
    said = [read(at, monkeypatch, capsys, "report", "--output", "page.html").out for at in both]
    assert said[0] == said[1]
    pages = [(at / "page.html").read_text() for at in both]
    assert pages[0] == pages[1]
    assert "no stored scores" not in pages[0]
    assert "ROC" in pages[0]
    assert pages[0].count("exited with 3") == 1
    assert ", line 6: not a JSON record, skipped" in pages[0]


@pytest.mark.parametrize("format", ["text", "json", "latex"])
def test_tables_of_a_packed_sweep_are_those_of_its_folders(both, format, monkeypatch, capsys):
    said = [read(at, monkeypatch, capsys, "collect-results", "--format", format) for at in both]
    assert said[0] == said[1]
    assert "12 runs found: 9 finished, 3 unfinished" in said[0].err
    assert f"1 jobs have no records yet: {'b' * 32}" in said[0].err


def test_a_run_folder_counts_before_the_packed_run_of_its_name(tmp_path, monkeypatch, capsys):
    sweep = tmp_path / "sweep"
    run = write_run(sweep, arguments(), metrics=0.25)
    pack(sweep, tmp_path / "packed" / "sweep")
    again = tmp_path / "packed" / "sweep" / run.name
    again.mkdir()
    record = (run / "results.jsonl").read_text().replace("0.25", "0.75")
    (again / "results.jsonl").write_text(record)
    table = read(tmp_path / "packed", monkeypatch, capsys, "collect-results").out
    assert "75.0" in table
    assert "25.0" not in table
