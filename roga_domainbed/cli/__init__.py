"""The command line: one file a subcommand, imported only when it is called, so that help is instant.

A subcommand's module has ``add_arguments(parser)`` and ``run(args) -> int`` (the exit status); its docstring is
the long help.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import NoReturn

from roga_domainbed import __version__
from roga_domainbed.cli import streams
from roga_domainbed.errors import Failed, Problems, RogaError, first_line, is_out_of_memory, unknown_name

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
    "reproduce": ("roga_domainbed.cli.reproduce", "a table of the paper: check, train, and compare with it"),
    "collect-results": ("roga_domainbed.cli.collect_results", "tables from the records of a sweep"),
    "report": (
        "roga_domainbed.cli.report",
        "one HTML file with tables, curves, what is missing and provenance",
    ),
    "evaluate": (
        "roga_domainbed.cli.evaluate",
        "a saved model on its own data, other or damaged data; or the scores of any detector",
    ),
    "predict": ("roga_domainbed.cli.predict", "a probability of fake for images, folders and videos"),
    "explain": (
        "roga_domainbed.cli.explain",
        "why saved models say so: heat maps, a video over time, features, sharpness",
    ),
    "export": ("roga_domainbed.cli.export", "a detector as an ONNX or TorchScript file, for other programs"),
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
    if not streams.has_output():
        print(
            "roga-domainbed: error: standard output is closed: send it to a file or to /dev/null",
            file=sys.stderr,
        )
        return 1
    os.environ["MPLBACKEND"] = "agg"  # figures are drawn into files, whatever backend windows would have
    with streams.shown_safely():
        ended: SystemExit | None = None
        try:
            status = _explained(argv)
        except SystemExit as error:  # argparse's, after a help text or a fault
            ended, status = error, 1
        try:
            streams.flush_output()
        except BrokenPipeError:  # the reader of our output went away: `… | head`
            return 1
        except OSError as error:
            print(f"{_name(argv)}: error: standard output: {error.strerror}", file=sys.stderr)
            return 1
        if ended is not None:
            raise ended
        return status


def _explained(argv: list[str]) -> int:
    """The exit status of a command; whatever stopped it is said on stderr."""
    try:
        return _run(argv)
    except RogaError as error:
        status, sentence = (1 if isinstance(error, Failed) else 2), f"error: {error}"
    except KeyboardInterrupt:
        status, sentence = 130, "interrupted"
    except BrokenPipeError:
        return 1
    except Exception as error:
        status, sentence = 1, f"error: {_reason(error)}"
    print(f"{_name(argv)}: {sentence}", file=sys.stderr)
    return status


def _reason(error: Exception) -> str:
    """What a person can do something about, in a sentence; anything else is a defect and shown with its traceback."""
    said = (first_line(error) or type(error).__name__)[:200]
    if is_out_of_memory(error):
        return f"not enough memory ({said})"
    if isinstance(error, OSError):  # disk full, no permission: nothing a traceback would explain
        return f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
    if isinstance(error, RecursionError):
        return f"something is nested too deep ({said})"
    if isinstance(error, UnicodeError):
        return f"a name or text that is no Unicode, or that an encoding lacks ({said})"
    if isinstance(error, OverflowError):
        return f"a number is too large ({said})"
    traceback.print_exception(error)
    return "an error that nobody foresaw: please report it, with the lines above"


def _name(argv: Sequence[str]) -> str:
    return f"roga-domainbed {argv[0]}" if argv and argv[0] in COMMANDS else "roga-domainbed"


def _run(argv: list[str]) -> int:
    if not argv:
        _top_parser().print_help()
        return 0
    if argv[0] in COMMANDS:
        module_name, summary = COMMANDS[argv[0]]
        with _no_silent_exit():
            module = importlib.import_module(module_name)
        sub = _Parser(
            prog=f"roga-domainbed {argv[0]}",
            description=inspect.cleandoc(module.__doc__ or summary),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        with _no_silent_exit():
            module.add_arguments(sub)
        for word in argv[1:]:
            if word.startswith("--") and word.endswith("=--"):  # argparse makes an empty list of it
                raise RogaError(f"{word}: -- is no value")
        args = sub.parse_args(argv[1:])
        if argv[0] != "upstream":  # whose arguments are DomainBed's
            _require_no_empty(args)
        with _no_silent_exit():
            return module.run(args)
    if not argv[0].startswith("-"):
        raise RogaError(unknown_name("command", argv[0], COMMANDS))
    _top_parser().parse_args(argv)
    return 2


def _require_no_empty(args: argparse.Namespace) -> None:
    """Refuse what is given and empty, as of a script's unset variable: '' is no path, name or number."""
    problems = Problems()
    for name, value in vars(args).items():
        if "" in (value if isinstance(value, list) else [value]):
            problems.add(f"{name} must not be empty")
    problems.check()


@contextlib.contextmanager
def _no_silent_exit() -> Iterator[None]:
    """Inside, a module of a plugin or a checkout cannot end the command as if it were done.

    Raises:
        Failed: it called ``sys.exit(0)``; it is named.
    """
    try:
        yield
    except SystemExit as error:
        if error.code not in (None, 0):
            raise
        caller = traceback.extract_tb(error.__traceback__)[-1]
        raise Failed(
            f"{caller.filename}, line {caller.lineno}, ended the program before the command was done"
        ) from None


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
