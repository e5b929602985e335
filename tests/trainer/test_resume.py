"""A run that was stopped or killed resumes, and ends with the records and weights of one that was not."""

import json
import os
import pickle
import shutil
import signal
import time

import pyarrow.parquet as pq
import pytest
import torch
from small_runs import (
    N_STEPS,
    at_call,
    at_step,
    checkpoints,
    comparable,
    in_child,
    run,
    start_child,
    use_small_images,
    wait,
)

from roga_domainbed.cli import main
from roga_domainbed.errors import RogaError
from roga_domainbed.files import is_locked
from roga_domainbed.launch.jobfile import LOCK_FILE
from roga_domainbed.trainer import checkpoint, experiment
from roga_domainbed.trainer import loop as training
from roga_domainbed.trainer.stop import Stopped

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="signals and forks of POSIX")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    use_small_images(monkeypatch)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_small_images(monkeypatch)
        folder = tmp_path_factory.mktemp("unbroken") / "run"
        run(folder)
    return comparable(folder)


def resume(folder, steps_done, **kwargs):
    run(folder, **kwargs)
    assert f"Continued after {steps_done} of {N_STEPS} steps." in (folder / "out.txt").read_text()


def send(name):
    os.kill(os.getpid(), getattr(signal, name))


def stop_in_update(monkeypatch):
    at_step(monkeypatch, 5, lambda: send("SIGTERM"))


def stop_in_the_first_update(monkeypatch):
    at_step(monkeypatch, 0, lambda: send("SIGUSR1"))


def stop_in_evaluation(monkeypatch):  # after step 4
    at_call(monkeypatch, training, "evaluate", 2, lambda: send("SIGTERM"))


def stop_while_a_record_is_written(monkeypatch):
    at_call(monkeypatch, training, "append_record", 2, lambda: send("SIGTERM"))


def stop_while_a_checkpoint_is_written(monkeypatch):
    at_call(monkeypatch, checkpoint, "write_durably", 3, lambda: send("SIGTERM"))


def stop_before_the_first_step(monkeypatch):
    at_call(monkeypatch, training.TrainingLoop, "_minibatches", 1, lambda: send("SIGTERM"))


@pytest.mark.parametrize(
    ("stop", "steps_done"),
    [
        (stop_in_update, 6),
        pytest.param(stop_in_the_first_update, 1, marks=pytest.mark.slow),
        (stop_in_evaluation, 5),
        pytest.param(stop_while_a_record_is_written, 5, marks=pytest.mark.slow),
        (stop_while_a_checkpoint_is_written, 3),
        (stop_before_the_first_step, 0),
    ],
)
def test_a_stopped_run_resumes_bit_for_bit(stop, steps_done, tmp_path, monkeypatch, unbroken, capsys):
    folder = tmp_path / "run"
    with monkeypatch.context() as context:
        stop(context)
        with pytest.raises(Stopped, match=r"stopped by SIG(TERM|USR1); the same command resumes it"):
            run(folder)
    assert f"checkpoint_{steps_done}.pt" in checkpoints(folder)
    capsys.readouterr()
    run(folder)
    assert comparable(folder) == unbroken
    assert f"Continued after {steps_done} of {N_STEPS} steps." in capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["results.jsonl", "out.txt", "err.txt", "model.pkl", "done", "train.lock"]
        + [name for name in ("scores.parquet",) if (folder / name).exists()]
    )


def test_ctrl_c_leaves_a_checkpoint_too(tmp_path, monkeypatch, unbroken):
    with monkeypatch.context() as context:
        at_step(context, 5, lambda: send("SIGINT"))
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "run", checkpoint_every=5)
    assert checkpoints(tmp_path / "run") == ["checkpoint_5.pt", "checkpoint_6.pt"]
    resume(tmp_path / "run", 6)
    assert comparable(tmp_path / "run") == unbroken


#: So that what begins after some steps has begun before the run is stopped.
SOON = {
    "Fishr": {"penalty_anneal_iters": 4},
    "TRM": {"iters": 4},
    "EQRM": {"eqrm_burnin_iters": 4},
    "RDM": {"rdm_penalty_anneal_iters": 4},
}
OTHERS = (
    "ERM Fish CDANN LookSAM DGSAM LTW CORE ForensicTransfer "
    "Fishr TRM CAD CondCAD Transfer CausIRL_CORAL CausIRL_MMD EQRM RDM ADRMX"
).split()


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", OTHERS)
def test_other_algorithms_resume_bit_for_bit(algorithm, tmp_path, monkeypatch):
    from roga_domainbed.host import backend

    cls = backend.host().algorithms.get_algorithm_class(algorithm)
    hparams = json.dumps({"batch_size": 4, "backbone": "meso4", **SOON.get(algorithm, {})})
    given = {"algorithm": algorithm, "hparams": hparams}
    run(tmp_path / "unbroken", **given)
    with monkeypatch.context() as context:
        at_step(context, 6, lambda: send("SIGTERM"), cls)
        with pytest.raises(Stopped):
            run(tmp_path / "run", **given)
    resume(tmp_path / "run", 7, **given)
    assert comparable(tmp_path / "run") == comparable(tmp_path / "unbroken")


