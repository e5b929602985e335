"""``--identity``: who is in a picture, by a rule about its path."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePath

from roga_domainbed.errors import Problems

#: A path relative to the folder that is read → the person; None if the rule does not tell.
Rule = Callable[[PurePath], "str | None"]

HELP = (
    "who is in a picture: stem (every file is another person), folder, or a regular expression that matches the person "
    "in the file's name"
)


def identity_rule(text: str, problems: Problems) -> Rule:
    """The rule that ``text`` names: ``stem``, ``folder``, or a regular expression for the stem of the file's name.

    Of an expression with groups, the first one is the person. A plus sign, by which the manifest joins people, becomes
    a hyphen.
    """
    if text == "stem":
        return lambda path: _named("-".join(path.with_suffix("").parts))
    if text == "folder":
        return lambda path: _named("-".join(path.parent.parts))
    try:
        pattern = re.compile(text)
    except re.error as error:
        problems.add(f"--identity {text!r} is none of stem, folder, and no regular expression: {error}")
        return lambda path: None

    def matched(path: PurePath) -> str | None:
        match = pattern.search(path.stem)
        return match and _named(match[1] if pattern.groups else match[0])

    return matched


def _named(person: str | None) -> str | None:
    return person.replace("+", "-") if person else None
