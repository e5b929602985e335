"""The journal of finished videos: a line each, appended as it finishes, so that a killed run resumes.

The first line has the options. The others have an outcome and the video's metadata, so that videos that are no longer
in the source (another part of the dataset, another disk) keep their rows in the manifest. The file stays beside the
crops: it is the only record of which frames were dropped, and of which files are ours.

Its lines decide what is removed, so a line that is not as this module writes it counts for nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import Any

from datasets_ext import manifest
from datasets_ext.prepare.layout import Video
from datasets_ext.prepare.options import Options, completed
from datasets_ext.prepare.outcome import FRAME_REASONS, REASONS, Outcome
from roga_domainbed.errors import RogaError, shortened
from roga_domainbed.files import replacing
from roga_domainbed.foreign import read_bytes

FILE = "prepare-journal.jsonl"

# What is kept of a video: everything but what is needed to make it again.
_LARGEST = 2**31  # bytes; all of DFDC takes 0.1 GB
_KEPT = tuple(field.name for field in fields(Video) if field.name not in ("frames", "mask", "donor"))


class Journal:
    """The journal of the dataset in ``root``; use it as a context manager to append.

    Attributes:
        options: that the crops were made with.
        from_list: whether the dataset is exactly the videos of a list; others are removed.
        damaged: numbers of the lines that cannot be used; a last line that a kill cut short is none of them.
        outcomes: key → the latest outcome.
        videos: key → the video; has every key of ``outcomes``.
    """

    def __init__(self, root: Path, options: Options, from_list: bool = False):
        self.path = root / FILE
        self.options = options
        self.from_list = from_list
        self.damaged: list[int] = []
        self.outcomes: dict[str, Outcome] = {}
        self.videos: dict[str, Video] = {}

    @classmethod
    def open(cls, root: Path, options: Options, from_list: bool = False) -> Journal:
        """The existing journal, or a new one.

        Raises:
            RogaError: the crops in ``root`` were made with other options, or from the other kind of source; or the
                first line is damaged, so that this is not known.
            OSError: it cannot be read.
        """
        journal = cls(root, options, from_list)
        journal._read()
        if journal._head is None:
            return journal
        before = journal._head.get("options")
        if not isinstance(before, dict):
            raise RogaError(
                f"{journal.path}: line 1 is damaged, so it is not known with which options {root} was prepared: "
                "start over with --overwrite"
            )
        journal._compare(completed(before))
        if journal._head.get("from_list", False) != from_list:
            way = "as distributed" if from_list else "from a list"
            raise RogaError(
                f"{root} was prepared {way}: choose another --data_dir or another name, or start over with --overwrite"
            )
        return journal

    @classmethod
    def of_any_options(cls, root: Path) -> Journal:
        """The existing journal, to see which files were made; not to be appended to."""
        journal = cls(root, Options())
        journal._read()
        return journal

    def made(self) -> dict[str, Outcome]:
        """Folder of a video → its outcome, in every environment of every video."""
        return {
            f"{env}/{manifest.CLASS_FOLDERS[video.label]}/{video.name}": self.outcomes[key]
            for key, video in self.videos.items()
            if key in self.outcomes
            for env in video.envs
        }

    def _read(self) -> None:
        self._head: dict[str, Any] | None = None  # None: there is no line
        content = read_bytes(self.path, _LARGEST) if self.path.exists() else b""
        lines = content.split(b"\n")
        for number, line in enumerate(lines, 1):
            if not line.strip() and (number > 1 or not content.strip()):
                continue
            try:
                entry = json.loads(line)  # not ``parse_json``: the name of a source need not be Unicode
                _require(isinstance(entry, dict))
                if number == 1:
                    self._head = entry
                    continue
                video = _video(entry.pop("video", None))
                outcome = _outcome(entry, video)
            except (ValueError, TypeError, RecursionError):
                if number == 1:
                    self._head = {}
                elif number < len(lines):
                    self.damaged.append(number)
                continue
            self.videos[outcome.key] = video
            self.outcomes[outcome.key] = outcome

    def notes(self) -> list[str]:
        """A sentence about damaged lines, if there are any."""
        if not self.damaged:
            return []
        many = len(self.damaged) > 1
        return [
            f"{FILE}: line{'s' if many else ''} {shortened(self.damaged, 6)} {'are' if many else 'is'} damaged; "
            "what they were about was prepared again"
        ]

    def __enter__(self) -> Journal:
        # Rewritten whole first: a line that a kill cut short would swallow the one appended after it.
        head = {"options": asdict(self.options), "from_list": self.from_list}
        lines = [head, *map(self._entry, self.outcomes.values())]
        with replacing(self.path) as partial:
            partial.write_text("".join(_line(item) for item in lines), encoding="utf-8")
        self._file = open(self.path, "a", encoding="utf-8")
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def add(self, outcome: Outcome) -> None:
        """Append ``outcome`` to the file before returning."""
        self.outcomes[outcome.key] = outcome
        self._file.write(_line(self._entry(outcome)))
        self._file.flush()

    def forget(self, key: str) -> None:
        """Remove the video with that key."""
        del self.outcomes[key], self.videos[key]

    def _entry(self, outcome: Outcome) -> dict:
        video = self.videos[outcome.key]
        return {
            **asdict(outcome),
            "video": {name: getattr(video, name) for name in _KEPT} | {"source": str(video.source)},
        }

    def _compare(self, before: dict) -> None:
        now = asdict(self.options)
        changed = [
            f"{name} was {before.get(name)!r}, now {now.get(name)!r}"
            for name in dict.fromkeys((*now, *before))
            if before.get(name) != now.get(name)
        ]
        if changed:
            raise RogaError(
                f"{self.path.parent} was prepared with other options ({'; '.join(changed)}): give the same options, "
                "choose another --data_dir, or start over with --overwrite"
            )


def _line(item: dict) -> str:
    return json.dumps(item, sort_keys=True) + "\n"


def _video(entry: Any) -> Video:
    """The video of a line; ``ValueError`` or ``TypeError`` if it is not as it was written."""
    _require(isinstance(entry, dict) and set(entry) == set(_KEPT))
    _require(all(_is_text(entry[name]) for name in _KEPT if name not in ("envs", "label", "source")))
    _require(isinstance(entry["source"], str) and isinstance(entry["envs"], list))
    _require(_is_whole_number(entry["label"]) and entry["label"] in (manifest.REAL, manifest.FAKE))
    names = [entry["name"], entry["group"], *entry["envs"]]
    _require(bool(entry["envs"]) and all(map(_is_name, names)))
    return Video(**{**entry, "source": Path(entry["source"]), "envs": tuple(entry["envs"])})


def _outcome(entry: dict[str, Any], video: Video) -> Outcome:
    """The outcome of a line; ``ValueError`` or ``TypeError`` if it is not as it was written, or not of ``video``."""
    _require({"key", "folder"} <= set(entry) <= set(_CHECKS))
    _require(all(_CHECKS[name](value) for name, value in entry.items()))
    outcome = Outcome(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}
        | {"dropped": tuple((index, reason) for index, reason in entry.get("dropped", ()))}
    )
    folders = {f"{env}/{manifest.CLASS_FOLDERS[video.label]}/{video.name}" for env in video.envs}
    _require(outcome.key == video.key and outcome.folder in folders)
    _require(len(outcome.scores) in (0, len(outcome.written)))
    return outcome


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError


def _is_name(value: Any) -> bool:
    return _is_text(value) and value not in ("", ".", "..") and not set(value) & set("/\0")


def _is_text(value: Any) -> bool:
    # A lone surrogate, which JSON may hold and a manifest may not, raises a ValueError.
    return isinstance(value, str) and bool(value.encode() or True)


def _is_whole_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_index(value: Any) -> bool:
    return _is_whole_number(value) and value < 2**31


def _each(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _is_dropped_frame(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and _is_index(value[0]) and value[1] in FRAME_REASONS


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "key": _is_text,
    "folder": _is_text,
    "source_bytes": _is_whole_number,
    "n_declared": _is_whole_number,
    "n_decoded": _is_whole_number,
    "planned": _each(_is_index),
    "written": _each(_is_index),
    "scores": _each(lambda value: isinstance(value, int | float) and not isinstance(value, bool)),
    "dropped": _each(_is_dropped_frame),
    "n_low": _is_whole_number,
    "reason": lambda value: value == "" or value in REASONS,
    "detail": _is_text,
    "suffix": lambda value: isinstance(value, str) and bool(re.fullmatch(r"\.[a-z]{3,4}", value)),
}
