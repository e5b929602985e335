"""``--until``: a run pauses at a record, and goes on to what it would have been."""

import json

import pytest
from small_runs import N_STEPS, checkpoints, comparable, records_of, run, use_small_images

from roga_domainbed.cli import main
from roga_domainbed.errors import RogaError
from roga_domainbed.launch.jobfile import STOPPED
from roga_domainbed.trainer.stop import Stopped


@pytest.fixture(autouse=True)
def small(monkeypatch):
    use_small_images(monkeypatch)


def steps(folder):
    return [record["step"] for record in records_of(folder)]


def test_a_paused_run_goes_on_to_the_same_records_and_weights(tmp_path, capsys):
    run(tmp_path / "unbroken")
    folder = tmp_path / "run"
    every = {"checkpoint_every": None}
    with pytest.raises(Stopped, match="paused after step 0, as --until 0 says; the same command without"):
        run(folder, until=0, **every)
    assert steps(folder) == [0]
    with pytest.raises(Stopped, match="paused after step 4, as --until 3 says"):  # the first record from 3 on
        run(folder, until=3, **every)
    assert steps(folder) == [0, 4]
    assert checkpoints(folder) == ["checkpoint_1.pt", "checkpoint_5.pt"]
    before = (folder / "results.jsonl").read_bytes()
    with pytest.raises(Stopped, match="paused after step 4, as --until 1 says"):
        run(folder, until=1, **every)
    assert (folder / "results.jsonl").read_bytes() == before, "it was there already"
    assert "until" not in json.loads(before.splitlines()[0])["args"]
    capsys.readouterr()
    run(folder, **every)
    assert f"Continued after 5 of {N_STEPS} steps." in capsys.readouterr().out
    assert comparable(folder) == comparable(tmp_path / "unbroken")


def test_a_step_that_never_comes_pauses_nothing(tmp_path):
    run(tmp_path / "run", until=N_STEPS - 1)  # the last one
    assert (tmp_path / "run" / "done").exists()


def test_pausing_needs_checkpoints(tmp_path):
    with pytest.raises(
        RogaError, match="--until pauses with a checkpoint, and --checkpoint_every 0 writes none"
    ):
        run(tmp_path / "run", until=4, checkpoint_every=0)


def test_the_exit_status_is_that_of_a_stopped_run(tmp_path, capsys):
    words = ["--dataset", "Debug28", "--algorithm", "ERM", "--steps", "3", "--checkpoint_freq", "1"]
    words += ["--hparams", '{"batch_size": 4, "backbone": "meso4"}', "--n_workers", "0"]
    assert main(["train", *words, "--output_dir", str(tmp_path / "run"), "--until", "1"]) == STOPPED == 75
    assert "paused after step 1" in capsys.readouterr().err
