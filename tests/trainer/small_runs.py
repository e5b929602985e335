"""Whole runs that take a moment: Meso-4, which has dropout and batch norm, on 16 images of 32 pixels an environment."""

import json
import os
import sys
import traceback
import warnings

import torch

from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.run import train

N_STEPS = 9
CLOCKS = ("step_time", "data_time")


def use_small_images(monkeypatch):
    from roga_domainbed.engine.datasets import Debug28

    monkeypatch.setattr(Debug28, "INPUT_SHAPE", (3, 32, 32))


def run(folder, **kwargs):
    given = {
        "dataset": "Debug28",
        "algorithm": "RoGA",
        "hparams": '{"batch_size": 4, "backbone": "meso4"}',
        "steps": N_STEPS,
        "checkpoint_freq": 4,
        "checkpoint_every": 1,
        "n_workers": 0,
        **kwargs,
    }
    train(TrainConfig(output_dir=str(folder), **given))


def records_of(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def comparable(folder):
    """Records without clocks and the folder's name, then the final weights and the file of scores."""
    records = []
    for line in (folder / "results.jsonl").read_text().splitlines():
        record = json.loads(line)
        del record["args"]["output_dir"]
        records.append({key: value for key, value in record.items() if key not in CLOCKS})
    weights = torch.load(folder / "model.pkl", weights_only=True)["model_dict"]
    weights = {name: value.numpy().tobytes() for name, value in weights.items()}
    return records, weights, (folder / "scores.parquet").read_bytes()


def checkpoints(folder):
    return sorted(path.name for path in folder.glob("*checkpoint_*"))


def start_child(function):
    """Call ``function`` in a forked child, in a process group of its own; its pid."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, from Python 3.12 on
        pid = os.fork()
    if pid:
        return pid
    os.setpgid(0, 0)
    try:
        function()
        status = 0
    except SystemExit as error:
        status = error.code
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        status = 99
    os._exit(status)


def wait(pid):
    """Exit status of a child, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def in_child(function):
    return wait(start_child(function))


def at_step(monkeypatch, step, action, algorithm=None):
    """Have ``action()`` called within the update of that step."""
    from roga_domainbed.algorithms.roga import RoGA

    at_call(monkeypatch, algorithm or RoGA, "update", step + 1, action, before=False)


def at_call(monkeypatch, owner, name, number, action, *, before=True):
    """Have ``action()`` called before, or after, that call of ``owner.name``, counted from 1."""
    original, calls = getattr(owner, name), []

    def wrapper(*args, **kwargs):
        calls.append(None)
        if before and len(calls) == number:
            action()
        result = original(*args, **kwargs)
        if not before and len(calls) == number:
            action()
        return result

    monkeypatch.setattr(owner, name, wrapper)
