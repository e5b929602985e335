"""The command line: one file a subcommand, imported only when it is called, so that help is instant.

A subcommand's module has ``add_arguments(parser)`` and ``run(args) -> int`` (the exit status); its docstring is
the long help.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
from collections.abc import Sequence
from typing import NoReturn

from roga_domainbed import __version__
from roga_domainbed.errors import Failed, RogaError, unknown_name

#: Subcommand → (module, one line of help), in the order of the help page.
COMMANDS = {
    "demo": ("roga_domainbed.cli.demo", "leave-one-domain-out on generated faces, with tables, in minutes"),
    "list": (
        "roga_domainbed.cli.list_names",
        "the algorithms, datasets, backbones and their hyper-parameters",
    ),
    "prepare": ("roga_domainbed.cli.prepare", "make face crops and a manifest from a dataset as distributed"),
    "data": ("roga_domainbed.cli.data", "check prepared data, and count what is there"),
    "audit": ("roga_domainbed.cli.audit", "what training, selection and test have in common"),
    "train": ("roga_domainbed.cli.train", "train one model"),
    "sweep": ("roga_domainbed.cli.sweep", "launch, watch and clean up many trainings"),
    "collect-results": ("roga_domainbed.cli.collect_results", "tables from the records of a sweep"),
    "report": (
        "roga_domainbed.cli.report",
        "one HTML file with tables, curves, what is missing and provenance",
    ),
    "evaluate": ("roga_domainbed.cli.evaluate", "a saved model on its own data, another dataset or a folder"),
    "predict": ("roga_domainbed.cli.predict", "a probability of fake for images, folders and videos"),
    "upstream": ("roga_domainbed.cli.upstream", "run a script of a DomainBed checkout with the plugin in it"),
    "doctor": (
        "roga_domainbed.cli.doctor",
        "show what is installed and what is missing; --full checks the numbers",
    ),
}
_ALIASES = {"collect_results": "collect-results"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit status: 0 done, 1 failed, 2 a fault of the user."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0] in _ALIASES:
        argv[0] = _ALIASES[argv[0]]
    if not argv:
        _top_parser().print_help()
        return 0
    if argv[0] in COMMANDS:
        module_name, summary = COMMANDS[argv[0]]
        module = importlib.import_module(module_name)
        sub = _Parser(
            prog=f"roga-domainbed {argv[0]}",
            description=inspect.cleandoc(module.__doc__ or summary),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(sub)
        try:
            return module.run(sub.parse_args(argv[1:]))
        except RogaError as error:
            print(f"roga-domainbed {argv[0]}: error: {error}", file=sys.stderr)
            return 1 if isinstance(error, Failed) else 2
        except BrokenPipeError:  # the reader of our output went away: `… | head`
            sys.stderr.close()
            return 1
        except OSError as error:  # disk full, no permission: nothing a traceback would explain
            where = f": {error.filename}" if error.filename else ""
            print(f"roga-domainbed {argv[0]}: error: {error.strerror or error}{where}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print(f"roga-domainbed {argv[0]}: interrupted", file=sys.stderr)
            return 130
    if not argv[0].startswith("-"):
        message = unknown_name("command", argv[0], COMMANDS)
        print(f"roga-domainbed: error: {message}", file=sys.stderr)
        return 2
    _top_parser().parse_args(argv)
    return 2


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; the usage of a command with twenty options would bury it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; '{self.prog} --help' explains\n")


def _top_parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {summary}" for name, (_, summary) in COMMANDS.items())
    parser = _Parser(
        prog="roga-domainbed",
        description="Domain generalization for deepfake detection, on DomainBed.",
        epilog=f"commands:\n{lines}\n\n'roga-domainbed COMMAND --help' explains one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="roga-domainbed COMMAND ...",
    )
    parser.add_argument("--version", action="version", version=f"roga-domainbed {__version__}")
    return parser
