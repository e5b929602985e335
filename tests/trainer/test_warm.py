"""What a process imports once before it forks trainings."""

import json
import os
import subprocess
import sys
import textwrap

import pytest
import torch
from torch.utils.data import TensorDataset

from roga_domainbed.engine.datasets.mnist import _coloured
from roga_domainbed.engine.datasets.tensors import TensorEnvironment
from roga_domainbed.errors import Problems
from roga_domainbed.host.backend import host
from roga_domainbed.input.environment import environment_of
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.experiment import Experiment
from roga_domainbed.trainer.hyperparameters import resolve_hparams

#: Trains in a forked process, and says what that imported, and whether a GPU was touched before.
FORKED = """
    import importlib, json, os, sys
    from roga_domainbed.cli.sweep.launching import PRELOAD
    for module in PRELOAD:
        importlib.import_module(module)
    from roga_domainbed.cli import main
    import torch

    before = set(sys.modules)
    touched = torch.cuda.is_initialized()
    pid = os.fork()
    if pid:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    words = "train --dataset Debug28 --algorithm ERM --test_envs 0 --steps 1 --n_workers 0 --output_dir"
    assert main([*words.split(), sys.argv[1]]) == 0
    new = sorted(name for name in set(sys.modules) - before if name.startswith("roga_domainbed."))
    print(json.dumps([new, touched]))
    sys.stdout.flush()
    os._exit(0)
"""


def run(code, *words, **environment):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, words)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_training_forked_from_a_warm_process_imports_nothing_of_ours_and_finds_no_gpu_touched(tmp_path):
    done = run(FORKED, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [[], False]


def test_what_is_wrong_with_a_checkout_is_left_to_the_trainings_to_say(tmp_path):
    (tmp_path / "domainbed").mkdir()
    (tmp_path / "domainbed" / "algorithms.py").write_text("raise RuntimeError('broken')\n")
    (tmp_path / "domainbed" / "datasets.py").write_text("class MultipleDomainDataset: pass\n")
    done = run("import roga_domainbed.trainer.warm", DOMAINBED_HOME=str(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture
def readers(monkeypatch):
    """How many readers a run with that many threads has."""

    def count(n_threads, dataset="Debug28", **kwargs):
        monkeypatch.setattr(torch, "get_num_threads", lambda: n_threads)
        config = TrainConfig(dataset=dataset, algorithm="ERM", test_envs=[0], steps=1, **kwargs)
        return Experiment(config, resolve_hparams(config, host(), Problems()), host()).n_workers

    return count


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes while its processor reads")
def test_tensors_in_memory_have_no_reader_that_would_share_the_networks_only_core(readers):
    assert readers(1) == 0
    assert readers(1, n_workers=1) == 1
    assert readers(3) == 3
    assert readers(99) == 8  # as many as DomainBed


def test_samples_that_are_computed_or_of_any_other_class_are_not_in_memory():
    images, labels = torch.zeros(4, 28, 28), torch.zeros(4, dtype=torch.int64)

    class Own(TensorDataset):
        def __getitem__(self, index):
            return torch.rand(3), 0

    assert TensorEnvironment(images, labels).in_memory
    assert not _coloured(28, images, labels.numpy(), 0.1).in_memory
    stored = environment_of(TensorDataset(images, labels))
    assert (stored.in_memory, stored.may_draw) == (True, False)
    own = environment_of(Own(images, labels))
    assert (own.in_memory, own.may_draw) == (False, True)
