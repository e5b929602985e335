"""The journal of finished videos: a line each, appended as it finishes, so that a killed run resumes.

The first line has the options. The others have an outcome and the video's metadata, so that videos that are no longer
in the source (another part of the dataset, another disk) keep their rows in the manifest. The file stays beside the
crops: it is the only record of which frames were dropped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType

from datasets_ext.prepare.layout import Video
from datasets_ext.prepare.options import Options
from datasets_ext.prepare.outcome import Outcome
from roga_domainbed.errors import RogaError
from roga_domainbed.files import replacing

FILE = "prepare-journal.jsonl"

# What is kept of a video: everything but what is needed to make it again.
_KEPT = tuple(field.name for field in fields(Video) if field.name not in ("frames", "mask", "donor"))


class Journal:
    """The journal of the dataset in ``root``; use it as a context manager to append.

    Attributes:
        options: that the crops were made with.
        from_list: whether the dataset is exactly the videos of a list; others are removed.
        outcomes: key → the latest outcome.
        videos: key → the video; has every key of ``outcomes``.
    """

    def __init__(self, root: Path, options: Options, from_list: bool = False):
        self.path = root / FILE
        self.options = options
        self.from_list = from_list
        self.outcomes: dict[str, Outcome] = {}
        self.videos: dict[str, Video] = {}

    @classmethod
    def open(cls, root: Path, options: Options, from_list: bool = False) -> Journal:
        """The existing journal, or a new one.

        Raises:
            RogaError: the crops in ``root`` were made with other options, or from the other kind of source.
        """
        journal = cls(root, options, from_list)
        entries = _entries(journal.path)
        if entries:
            journal._compare(entries[0].get("options", {}))
            if entries[0].get("from_list", False) != from_list:
                way = "as distributed" if from_list else "from a list"
                raise RogaError(
                    f"{root} was prepared {way}: choose another --data_dir or another name, or start over with "
                    "--overwrite"
                )
        for entry in entries[1:]:
            video, outcome = _video(entry.pop("video", None)), _outcome(entry)
            if video is not None and outcome is not None:
                journal.videos[outcome.key] = video
                journal.outcomes[outcome.key] = outcome
        return journal

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
            for name in {**now, **before}
            if before.get(name) != now.get(name)
        ]
        if changed:
            raise RogaError(
                f"{self.path.parent} was prepared with other options ({'; '.join(changed)}): give the same options, "
                "choose another --data_dir, or start over with --overwrite"
            )


def environments(root: Path) -> set[str]:
    """The environments that have folders in the dataset in ``root``, whatever its options."""
    videos = (_video(entry.get("video")) for entry in _entries(root / FILE))
    return {env for video in videos if video is not None for env in video.envs}


def _entries(path: Path) -> list[dict]:
    lines: Iterable[bytes] = path.read_bytes().splitlines() if path.exists() else ()
    return [entry for entry in map(_parsed, lines) if entry]


def _line(item: dict) -> str:
    return json.dumps(item, sort_keys=True) + "\n"


def _parsed(line: bytes) -> dict | None:
    try:
        value = json.loads(line)
    except ValueError:  # cut short by a kill, or damaged: that video is prepared again
        return None
    return value if isinstance(value, dict) else None


def _video(entry: object) -> Video | None:
    if not isinstance(entry, dict) or set(entry) != set(_KEPT):
        return None
    return Video(**{**entry, "source": Path(entry["source"]), "envs": tuple(entry["envs"])})


def _outcome(entry: dict) -> Outcome | None:
    names = {field.name for field in fields(Outcome)}
    if not {"key", "folder"} <= set(entry) <= names:
        return None
    lists = {name: tuple(entry[name]) for name in ("planned", "written") if name in entry}
    dropped = tuple((index, reason) for index, reason in entry.get("dropped", ()))
    return Outcome(**{**entry, **lists, "dropped": dropped})
