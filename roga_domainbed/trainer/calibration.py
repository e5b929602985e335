"""What a probability of fake is worth, from the validation data of a run: thresholds with a meaning, a temperature.

Both are made from the scores of the out-splits of the training environments, which the model was not trained on.
Every sample counts once in each environment that has it: where environments share their reals, a real counts in each
of them, so that reals weigh as much as fakes. ``model.pkl`` keeps them as plain values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from roga_domainbed.input.classes import fake_class
from roga_domainbed.input.environment import OpenDataset
from roga_domainbed.metrics.thresholds import (
    EER,
    FPR_1,
    FPR_5,
    THRESHOLDS,
    equal_error_threshold,
    false_alarm_threshold,
)
from roga_domainbed.metrics.video import video_scores
from roga_domainbed.trainer.evaluation import EvaluatedSplit

#: The key in ``model.pkl``.
KEY = "model_calibration"

_LARGEST_TEMPERATURE = 100.0
_SMALLEST = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class Thresholds:
    """Thresholds on the scores of frames, or on those of videos; what is above one is called fake.

    Attributes:
        n_real: the number of reals that they are made on.
        n_fake: that of fakes.
        values: name in ``thresholds.THRESHOLDS`` → threshold, in [0, 1].
    """

    n_real: int
    n_fake: int
    values: Mapping[str, float]

    @property
    def n(self) -> int:
        """Of reals and fakes together."""
        return self.n_real + self.n_fake


@dataclass(frozen=True)
class Calibration:
    """What the validation data says of a model's probabilities of fake.

    Attributes:
        temperature: what the logits of a frame are divided by so that its probability is calibrated.
        environments: names of those whose validation data was used.
        frames: thresholds for a frame or a picture.
        videos: thresholds for the mean of a video's frames; None where videos are not known.
    """

    temperature: float
    environments: tuple[str, ...]
    frames: Thresholds
    videos: Thresholds | None

    def as_plain(self) -> dict[str, Any]:
        """As ``model.pkl`` keeps it."""
        levels = {"frames": self.frames, "videos": self.videos}
        return {
            "temperature": self.temperature,
            "environments": list(self.environments),
            **{
                level: {"n_real": found.n_real, "n_fake": found.n_fake, **found.values}
                for level, found in levels.items()
                if found is not None
            },
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Calibration:
        """Of what ``as_plain`` made, which has no ``faults``."""
        levels = {}
        for level in ("frames", "videos"):
            found = plain.get(level)
            levels[level] = found and Thresholds(
                found["n_real"], found["n_fake"], {name: float(found[name]) for name in THRESHOLDS}
            )
        return cls(float(plain["temperature"]), tuple(plain["environments"]), **levels)


def fake_of(dataset: OpenDataset) -> int | None:
    """The index of the class *fake* of a dataset of real and fake, by the names of its classes; None of another."""
    return None if dataset.class_names is None else fake_class(dataset.class_names)


def calibrate(validation: Sequence[EvaluatedSplit], fake: int) -> Calibration:
    """The calibration of the model whose scores these are.

    Args:
        validation: scored splits that it was not trained on.
        fake: index of the class *fake*, 0 or 1.

    Raises:
        ValueError: if there is one class only, or a score is not finite.
    """
    labels = np.concatenate([split.scores.labels for split in validation])
    labels = (labels == fake).astype(np.int64)
    probabilities = np.concatenate([split.scores.probabilities for split in validation])
    scores = probabilities[:, fake]
    videos = [
        None if video is None else f"{split.env}/{video}"
        for split in validation
        for video in split.scores.videos or [None] * len(split.scores.labels)
    ]
    frames = _thresholds(scores, labels)
    return Calibration(
        best_temperature(_logits(probabilities, fake), labels),
        tuple(split.env_name for split in validation),
        frames,
        _of_videos(scores, labels, videos),
    )


def best_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The T > 0 for which the mean log loss of sigmoid(``logits`` / T) is least, between 1/100 and 100.

    Guo et al., On Calibration of Modern Neural Networks (arXiv:1706.04599), section 4.2. Where every sample is on its
    side of 0, the loss has no minimum, as it falls while T goes to 0: T is 1 then, and nothing is changed.

    Args:
        logits: (N,) of fake against real.
        labels: (N,) 0 real, 1 fake.
    """
    from scipy.optimize import minimize_scalar

    margins = np.where(labels == 1, logits, -logits)
    if (margins >= 0).all():
        return 1.0
    # The loss is convex in 1 / T, so it has one minimum in log T, too.
    end = np.log(_LARGEST_TEMPERATURE)
    found = minimize_scalar(
        lambda log_t: np.logaddexp(0.0, -margins * np.exp(-log_t)).mean(),
        bounds=(-end, end),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def calibrated(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """(N,) calibrated probabilities of class 1.

    Args:
        probabilities: (N, 2) of the network.
        temperature: see ``best_temperature``.
    """
    return 1.0 / (1.0 + np.exp(-np.clip(_logits(probabilities, 1) / temperature, -700.0, 700.0)))


def _logits(probabilities: np.ndarray, fake: int) -> np.ndarray:
    """(N,) of fake against real; a probability that rounds to 0 has a large one, not an infinite one."""
    logs = np.log(np.maximum(probabilities, _SMALLEST, dtype=np.float64))
    return logs[:, fake] - logs[:, 1 - fake]


def _of_videos(scores: np.ndarray, labels: np.ndarray, videos: Sequence[str | None]) -> Thresholds | None:
    known = [i for i, video in enumerate(videos) if video is not None]
    try:
        return _thresholds(*video_scores(scores[known], labels[known], [videos[i] for i in known]))
    except ValueError:  # a video with both labels, or videos of one class alone
        return None


def _thresholds(scores: np.ndarray, labels: np.ndarray) -> Thresholds:
    values = {
        EER: equal_error_threshold(scores, labels),
        FPR_1: false_alarm_threshold(scores, labels, 1),
        FPR_5: false_alarm_threshold(scores, labels, 5),
    }
    n_fake = int(labels.sum())
    return Thresholds(len(labels) - n_fake, n_fake, values)
