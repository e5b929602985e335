"""``torchrun … train``: several processes train what one trains, and resume what was stopped or killed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from small_runs import N_STEPS, at_call, at_step, checkpoints, comparable, start_child, use_small_images, wait
from torch import distributed as torch_distributed

from roga_domainbed.algorithms.roga import RoGA
from roga_domainbed.cli import main
from roga_domainbed.results.records import RECORDS
from roga_domainbed.trainer import distributed
from roga_domainbed.trainer import loop as training
from roga_domainbed.trainer.stop import Stopped

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
HPARAMS = {"batch_size": 6, "optimizer": "sgd", "lr": 0.05}
ADAM = '{"batch_size": 4, "backbone": "meso4"}'
# Adam would make a step of the rounding that is all the gradient of a bias before batch norm.
SGD = '{"batch_size": 4, "backbone": "meso4", "optimizer": "sgd", "lr": 0.05}'

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="signals and forks of POSIX")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    use_small_images(monkeypatch)


def command(folder, *, processes=None, steps=3, **hparams):
    launcher = [*TORCHRUN, str(processes)] if processes else [sys.executable]
    flags = ["--dataset", "Debug28", "--algorithm", "RoGA", "--test_envs", "0", "--n_workers", "0"]
    flags += ["--steps", str(steps), "--checkpoint_freq", "2", "--output_dir", str(folder)]
    flags += ["--hparams", json.dumps({**HPARAMS, **hparams})]
    return [*launcher, "-m", "roga_domainbed", "train", *flags]


def train(folder, **kwargs):
    return subprocess.run(command(folder, **kwargs), capture_output=True, text=True, timeout=300, check=False)


def nothing(rank):
    """The hook of a run that is left alone."""


def shared(folder, hook=nothing, *, processes=2, **kwargs):
    """Exit statuses of processes that share a run: what torchrun does, without the seconds that it takes.

    Args:
        folder: the run's.
        hook: called in each process, with its rank, before it trains.
        processes: how many.
        **kwargs: arguments of train.
    """
    given = {
        "dataset": "Debug28",
        "algorithm": "RoGA",
        "hparams": ADAM,
        "steps": N_STEPS,
        "checkpoint_freq": 4,
        "checkpoint_every": 2,
        "n_workers": 0,
        "output_dir": folder,
        **kwargs,
    }
    flags = [part for name, value in given.items() for part in (f"--{name}", str(value))]
    store = torch_distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    environment = {
        "TORCHELASTIC_RUN_ID": "test",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(store.port),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
    }

    def process(rank):
        signal.alarm(120)  # no hang outlives it
        os.environ.update(environment, RANK=str(rank), LOCAL_RANK=str(rank))
        hook(rank)
        raise SystemExit(main(["train", *flags]))

    pids = [start_child(lambda rank=rank: process(rank)) for rank in range(processes)]
    return [wait(pid) for pid in pids]


def signals(name, at):
    """A hook that has each process get the signal within the update of its step."""

    def hook(rank):
        number = getattr(signal, name)
        at_step(pytest.MonkeyPatch(), at[rank], lambda: os.kill(os.getpid(), number))

    return hook


def weights(folder):
    return torch.load(folder / "model.pkl", weights_only=True)["model_dict"]


def records(folder):
    return [json.loads(line) for line in (folder / RECORDS).read_text(encoding="utf-8").splitlines()]


def assert_equal_to_rounding(one, other):
    theirs = weights(other)
    for name, value in weights(one).items():
        assert torch.allclose(theirs[name], value, rtol=0, atol=1e-6), name
    assert [record["step"] for record in records(one)] == [record["step"] for record in records(other)]
    for mine, their in zip(records(one), records(other), strict=True):
        for key in ("loss", "perturbed_loss", "grad_norm", "alpha_ratio_1", "env0_in_acc"):
            assert mine[key] == pytest.approx(their[key], abs=1e-6), key


def test_three_processes_train_the_model_that_one_trains_and_the_first_alone_writes(tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    for folder, processes in ((alone, None), (together, 3)):  # two domains: the third process has none
        done = train(folder, processes=processes)
        assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in together.iterdir()) == sorted(p.name for p in alone.iterdir())
    assert done.stdout.count("test environments in brackets") == 1
    assert len(records(alone)) == 2
    assert_equal_to_rounding(alone, together)
    assert "processes" not in records(alone)[0]["provenance"]
    assert records(together)[0]["provenance"]["processes"] == 3


@needs_fork
def test_an_algorithm_that_cannot_share_domains_is_refused(tmp_path, capfd):
    assert shared(tmp_path / "run", algorithm="ERM") == [2, 2]
    message = "torchrun started 2 processes, which share the domains of a step; ERM cannot"
    assert message in capfd.readouterr().err
    assert not (tmp_path / "run").exists()


@needs_fork
def test_random_parts_are_refused_in_several_processes_before_anything_is_trained(tmp_path, capfd):
    hparams = json.dumps({**HPARAMS, "roga_parts": "random"})
    assert shared(tmp_path / "run", hparams=hparams) == [2, 2]
    assert "hparam 'roga_parts' random deals the minibatches of all environments" in capfd.readouterr().err
    assert not (tmp_path / "run" / "results.jsonl").exists()


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")  # as a cluster's own environment may have it
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert distributed.n_processes() == 1
    assert distributed.join() == 0


# --- resumed runs --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_small_images(monkeypatch)
        folder = tmp_path_factory.mktemp("unbroken") / "run"
        assert shared(folder) == [0, 0]
    return comparable(folder)


@needs_fork
def test_a_killed_run_resumes_bit_for_bit(tmp_path, unbroken):
    folder = tmp_path / "run"
    assert shared(folder, signals("SIGKILL", at=(5, 5))) == [-signal.SIGKILL, -signal.SIGKILL]
    assert checkpoints(folder) == ["checkpoint_2.pt", "checkpoint_4.pt"]
    assert shared(folder) == [0, 0]
    out = (folder / "out.txt").read_text()
    assert f"Continued after 4 of {N_STEPS} steps." in out
    assert "begun elsewhere" not in out
    assert comparable(folder) == unbroken
    assert checkpoints(folder) == []


def stop_in_update(rank):
    # The second process is told first, and still has to serve the step that the first one is in.
    signals("SIGTERM", at=(6, 4))(rank)


def stop_in_evaluation(rank):
    """The second process waits in the all-reduce of the next step then."""

    def stop():
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    at_call(pytest.MonkeyPatch(), training, "evaluate", 2, stop)  # after step 4


@needs_fork
@pytest.mark.parametrize(
    ("stop", "written"),
    [
        (stop_in_update, ["checkpoint_6.pt", "checkpoint_7.pt"]),
        (stop_in_evaluation, ["checkpoint_4.pt", "checkpoint_5.pt"]),
    ],
)
def test_a_stopped_run_leaves_a_checkpoint_and_one_message_and_resumes_bit_for_bit(
    stop, written, tmp_path, unbroken, capfd
):
    folder = tmp_path / "run"
    assert shared(folder, stop) == [Stopped.STATUS, 1]
    assert capfd.readouterr().err == (
        "roga-domainbed train: stopped by SIGTERM; the same command resumes it\n"
    )
    assert checkpoints(folder) == written
    assert shared(folder) == [0, 0]
    assert comparable(folder) == unbroken


@needs_fork
def test_the_first_process_has_the_average_and_resumes_with_it_bit_for_bit(tmp_path, unbroken):
    whole, folder = tmp_path / "whole", tmp_path / "run"
    given = {"hparams": json.dumps({**json.loads(ADAM), "averaging": "ema"})}
    assert shared(whole, **given) == [0, 0]
    for without, record in zip(unbroken[0], records(whole), strict=True):
        assert all(record[f"plain_{key}"] == without[key] for key in without if key.startswith("env"))
    assert shared(folder, stop_in_update, **given) == [Stopped.STATUS, 1]
    assert shared(folder, **given) == [0, 0]
    assert comparable(folder) == comparable(whole)


def stays_shared(rank):
    original = RoGA.update

    def update(self, minibatches, *args):
        assert len(self.own_domains(len(minibatches))) < len(minibatches)
        return original(self, minibatches, *args)

    RoGA.update = update


@needs_fork
def test_a_process_that_dies_ends_the_others_and_the_same_command_resumes_it(tmp_path, unbroken, capfd):
    folder = tmp_path / "run"
    assert shared(folder, signals("SIGKILL", at=(N_STEPS, 5))) == [1, -signal.SIGKILL]
    err = capfd.readouterr().err
    assert err.startswith("roga-domainbed train: error: another process of the group has stopped")
    assert err.endswith("; the same command resumes it\n")
    assert err.count("\n") == 1
    assert shared(folder) == [0, 0]
    assert comparable(folder) == unbroken


@needs_fork
@pytest.mark.parametrize(("before", "after"), [(1, 2), (3, 1)])
def test_the_number_of_processes_may_change(before, after, tmp_path):
    folder, alone = tmp_path / "run", tmp_path / "alone"
    assert shared(alone, processes=1, hparams=SGD) == [0]
    stopped = shared(folder, signals("SIGTERM", at=(5, 5, 5)), processes=before, hparams=SGD)
    assert stopped[0] == Stopped.STATUS
    hook = stays_shared if after > 1 else nothing
    assert shared(folder, hook, processes=after, hparams=SGD) == [0] * after
    assert_equal_to_rounding(alone, folder)
    out = (folder / "out.txt").read_text()
    assert f"Continued after 6 of {N_STEPS} steps." in out
    assert f"numbers may differ in their last digits: processes: {before} there, {after} here." in out
    shown = [record["provenance"].get("processes", 1) for record in records(folder) if "provenance" in record]
    assert shown == [before, after]


def without_records(folder):
    (folder / RECORDS).unlink()
    return {}, "has 0 bytes, and no record ends after"


def with_another_seed(folder):
    return {"seed": 1}, "holds an unfinished run with other settings:\n  args.seed: 0 there, 1 here\n"


@needs_fork
@pytest.mark.parametrize("spoil", [with_another_seed, without_records])
def test_what_the_first_process_refuses_ends_all_with_its_message(spoil, tmp_path, capfd):
    folder = tmp_path / "run"
    shared(folder, signals("SIGTERM", at=(2, 2)))
    given, message = spoil(folder)
    before = {path.name: path.read_bytes() for path in folder.glob("*.pt")}
    capfd.readouterr()
    assert shared(folder, **given) == [2, 1]
    err = capfd.readouterr().err
    assert message in err
    assert err.count("roga-domainbed train: error: ") == 1
    assert "Traceback" not in err
    assert {path.name: path.read_bytes() for path in folder.glob("*.pt")} == before


@pytest.mark.slow
@needs_fork
def test_sigterm_to_torchrun_stops_the_run_which_resumes(tmp_path):
    folder = tmp_path / "run"
    steps = {"processes": 2, "steps": 100_000}
    with subprocess.Popen(command(folder, **steps), stderr=subprocess.PIPE, text=True) as torchrun:
        deadline = time.monotonic() + 120
        while not (folder.exists() and checkpoints(folder)) and time.monotonic() < deadline:
            time.sleep(0.05)
        torchrun.send_signal(signal.SIGTERM)
        err = torchrun.communicate(timeout=60)[1]
    assert err.count("roga-domainbed train:") == 1
    assert "roga-domainbed train: stopped by SIGTERM; the same command resumes it\n" in err
    newest = max(int(name.removesuffix(".pt").rpartition("_")[2]) for name in checkpoints(folder))
    with subprocess.Popen(command(folder, **steps), stdout=subprocess.PIPE, text=True) as torchrun:
        for line in torchrun.stdout:
            if "Continued" in line:
                break
        torchrun.terminate()
    assert line == f"Continued after {newest} of 100000 steps.\n"
