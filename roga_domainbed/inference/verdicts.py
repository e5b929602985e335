"""From a probability of fake to a verdict: real, fake, or that there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from roga_domainbed.errors import RogaError
from roga_domainbed.inference.saved_run import SavedRun
from roga_domainbed.metrics.binary import accuracy
from roga_domainbed.metrics.split import SplitScores
from roga_domainbed.metrics.thresholds import EER, FPR_1, THRESHOLDS, error_shares
from roga_domainbed.metrics.video import video_scores
from roga_domainbed.trainer.calibration import Thresholds

FAKE, REAL, UNDECIDED = "fake", "real", "undecided"

#: Of a model without a calibration.
PLAIN_THRESHOLD = 0.5


@dataclass(frozen=True)
class Level:
    """How pictures and single frames, or videos, are judged.

    Attributes:
        threshold: what is above it is fake.
        other: what lies between the two is undecided; the threshold itself where everything is decided.
        in_words: the value, and what it was made on.
    """

    threshold: float
    other: float
    in_words: str

    def verdict(self, probability: float) -> str:
        """``FAKE``, ``REAL`` or ``UNDECIDED``."""
        if min(self.threshold, self.other) < probability <= max(self.threshold, self.other):
            return UNDECIDED
        return FAKE if probability > self.threshold else REAL


@dataclass(frozen=True)
class Verdicts:
    """How a model's probabilities are judged.

    Attributes:
        name: of the threshold, or the number.
        frames: for a picture, and for a frame.
        videos: for the mean of a video's frames.
        needs_agreement: whether a video is undecided where its frames disagree.
    """

    name: str
    frames: Level
    videos: Level
    needs_agreement: bool = False

    def in_words(self, with_videos: bool, with_frames: bool = True) -> tuple[str, ...]:
        """A phrase for each threshold that is used."""
        levels = [self.frames] * with_frames + [self.videos] * with_videos
        return tuple(dict.fromkeys(level.in_words for level in levels))

    def of_image(self, probability: float) -> str:
        """Of one face."""
        return self.frames.verdict(probability)

    def of_video(self, mean: float, probabilities: Sequence[float]) -> str:
        """Of the mean of a video's frames, and of the frames themselves."""
        verdict = self.videos.verdict(mean)
        if self.needs_agreement and verdict != UNDECIDED:
            n = sum((p > self.frames.threshold) == (verdict == FAKE) for p in probabilities)
            if 3 * n < 2 * len(probabilities):
                return UNDECIDED
        return verdict


def verdicts(run: SavedRun, asked: str | float | None) -> Verdicts:
    """How the probabilities of ``run`` are judged.

    Args:
        run: a detector; see ``detector.as_detector``.
        asked: a name in ``THRESHOLDS`` or a probability, which decides alone. None for the one at equal error, with
            verdicts that stay open; ``PLAIN_THRESHOLD`` if the model has no calibration.

    Raises:
        RogaError: a threshold by a name was asked for, and the model has no calibration.
    """
    known = run.calibration
    if asked is None and known is None:
        level = Level(
            PLAIN_THRESHOLD, PLAIN_THRESHOLD, f"{PLAIN_THRESHOLD:g}; the model has no calibrated threshold"
        )
        return Verdicts(f"{PLAIN_THRESHOLD:g}", level, level)
    if isinstance(asked, float):
        level = Level(asked, asked, f"{asked:g}, as asked for")
        return Verdicts(f"{asked:g}", level, level)
    if known is None:
        raise RogaError(
            f"--threshold {asked}: {str(run.path)!r} has no calibrated thresholds, which 'train' makes for models that "
            "tell real from fake, as of this version: train it again, or give a probability"
        )
    is_open = asked is None
    name = EER if is_open else asked
    where = ", ".join(known.environments)
    frames = _level(known.frames, name, "frames", where, is_open)
    videos = frames if known.videos is None else _level(known.videos, name, "videos", where, is_open)
    return Verdicts(name, frames, videos, needs_agreement=is_open)


def at_threshold(judged: Verdicts, scores: SplitScores, level: str) -> dict[str, float | None]:
    """The threshold of a level, ``frame`` or ``video``, and what happens at it: accuracy, false alarms, misses.

    A number is None where there are no samples that it could be of.
    """
    names = ("acc_at_threshold", "false_alarms", "misses")
    fake, labels = scores.fake, scores.labels
    threshold = judged.frames.threshold
    try:
        if level == "video":
            threshold = judged.videos.threshold
            known = [i for i, video in enumerate(scores.videos) if video is not None]
            fake, labels = video_scores(fake[known], labels[known], [scores.videos[i] for i in known])
        errors = accuracy(fake, labels, threshold=threshold), *error_shares(fake, labels, threshold)
    except ValueError:  # a video with both labels
        errors = None, None, None
    return {"threshold": threshold, **dict(zip(names, errors, strict=True))}


def _level(made: Thresholds, name: str, what: str, where: str, is_open: bool) -> Level:
    threshold = made.values[name]
    other = made.values[FPR_1] if is_open else threshold
    words = f"{threshold:.3f}, {THRESHOLDS[name]} on {made.n} validation {what} of {where}"
    if other != threshold:
        words += f"; undecided {'up' if other > threshold else 'down'} to {other:.3f}, {THRESHOLDS[FPR_1]}"
    return Level(threshold, other, words)
