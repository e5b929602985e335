"""What is finished: one line a video, appended as it comes, so that a killed run resumes where it stopped.

The first line holds the options. The file stays beside the crops, since it is the only record of which frames
were dropped.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType

from datasets_ext.prepare.clips import CropOptions, Outcome
from roga_domainbed.errors import RogaError

FILE = "prepare-journal.jsonl"


class Journal:
    """The journal of the dataset in ``root``; use it as a context manager to append.

    Attributes:
        options: what the crops were made with.
        outcomes: key → the latest outcome.
    """

    def __init__(self, root: Path, options: CropOptions):
        self.path = root / FILE
        self.options = options
        self.outcomes: dict[str, Outcome] = {}

    @classmethod
    def open(cls, root: Path, options: CropOptions) -> Journal:
        """The journal that is there, or a new one.

        Raises:
            RogaError: if the crops in ``root`` were made with other options.
        """
        journal = cls(root, options)
        lines = journal.path.read_text(encoding="utf-8").splitlines() if journal.path.exists() else []
        entries = [entry for entry in map(_parsed, lines) if entry]
        if entries:
            journal._compare(entries[0].get("options", {}))
        for entry in entries[1:]:
            outcome = _outcome(entry)
            if outcome is not None:
                journal.outcomes[outcome.key] = outcome
        return journal

    def __enter__(self) -> Journal:
        # Rewritten whole first: a line that a kill cut short would swallow the one appended after it.
        partial = self.path.with_suffix(".part")
        lines = [{"options": asdict(self.options)}, *map(asdict, self.outcomes.values())]
        partial.write_text("".join(_line(item) for item in lines), encoding="utf-8")
        os.replace(partial, self.path)
        self._file = open(self.path, "a", encoding="utf-8")
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def add(self, outcome: Outcome) -> None:
        """Keep ``outcome``, on disk before this returns."""
        self.outcomes[outcome.key] = outcome
        self._file.write(_line(asdict(outcome)))
        self._file.flush()

    def _compare(self, before: dict) -> None:
        now = asdict(self.options)
        changed = [
            f"{name} was {before.get(name)!r}, now {value!r}"
            for name, value in now.items()
            if before.get(name) != value
        ]
        if changed:
            raise RogaError(
                f"{self.path.parent} was prepared with other options ({'; '.join(changed)}): give the same, "
                "choose another --data_dir, or make it anew with --overwrite"
            )


def _line(item: dict) -> str:
    return json.dumps(item, sort_keys=True) + "\n"


def _parsed(line: str) -> dict | None:
    try:
        value = json.loads(line)
    except ValueError:  # cut short by a kill: that video is done again
        return None
    return value if isinstance(value, dict) else None


def _outcome(entry: dict) -> Outcome | None:
    names = {field.name for field in fields(Outcome)}
    if not {"key", "folder"} <= set(entry) <= names:
        return None
    lists = {name: tuple(entry[name]) for name in ("planned", "written") if name in entry}
    return Outcome(**{**entry, **lists})
