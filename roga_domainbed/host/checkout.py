"""Tell a DomainBed checkout, a fork with another interface, and other folders apart, by reading their source."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

from roga_domainbed.errors import RogaError
from roga_domainbed.foreign import read_text

#: The signature that trainers call.
SUPPORTED_UPDATE = "update(self, minibatches, unlabeled=None)"


def is_checkout(home: Path) -> bool:
    """Whether ``home`` is the root of DomainBed or of a fork of it."""
    return bool(_algorithm_files(home))


def require_supported(home: Path) -> None:
    """Refuse a fork whose algorithms have another interface.

    Raises:
        RogaError: if ``Algorithm.update`` does not take ``(minibatches, unlabeled)``, or the source cannot be read.
    """
    found = _update_of_the_base_class(home)
    if found is None:
        return  # nothing contradicts the interface; a missing algorithm is an error when it is used
    arguments = found.args
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)][1:]
    required = len(names) - len(arguments.defaults)
    keywords_required = [d for d in arguments.kw_defaults if d is None]
    if names[:2] == ["minibatches", "unlabeled"] and required <= 2 and not keywords_required:
        return
    raise RogaError(
        f"{str(home)!r} is a fork of DomainBed whose algorithms have update({ast.unparse(arguments)}); "
        f"supported is DomainBed's own {SUPPORTED_UPDATE}. Set DOMAINBED_HOME to a checkout of "
        "facebookresearch/DomainBed, or unset it to use the embedded engine"
    )


def commit(home: Path) -> str | None:
    """The commit that is checked out; None if unknown, as in an unpacked archive."""
    return _git(home, "rev-parse", "HEAD")


def changes(home: Path) -> list[str] | None:
    """Files that differ from the commit, as ``git status --porcelain`` lists them; None if unknown."""
    listed = _git(home, "status", "--porcelain")
    return None if listed is None else listed.splitlines()


def _git(home: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(home), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _algorithm_files(home: Path) -> list[Path]:
    """The module ``domainbed.algorithms``, or the files of that package in forks that split it."""
    module = home / "domainbed" / "algorithms.py"
    if module.is_file():
        return [module]
    return sorted((home / "domainbed" / "algorithms").glob("*.py"))


def _update_of_the_base_class(home: Path) -> ast.FunctionDef | None:
    for path in _algorithm_files(home):
        try:
            tree = ast.parse(read_text(path))
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise RogaError(f"{str(path)!r} cannot be read as Python: {error}") from None
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name == "Algorithm":
                methods = {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}
                if "update" in methods:
                    return methods["update"]
    return None
