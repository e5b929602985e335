"""The job of train arguments: its folder is named by their hash, its command is upstream's.

Both are upstream's, so that either tool finds the other's folders.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from roga_domainbed.errors import RogaError
from roga_domainbed.launch import Job, Outcome

#: Runs jobs, as a ``Launcher`` does.
Launch = Callable[[Sequence[Job]], Iterator[Outcome]]


def train_job(train_args: Mapping[str, Any], sweep_output_dir: str) -> Job:
    """The job that trains with ``train_args`` (without ``output_dir``) in a folder of its own in ``sweep_output_dir``.

    The folder's name is the MD5 of the arguments as JSON with sorted keys: 32 hexadecimal digits.
    """
    name = hashlib.md5(json.dumps(dict(train_args), sort_keys=True).encode("utf-8")).hexdigest()
    output_dir = os.path.join(sweep_output_dir, name)
    words = tuple(_words({**train_args, "output_dir": output_dir}))
    shell = " ".join(("python -m domainbed.scripts.train", *map(_quoted, words)))
    return Job(("train", *words), output_dir, shell, train_args)


#: The jobs of a sweep share most of their words, and quoting is the slowest part of making a job.
_quoted = functools.lru_cache(maxsize=4096)(shlex.quote)


def require_plan(jobs: Iterable[Job], purpose: str) -> None:
    """Refuse jobs of which only the job files are known: these do not say all that a training is told.

    Raises:
        RogaError: there is one; ``purpose`` begins the sentence.
    """
    if any("trial_seed" not in job.train_args for job in jobs):
        raise RogaError(f"{purpose} needs the sweep's plan: give the arguments that say which jobs there are")


def length_of(
    train_args: Mapping[str, Any], default_length: Callable[[str], tuple[int, int]]
) -> tuple[int, int]:
    """The steps of a training, and its steps between records.

    Args:
        train_args: of the training.
        default_length: dataset → both, of a training that is not told.
    """
    steps, every = train_args.get("steps"), train_args.get("checkpoint_freq")
    if steps is None or every is None:
        default = default_length(train_args["dataset"])
        steps, every = steps or default[0], every or default[1]
    return steps, every


def _words(flags: Mapping[str, Any]) -> Iterator[str]:
    """``--name value`` of each argument, in alphabetical order."""
    for name, value in sorted(flags.items()):
        # "is", because 0 equals False and hparams_seed 0 is a value.
        if value is None or value is False:
            continue
        yield f"--{name}"
        if isinstance(value, list):
            yield from map(str, value)
        elif value is not True:
            yield str(value)
