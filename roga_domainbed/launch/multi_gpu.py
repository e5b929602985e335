"""As the local launcher, with the workers spread over the GPUs of this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from roga_domainbed.launch import Job, Options, Outcome
from roga_domainbed.launch.gpus import visible_gpus
from roga_domainbed.launch.local import run_in_pool


def launch_multi_gpu(jobs: Sequence[Job], options: Options) -> Iterator[Outcome]:
    """One worker a GPU, each seeing that GPU alone; ``options.n_workers`` spreads another number over them."""
    gpus = visible_gpus()
    n_workers = min(options.n_workers or len(gpus), len(jobs))
    environments = [{"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]} for index in range(n_workers)]
    yield from run_in_pool(jobs, options, environments)
