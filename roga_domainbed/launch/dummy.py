"""The launcher that prints what it would run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from roga_domainbed.launch import Command, Options, Outcome


def launch_dummy(commands: Sequence[Command], options: Options) -> Iterator[Outcome]:
    """Print ``Dummy launcher: <command>`` for every command."""
    for command in commands:
        print(f"Dummy launcher: {command.text}")
        yield Outcome(command, 0)
