"""As the local launcher, on a machine that must have GPUs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from roga_domainbed.launch import Job, Options, Outcome
from roga_domainbed.launch.gpus import required_gpus
from roga_domainbed.launch.local import environments_for, run_in_pool


def launch_multi_gpu(jobs: Sequence[Job], options: Options) -> Iterator[Outcome]:
    """Workers that see one GPU each, ``options.jobs_per_gpu`` of them a GPU, or ``options.n_workers`` in all."""
    yield from run_in_pool(jobs, options, environments_for(required_gpus(), options, len(jobs)))
