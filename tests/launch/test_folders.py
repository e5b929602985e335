"""Which folders a run may write in: its own and those of 0.1.0 and DomainBed, and nobody else's."""

import os

import pytest

from roga_domainbed.launch.folders import other_files, run_folder_problem
from roga_domainbed.launch.jobfile import started_now, write_job_file

RECORD = b'{"args": {"algorithm": "ERM"}, "step": 0}\n'


def filled(folder, content):
    folder.mkdir()
    for name, text in content.items():
        (folder / name).write_bytes(text)
    return folder


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"train.lock": b""},
        {"job.claim": b"", "job.log": b""},
        {"results.jsonl": RECORD, "out.txt": b"", "done": b"done"},  # finished, of 0.1.0 or DomainBed
        {"out.txt": b"Environment:\n\tPython: 3.8\n", "err.txt": b""},  # DomainBed's, before its first record
        {"train.lock": b"", "notes.md": b"mine"},
        {"out.txt": b"", "err.txt": b""},  # DomainBed's, killed at once
    ],
)
def test_a_run_may_write_into_its_own_folder(content, tmp_path):
    assert run_folder_problem(filled(tmp_path / "run", content)) is None


def test_a_launcher_says_with_its_job_file_whose_the_folder_is(tmp_path):
    write_job_file(tmp_path, started_now(("train",), os.getpid()))
    assert run_folder_problem(tmp_path) is None


@pytest.mark.parametrize(
    "content",
    [
        {"out.txt": b"my notes"},
        {"results.jsonl": b'{"score": 1}\n', "done": b""},
        {"results.jsonl": b"[" * 1000},
        {"checkpoint_9000.pt": b"", "model-best.pkl": b""},
        {"checkpoint_9000.pt": b"weights"},
        {"job.json": b"{}"},
        {"done": b"", "thesis.tex": b"mine"},
        {"movie.mkv.part": b"", "scores.parquet": b""},
    ],
)
def test_it_may_not_write_into_anybody_elses(content, tmp_path):
    problem = run_folder_problem(filled(tmp_path / "run", content))
    assert problem.startswith("holds other files and no run (")
    assert sorted(content)[0] in problem


@pytest.mark.parametrize("name", ["results.jsonl", "job.json", "checkpoint_3.pt", "train.lock", "job.log"])
@pytest.mark.parametrize("kind", ["a named pipe", "a device", "a folder"])
def test_what_is_no_file_is_named_and_not_waited_for(name, kind, tmp_path):
    folder = filled(tmp_path / "run", {"train.lock": b"", "out.txt": b""})
    path = folder / name
    path.unlink(missing_ok=True)
    {"a named pipe": os.mkfifo, "a device": lambda path: path.symlink_to("/dev/zero"), "a folder": os.mkdir}[
        kind
    ](path)
    what = "a link to /dev/zero" if kind == "a device" else f"not a regular file but {kind}"
    assert run_folder_problem(folder) == f"has a {name} that is no file of a run: {what}"


def test_names_of_others_are_never_taken_for_ours():
    ours = ["model.pkl", "model_step10.pkl", "checkpoint_7.pt.part", "damaged_checkpoint_7.pt", "job.json"]
    others = ["model-best.pkl", "model_stepX.pkl", "movie.mkv.part", "checkpoint_best.pt", "out.txt.bak"]
    assert other_files([*ours, *others]) == sorted(others)
