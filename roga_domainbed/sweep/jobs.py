"""The job of train arguments: its folder is named by their hash, its command is upstream's.

Both are upstream's, so that either tool finds the other's folders.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from roga_domainbed.launch import Job


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
