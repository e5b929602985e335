"""A command that is made of others: each is printed before it runs, so that it can be repeated with other options."""

from __future__ import annotations

import shlex
from collections.abc import Mapping


def own_command(name: str, options: Mapping[str, object], *flags: str) -> int:
    """Print one of our own commands as a shell would take it, and run it in this process; its exit status."""
    from roga_domainbed.cli import main

    argv = name.split()
    for option, value in options.items():
        argv += [option, *map(str, value if isinstance(value, list) else [value])]
    argv += flags
    print("\n$ roga-domainbed " + shlex.join(argv), flush=True)
    return main(argv)
