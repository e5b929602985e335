"""Flags from the fields of a dataclass: name, type, default and help are said once, there."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from roga_domainbed.catalog.values import arguments_of
from roga_domainbed.errors import Problems


def add_arguments(
    parser: argparse._ActionsContainer,
    cls: type,
    names: Iterable[str] | None = None,
    *,
    over_preset: bool = False,
) -> None:
    """Add a flag for each field of ``cls`` that has a help text.

    Args:
        parser: where to.
        cls: a dataclass whose fields were made by ``catalog.values.argument``.
        names: these fields alone.
        over_preset: a flag that is not given is None instead of the default, so that a preset can fill it in; a
            boolean has a ``--no-`` form to override the preset with.
    """
    allowed = arguments_of(cls)
    for field in dataclasses.fields(cls):
        text = field.metadata.get("help")
        if text is None or (names is not None and field.name not in names):
            continue
        kind, default = allowed[field.name], _default(field)
        keywords: dict[str, Any] = {"default": None if over_preset else default}
        if kind.kind is bool:
            keywords["action"] = argparse.BooleanOptionalAction if over_preset else "store_true"
        else:
            keywords["type"] = kind.kind
            if kind.choices:
                keywords["metavar"] = "|".join(kind.choices)  # the check of the dataclass names a wrong one
            if kind.many:
                keywords["nargs"] = "+"
            if default is not None:
                shown = " ".join(map(str, default)) if kind.many else default
                text += f" (default: {shown})"
        parser.add_argument(f"--{field.name}", help=text.replace("%", "%%"), **keywords)


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def add_class_names(parser: argparse._ActionsContainer, what: str) -> None:
    """``--real`` and ``--fake``."""
    for name in ("real", "fake"):
        parser.add_argument(
            f"--{name}",
            action="append",
            default=[],
            metavar="NAME",
            help=f"{what} that is {name}, where its name does not say so (may be repeated)",
        )


def command_of(words: Sequence[str], args: argparse.Namespace, without: Collection[str] = ()) -> list[str]:
    """The command that says what ``args`` say: the words, then each flag that is not at its default.

    Args:
        words: behind the name of the program.
        args: with ``default_of``, its parser's ``get_default``.
        without: names that the words have already.
    """
    command = ["roga-domainbed", *words]
    for name, value in vars(args).items():
        if name in ("default_of", *without) or value == args.default_of(name):
            continue
        if value is True or value is False:
            command.append(f"--{name}" if value else f"--no-{name}")
        elif name in ("real", "fake"):
            command += [word for one in value for word in (f"--{name}", one)]
        else:
            command += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return command


def add_threshold(parser: argparse._ActionsContainer, default: str) -> None:
    """``--threshold``, which ``parsed_threshold`` reads."""
    parser.add_argument(
        "--threshold",
        metavar="T",
        help="what is above it is called fake: eer, fpr=0.01 or fpr=0.05, from the model's validation data, or a "
        f"probability (default: {default})",
    )


def parsed_threshold(text: str | None, problems: Problems) -> str | float | None:
    """A name that models keep a threshold by, a probability, or None where nothing was given."""
    from roga_domainbed.metrics import thresholds

    try:
        return None if text is None else thresholds.parsed_threshold(text)
    except ValueError as error:
        problems.add(f"--threshold {error}")
        return None
