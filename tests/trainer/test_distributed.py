"""``torchrun … train``: several processes train what one trains."""

import json
import subprocess
import sys

import pytest
import torch

from roga_domainbed.records import RECORDS
from roga_domainbed.trainer import distributed

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
HPARAMS = {"batch_size": 6, "optimizer": "sgd", "lr": 0.05}


def train(folder, *, processes=None, algorithm="RoGA", **hparams):
    launcher = [*TORCHRUN, str(processes)] if processes else [sys.executable]
    command = [*launcher, "-m", "roga_domainbed", "train", "--dataset", "Debug28", "--algorithm", algorithm]
    command += ["--test_envs", "0", "--steps", "3", "--checkpoint_freq", "2", "--n_workers", "0"]
    command += ["--hparams", json.dumps({**HPARAMS, **hparams}), "--output_dir", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def weights(folder):
    return torch.load(folder / "model.pkl", weights_only=True)["model_dict"]


def records(folder):
    return [json.loads(line) for line in (folder / RECORDS).read_text(encoding="utf-8").splitlines()]


def test_three_processes_train_the_model_that_one_trains_and_the_first_alone_writes(tmp_path):
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    for folder, processes in ((alone, None), (shared, 3)):  # two domains: the third process has none
        done = train(folder, processes=processes)
        assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in shared.iterdir()) == sorted(p.name for p in alone.iterdir())
    assert done.stdout.count("test environments in brackets") == 1
    one, three = weights(alone), weights(shared)
    for name, value in one.items():
        assert torch.allclose(three[name], value, rtol=0, atol=1e-6), name
    assert len(records(shared)) == len(records(alone)) == 2
    for mine, theirs in zip(records(shared), records(alone), strict=True):
        for key in ("step", "loss", "perturbed_loss", "grad_norm", "alpha_ratio_1", "env0_in_acc"):
            assert mine[key] == pytest.approx(theirs[key], abs=1e-6), key


def test_an_algorithm_that_cannot_share_domains_is_refused(tmp_path):
    done = train(tmp_path / "run", processes=2, algorithm="ERM")
    assert done.returncode != 0
    assert "torchrun started 2 processes, which share the domains of a step; ERM cannot" in done.stderr
    assert not (tmp_path / "run").exists()


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")  # as a cluster's own environment may have it
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert distributed.n_processes() == 1
    assert distributed.join() == 0
