"""``torchrun … -m roga_domainbed train``: processes that share the domains of a run.

The first process trains, evaluates and writes as if it were alone; the others take part in its steps, with minibatches
of their own domains, and write nothing. An algorithm that can do this has ``share_domains(group)`` and
``own_domains(n)``, as RoGA does.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import datetime
import io
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed

from roga_domainbed.backend import Host
from roga_domainbed.trainer import checkpoint
from roga_domainbed.trainer.config import TrainConfig

if TYPE_CHECKING:
    from roga_domainbed.trainer.experiment import Experiment
    from roga_domainbed.trainer.stop import StopSignals

#: The first process evaluates while the others wait in the next step's all-reduce. A process that has died is
#: noticed at once, by its closed connection.
PATIENCE = datetime.timedelta(days=2)


def n_processes() -> int:
    """How many processes torchrun started for this run; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if distributed.is_torchelastic_launched() else 1


def problems(config: TrainConfig, host: Host) -> list[str]:
    """Why the processes cannot share this run."""
    n, found = n_processes(), []
    if n == 1:
        return found
    algorithm = getattr(host.algorithms, config.algorithm, None)
    if algorithm is not None and not hasattr(algorithm, "share_domains"):
        found.append(
            f"torchrun started {n} processes, which share the domains of a step; {config.algorithm} cannot: "
            "start it without torchrun, or with --nproc_per_node 1"
        )
    if config.checkpoint_every:
        found.append("--checkpoint_every: processes that share a run write no checkpoints; leave it out")
    if not config.overwrite and checkpoint.exists(Path(config.output_dir)):
        found.append(
            f"--output_dir {config.output_dir!r} holds an unfinished run of one process: go on with it without "
            "torchrun, or pass --overwrite to start anew"
        )
    return found


def adapted(config: TrainConfig) -> TrainConfig:
    """``config`` without checkpoints where processes share the run: a killed one starts anew."""
    return config if n_processes() == 1 else dataclasses.replace(config, checkpoint_every=0)


def join() -> int:
    """Meet the other processes; the rank of this one, 0 if it is alone."""
    if n_processes() == 1:
        return 0
    backend, local = "gloo", int(os.environ["LOCAL_RANK"])
    if torch.cuda.is_available():
        torch.cuda.set_device(local % torch.cuda.device_count())
        if torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"]):
            backend = "nccl"
    distributed.init_process_group(backend, timeout=PATIENCE)
    atexit.register(distributed.destroy_process_group)
    return distributed.get_rank()


def share(experiment: Experiment) -> None:
    """Let the processes share the domains of ``experiment`` from now on, if there are others."""
    if distributed.is_initialized():
        if distributed.get_rank() == 0:
            distributed.barrier()  # the others wait for the data that this one may have had to make
        experiment.algorithm.share_domains()


def minibatch_size(experiment: Experiment, env: int) -> int:
    """How many samples of training environment ``env`` this process needs: one where another has the domain."""
    envs = experiment.train_envs
    if distributed.is_initialized() and env in envs:
        own = experiment.algorithm.own_domains(len(envs))
        if envs.index(env) not in own:
            return 1  # update() gets a minibatch of every domain, looked at or not
    return experiment.hparams["batch_size"]


def follow(config: TrainConfig, hparams: dict[str, Any], host: Host, signals: StopSignals) -> None:
    """Take part in the steps of the first process, writing nothing."""
    from roga_domainbed.trainer.experiment import Experiment
    from roga_domainbed.trainer.loop import TrainingLoop

    class Following(TrainingLoop):
        def _record(self, step: int) -> None:
            self.window, self.record_due = type(self.window)(), False

    distributed.barrier()
    config = dataclasses.replace(config, skip_model_save=True)
    with contextlib.redirect_stdout(io.StringIO()), tempfile.TemporaryDirectory() as folder:
        experiment = Experiment(config, hparams, host)
        share(experiment)
        Following(experiment, Path(folder), signals).run()