def test_a_run_with_label_noise_resumes_bit_for_bit(tmp_path, monkeypatch, unbroken):
    noise = {"label_noise": 0.5, "train_fraction": 0.5}
    run(tmp_path / "unbroken", **noise)
    with monkeypatch.context() as context:
        at_step(context, 6, lambda: send("SIGTERM"))
        with pytest.raises(Stopped):
            run(tmp_path / "run", **noise)
    with pytest.raises(RogaError, match=r"args\.label_noise: 0\.5 there, 'absent' here"):
        run(tmp_path / "run", train_fraction=0.5)
    resume(tmp_path / "run", 7, **noise)
    assert comparable(tmp_path / "run") == comparable(tmp_path / "unbroken")
    assert comparable(tmp_path / "run")[2] != unbroken[2]


def test_random_parts_resume_bit_for_bit(tmp_path, monkeypatch, unbroken):
    hparams = '{"batch_size": 4, "backbone": "meso4", "roga_parts": "random"}'
    run(tmp_path / "unbroken", hparams=hparams)
    with monkeypatch.context() as context:
        at_step(context, 5, lambda: send("SIGTERM"))
        with pytest.raises(Stopped):
            run(tmp_path / "run", hparams=hparams)
    resume(tmp_path / "run", 6, hparams=hparams)
    assert comparable(tmp_path / "run") == comparable(tmp_path / "unbroken")
    assert comparable(tmp_path / "run")[1] != unbroken[1]


def test_a_run_killed_in_the_middle_of_a_record_resumes_without_it(tmp_path, monkeypatch, unbroken):
    folder = tmp_path / "run"

    def killed():
        original, calls = training.append_record, []

        def append(where, record):
            calls.append(None)
            if len(calls) == 2:
                with open(folder / "results.jsonl", "a") as file:
                    file.write(json.dumps(record)[:100])
                    file.flush()
                    send("SIGKILL")
            original(where, record)

        training.append_record = append
        run(folder)

    assert in_child(killed) == -signal.SIGKILL
    assert checkpoints(folder) == ["checkpoint_3.pt", "checkpoint_4.pt"]
    assert not (folder / "results.jsonl").read_text().endswith("\n")
    resume(folder, 4)
    assert comparable(folder) == unbroken
    steps = [
        line.split()[0]
        for line in (folder / "out.txt").read_text().splitlines()
        if line[:7].strip().isdigit()
    ]
    assert steps == ["0", "4", "8"], "no line of the table is there twice"


def test_a_run_killed_while_scores_are_written_keeps_those_before(tmp_path, unbroken):
    folder, path = tmp_path / "run", tmp_path / "run" / "scores.parquet"

    def killed():
        original = pq.ParquetWriter.write_table

        def write(writer, table, *args, **kwargs):
            original(writer, table, *args, **kwargs)
            if 4 in table["step"].to_pylist():
                send("SIGKILL")

        pq.ParquetWriter.write_table = write
        run(folder)

    assert in_child(killed) == -signal.SIGKILL
    assert pq.read_table(path)["step"].unique().to_pylist() == [0]
    resume(folder, 4)
    assert comparable(folder) == unbroken


def test_records_after_the_checkpoint_are_cut_off(tmp_path, unbroken):
    folder = tmp_path / "run"

    def killed():
        training.save_model = lambda *args: send("SIGKILL")
        run(folder, checkpoint_every=3)

    assert in_child(killed) == -signal.SIGKILL
    assert len((folder / "results.jsonl").read_text().splitlines()) == 3
    resume(folder, 6)
    assert comparable(folder) == unbroken


def test_sigterm_to_the_whole_group_stops_in_order_with_loader_processes(tmp_path, unbroken):
    folder = tmp_path / "run"

    def stopped():
        with pytest.MonkeyPatch.context() as context:
            at_step(context, 5, lambda: os.killpg(0, signal.SIGTERM))
            try:
                run(folder, n_workers=2)
            except Stopped:
                raise SystemExit(Stopped.STATUS) from None

    assert in_child(stopped) == 75
    assert "checkpoint_6.pt" in checkpoints(folder)
    resume(folder, 6, n_workers=2)
    assert comparable(folder) == unbroken


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_small_images(monkeypatch)
        at_step(monkeypatch, 5, lambda: send("SIGTERM"))
        with pytest.raises(Stopped):
            run(folder)
    return folder


