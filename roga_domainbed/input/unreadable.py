"""Images that cannot be decoded: all of them found and named, and left out of the splits where that is wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from roga_domainbed.errors import Problems, RogaError

#: How every data set of ours begins the sentence about such a file.
MARK = "cannot read the image"


def unreadable(dataset: Sequence[Any], splits: Sequence[Any]) -> Iterator[tuple[int, int, str]]:
    """(environment, index, what is wrong) of every sample of the splits that cannot be read.

    Each is decoded once, one after the other; where the data set keeps what it decodes, nothing is done twice.
    """
    for env, split in enumerate(splits):
        view = getattr(dataset[env], "evaluation", dataset[env])
        for index in sorted({index for _, part in split.named() for index in part}):
            try:
                view[index]
            except (RogaError, OSError, SyntaxError, ValueError) as error:  # the last three are Pillow's
                yield env, index, str(error).splitlines()[0]


def drop_unreadable(dataset: Sequence[Any], splits: Sequence[Any], names: Sequence[str]) -> list[str]:
    """Take what cannot be read out of ``splits``, in place; a sentence for each.

    Raises:
        RogaError: a split has nothing left.
    """
    found = list(unreadable(dataset, splits))
    gone: dict[int, set[int]] = {}
    for env, index, _ in found:
        gone.setdefault(env, set()).add(index)
    problems = Problems()
    for env, indices in gone.items():
        for name, part in splits[env].named():
            part[:] = [index for index in part if index not in indices]
            if not part:
                problems.add(f"no image of the {name}-split of environment {names[env]} can be read")
    problems.check()
    return [message for _, _, message in found]


def all_of_them(dataset: Sequence[Any], splits: Sequence[Any], first: RogaError) -> str:
    """The sentence for a run that met ``first``: how many there are, and which."""
    messages = [message for _, _, message in unreadable(dataset, splits)] or [str(first)]
    listed = "".join(f"\n  {message}" for message in messages)
    return f"{len(messages)} image{'s' * (len(messages) > 1)} cannot be read; --skip-unreadable trains without:{listed}"
