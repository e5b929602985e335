"""``torchrun … -m roga_domainbed train``: processes that share the domains of a run.

The first process trains, evaluates and writes as if it were alone; the others take part in its steps, with minibatches
of their own domains, and write nothing. After a step all hold the same state, so the first one's checkpoint is
everyone's: a resumed run sends it to the others, and may have another number of processes. An algorithm that can do
this has ``share_domains(group)`` and ``own_domains(n)``, as RoGA does.
"""

from __future__ import annotations

import atexit
import datetime
import io
import os
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed

from roga_domainbed.errors import RogaError
from roga_domainbed.host.backend import Host
from roga_domainbed.optim.collectives import together
from roga_domainbed.trainer import checkpoint
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.object_state import CannotRestore, ObjectState

if TYPE_CHECKING:
    from roga_domainbed.trainer.experiment import Experiment

#: The first process evaluates while the others wait in the next step's all-reduce. A process that has died is
#: noticed at once, by its closed connection.
PATIENCE = datetime.timedelta(days=2)

_PIECE = 2**26  # bytes that are sent at once


def n_processes() -> int:
    """How many processes torchrun started for this run; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if distributed.is_torchelastic_launched() else 1


def problems(config: TrainConfig, host: Host) -> list[str]:
    """Why the processes cannot share this run."""
    n, algorithm = n_processes(), getattr(host.algorithms, config.algorithm, None)
    if n == 1 or algorithm is None or hasattr(algorithm, "share_domains"):
        return []
    return [
        f"torchrun started {n} processes, which share the domains of a step; {config.algorithm} cannot: "
        "start it without torchrun, or with --nproc_per_node 1"
    ]


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
            together(distributed.barrier)  # the others wait for the data that this one may have had to make
        experiment.algorithm.share_domains()


def start_together(algorithm: Any, state: ObjectState, steps_done: int) -> int:
    """Give every process the state of ``algorithm`` that the first one resumes from, if it does.

    Args:
        algorithm: after ``share``.
        state: of ``algorithm``.
        steps_done: how many steps that state has seen; the first process's counts.

    Returns:
        The number of steps that are done.
    """
    if not distributed.is_initialized():
        return steps_done
    device = next(algorithm.parameters()).device
    is_first = distributed.get_rank() == 0
    stream = io.BytesIO()
    if is_first and steps_done:
        torch.save(state.capture(), stream)
    header = torch.tensor([steps_done, stream.tell()], device=device)
    together(distributed.broadcast, header, src=0)
    steps_done, n_bytes = header.tolist()
    if steps_done:
        if not is_first:
            stream.write(bytes(n_bytes))
        _send_from_first(torch.frombuffer(stream.getbuffer(), dtype=torch.uint8), device)
        if not is_first:
            stream.seek(0)
            _restore(state, stream)
        algorithm.share_domains()  # anew: a state that was written by one process alone knows no others
    return steps_done


def _send_from_first(buffer: torch.Tensor, device: torch.device) -> None:
    for piece in buffer.split(_PIECE):
        there = piece.to(device)  # nccl sends what is in a GPU's memory
        together(distributed.broadcast, there, src=0)
        piece.copy_(there)


def _restore(state: ObjectState, stream: io.BytesIO) -> None:
    try:
        state.restore(checkpoint.load(stream))
    except CannotRestore as error:
        raise RogaError(
            f"the first process's state cannot be put into process {distributed.get_rank()}: {error}; run the same "
            "version in all"
        ) from None


def minibatch_size(experiment: Experiment, env: int) -> int:
    """How many samples of training environment ``env`` this process needs: one where another has the domain."""
    envs = experiment.train_envs
    if distributed.is_initialized() and env in envs:
        own = experiment.algorithm.own_domains(len(envs))
        if envs.index(env) not in own:
            return 1  # update() gets a minibatch of every domain, looked at or not
    return experiment.hparams["batch_size"]