@pytest.fixture
def stopped(stopped_once, tmp_path):
    """A folder of its own with a run that was stopped after 6 steps."""
    return shutil.copytree(stopped_once, tmp_path / "run")


def test_another_runs_arguments_are_refused_naming_each_difference(stopped):
    folder = stopped
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(RogaError) as caught:
        run(
            folder,
            seed=1,
            algorithm="SAM",
            steps=20,
            hparams='{"batch_size": 4, "backbone": "meso4", "lr": 0.5}',
        )
    for line in (
        "holds an unfinished run with other settings",
        "args.seed: 0 there, 1 here",
        "args.steps: 9 there, 20 here",
        "args.algorithm: 'RoGA' there, 'SAM' here",
        "hparams.lr: 0.001 there, 0.5 here",
        "hparams.roga_terms: 'both' there, 'absent' here",
        "pass --overwrite to replace it",
    ):
        assert line in str(caught.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_other_data_are_refused(stopped, monkeypatch):
    from roga_domainbed.engine.datasets import Debug28

    original = Debug28.__init__

    def with_other_labels(self, *args):
        original(self, *args)
        self.datasets[1].labels = 1 - self.datasets[1].labels

    monkeypatch.setattr(Debug28, "__init__", with_other_labels)
    with pytest.raises(RogaError, match=r"environment 1\.labels: '\w+' there, '\w+' here"):
        run(stopped)


def flipped_bit(path):
    """One bit of a weight: the file is whole, and only a checksum can tell."""
    content = bytearray(path.read_bytes())
    found, _ = checkpoint.newest(path.parent)
    weight = max(tensors(found.algorithm), key=torch.Tensor.nelement)
    content[content.index(bytes(weight.untyped_storage())) + 5] ^= 1
    path.write_bytes(content)


def tensors(captured):
    if isinstance(captured, torch.Tensor):
        return [captured]
    if isinstance(captured, dict):
        captured = list(captured.values())
    return [t for item in captured for t in tensors(item)] if isinstance(captured, (list, tuple)) else []


def truncated(path):
    os.truncate(path, path.stat().st_size // 2)


def emptied(path):
    os.truncate(path, 0)


class Payload:
    def __reduce__(self):
        return os.mkdir, ("payload was run",)


def with_code(path):
    path.write_bytes(pickle.dumps(Payload()))


def torch_with_code(path):
    torch.save({"format": 1, "algorithm": Payload()}, path)


@pytest.mark.parametrize(
    "change",
    [
        {"settings": 3},
        {"data": "[1]"},
        {"made_by": "{"},
        {"steps_done": "6"},
        {"steps_done": -1},
        {"records_bytes": 10**30},
        {"record_due": None},
        {"window": {"loss": "abc"}},
        {"window": [1]},
        {"algorithm": [1]},
        {"format": 99},
    ],
)
def test_a_checkpoint_with_a_field_of_another_kind_is_none(tmp_path, change):
    fields = {"steps_done": 6, "record_due": False, "records_bytes": 0, "output_bytes": 0, "window": {}}
    fields |= {"settings": "{}", "data": "{}", "made_by": "{}", "algorithm": ("kept",), "format": 1}
    path = tmp_path / "checkpoint_6.pt"
    torch.save(fields, path)
    assert checkpoint.newest(tmp_path)[0].steps_done == 6
    torch.save(fields | change, path)
    found, damaged = checkpoint.newest(tmp_path)
    assert found is None
    assert list(damaged) == [path]


@pytest.mark.parametrize(
    "damage",
    [
        flipped_bit,
        torch_with_code,
        *(pytest.param(damage, marks=pytest.mark.slow) for damage in (truncated, emptied, with_code)),
    ],
)
def test_a_damaged_or_foreign_checkpoint_falls_back_to_the_one_before(
    damage, stopped, tmp_path, monkeypatch, unbroken, capsys
):
    folder = stopped
    monkeypatch.chdir(tmp_path)
    damage(folder / "checkpoint_6.pt")
    run(folder)
    out = capsys.readouterr().out
    assert "checkpoint_6.pt is damaged or no checkpoint of this trainer" in out
    assert "Continued after 5 of 9 steps." in out
    assert comparable(folder) == unbroken
    assert checkpoints(folder) == ["damaged_checkpoint_6.pt"]
    assert not (tmp_path / "payload was run").exists()


def test_without_a_readable_checkpoint_the_same_run_starts_anew(tmp_path, monkeypatch, unbroken, capsys):
    folder = tmp_path / "run"
    with monkeypatch.context() as context:
        at_step(context, 5, lambda: send("SIGTERM"))
        with pytest.raises(Stopped):
            run(folder, checkpoint_every=0)
    assert checkpoints(folder) == []
    with pytest.raises(RogaError, match=r"args.seed: 0 there, 1 here"):
        run(folder, seed=1)
    run(folder)
    assert "an unfinished run without a checkpoint was here; it starts anew" in capsys.readouterr().out
    assert comparable(folder) == unbroken


def test_overwrite_starts_anew(stopped, capsys):
    folder = stopped
    run(folder, seed=1, overwrite=True)
    assert "Continued" not in capsys.readouterr().out
    assert [record["args"]["seed"] for record in comparable(folder)[0]] == [1, 1, 1]
    assert checkpoints(folder) == []


def test_missing_records_are_not_made_up(stopped):
    (stopped / "results.jsonl").unlink()
    with pytest.raises(RogaError, match="has 0 bytes, and no record ends after"):
        run(stopped)


def test_two_trainings_in_one_folder_are_one(tmp_path, unbroken):
    folder = tmp_path / "run"

    def slow():
        with pytest.MonkeyPatch.context() as context:
            at_step(context, 2, lambda: time.sleep(30))
            run(folder)

    pid = start_child(slow)
    deadline = time.monotonic() + 60
    while "checkpoint_2.pt" not in checkpoints(tmp_path / "run" if folder.exists() else tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert is_locked(folder / LOCK_FILE)
    with pytest.raises(RogaError, match="another process trains in --output_dir"):
        run(folder)
    os.kill(pid, signal.SIGKILL)
    wait(pid)
    assert not is_locked(folder / LOCK_FILE)
    run(folder)
    assert comparable(folder) == unbroken


def test_another_machine_is_a_notice_and_goes_into_the_next_record(stopped, monkeypatch, capsys):
    monkeypatch.setattr(experiment, "__version__", "0.0.0")
    run(stopped)
    assert "numbers may differ in their last digits: roga_domainbed: " in capsys.readouterr().out
    records, *_ = comparable(stopped)
    assert [("provenance" in record) for record in records] == [True, False, True]
    assert records[2]["provenance"]["roga_domainbed"] == "0.0.0"


def test_the_command_line_ends_with_75_and_says_so(tmp_path, monkeypatch, capsys):
    at_step(monkeypatch, 1, lambda: send("SIGUSR1"))
    flags = ["--dataset", "Debug28", "--algorithm", "RoGA", "--steps", "3", "--n_workers", "0"]
    flags += ["--hparams", '{"batch_size": 4, "backbone": "meso4"}', "--output_dir", str(tmp_path / "run")]
    assert main(["train", *flags]) == 75
    assert "stopped by SIGUSR1; the same command resumes it" in capsys.readouterr().err
    monkeypatch.undo()
    assert main(["train", *flags, "--checkpoint_every", "-1"]) == 2


# --- when a checkpoint is due -----------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 0.0

    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: Clock.now)
    return Clock


def test_checkpoints_come_at_records_and_take_at_most_a_percent_of_the_time(clock):
    schedule = checkpoint.Schedule(None)
    clock.now += 4.9
    assert not schedule.is_due(1, recorded=True), "a run of some seconds starts anew"
    clock.now += 0.1
    assert schedule.is_due(1, recorded=True)
    with schedule.timed():
        clock.now += 2.0  # so two hundred seconds of training must follow
    clock.now += 199
    assert not schedule.is_due(50, recorded=True)
    clock.now += 1
    assert schedule.is_due(51, recorded=False), "and a minute after the last one without a record"


def test_a_minute_passes_between_checkpoints_without_a_record(clock):
    schedule = checkpoint.Schedule(None)
    with schedule.timed():
        clock.now += 0.01
    clock.now += 59
    assert not schedule.is_due(10, recorded=False)
    assert schedule.is_due(10, recorded=True)
    clock.now += 1
    assert schedule.is_due(11, recorded=False)


def test_checkpoints_every_n_steps_or_never():
    assert [checkpoint.Schedule(3).is_due(done, recorded=True) for done in (1, 2, 3, 4, 6)] == [
        False, False, True, False, True,
    ]  # fmt: skip
    assert not checkpoint.Schedule(0).is_due(300, recorded=True)
