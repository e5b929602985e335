"""Verdicts: what is fake, what is real, and what stays open."""

from dataclasses import dataclass

import numpy as np
import pytest

from roga_domainbed.errors import RogaError
from roga_domainbed.inference.verdicts import at_threshold, verdicts
from roga_domainbed.metrics.split import SplitScores
from roga_domainbed.metrics.thresholds import parsed_threshold
from roga_domainbed.trainer.calibration import Calibration, Thresholds


@dataclass
class Run:
    calibration: Calibration | None
    path: str = "model.pkl"


def made(eer=0.4, fpr=0.7, videos=None):
    frames = Thresholds(30, 20, {"eer": eer, "fpr=0.01": fpr, "fpr=0.05": 0.6})
    of_videos = videos and Thresholds(3, 2, {"eer": videos[0], "fpr=0.01": videos[1], "fpr=0.05": 0.5})
    return Run(Calibration(1.0, ("DF", "FS"), frames, of_videos))


@pytest.mark.parametrize(("eer", "fpr"), [(0.4, 0.7), (0.7, 0.4)])
def test_between_equal_error_and_one_percent_of_false_alarms_nothing_is_decided(eer, fpr):
    found = verdicts(made(eer, fpr), None)
    given = [0.39, 0.4, 0.41, 0.69, 0.7, 0.71]
    assert [found.of_image(p) for p in given] == ["real", "real", *["undecided"] * 3, "fake"]


@pytest.mark.parametrize(
    ("asked", "threshold"), [("eer", 0.4), ("fpr=0.01", 0.7), ("fpr=0.05", 0.6), (0.2, 0.2)]
)
def test_a_threshold_that_was_asked_for_decides_alone(asked, threshold):
    found = verdicts(made(), asked)
    assert [found.of_image(threshold + d) for d in (-0.01, 0.0, 0.01)] == ["real", "real", "fake"]
    assert found.of_video(threshold + 0.01, [1.0, 0.0, 0.0]) == "fake"


def test_videos_have_their_own_thresholds_and_those_of_frames_where_there_are_none():
    found = verdicts(made(videos=(0.3, 0.35)), None)
    assert (found.of_image(0.5), found.of_video(0.5, [0.5])) == ("undecided", "fake")
    assert found.videos.in_words == (
        "0.300, equal error on 5 validation videos of DF, FS; undecided up to 0.350, 1 % false alarms"
    )
    assert verdicts(made(), None).of_video(0.5, [0.5]) == "undecided"
    down = verdicts(made(0.7, 0.4), None).frames.in_words
    assert (
        down
        == "0.700, equal error on 50 validation frames of DF, FS; undecided down to 0.400, 1 % false alarms"
    )


@pytest.mark.parametrize(
    ("mean", "frames", "verdict"),
    [
        (0.8, [0.9, 0.9, 0.1], "fake"),  # two of three are above 0.4
        (0.8, [0.9, 0.9, 0.9, 0.1, 0.1], "undecided"),
        (0.1, [0.9, 0.1, 0.1], "real"),
        (0.1, [0.9, 0.9, 0.1, 0.1], "undecided"),
        (0.5, [0.5, 0.5, 0.5], "undecided"),
    ],
)
def test_a_video_whose_frames_disagree_stays_open(mean, frames, verdict):
    assert verdicts(made(), None).of_video(mean, frames) == verdict


def test_a_model_without_a_calibration_has_one_half():
    found = verdicts(Run(None), None)
    assert [found.of_image(p) for p in (0.5, 0.51)] == ["real", "fake"]
    assert found.of_video(0.6, [0.9, 0.4, 0.4]) == "fake"
    assert "the model has no calibrated threshold" in found.frames.in_words
    assert verdicts(Run(None), 0.3).of_image(0.4) == "fake"
    with pytest.raises(RogaError, match=r"--threshold eer: 'model\.pkl' has no calibrated thresholds"):
        verdicts(Run(None), "eer")


@pytest.mark.parametrize(
    ("text", "value"),
    [("eer", "eer"), ("fpr=0.010", "fpr=0.01"), ("fpr=0.05", "fpr=0.05"), ("0.3", 0.3), ("1", 1.0)],
)
def test_a_threshold_is_a_name_or_a_probability(text, value):
    assert parsed_threshold(text) == value


@pytest.mark.parametrize("text", ["fpr=0.02", "fpr=x", "fpr", "2", "-0.1", "nan", "inf", ""])
def test_what_is_neither_is_refused_with_what_there_is(text):
    with pytest.raises(
        ValueError, match=r"must be one of eer, fpr=0\.01, fpr=0\.05, or a probability from 0 to 1"
    ):
        parsed_threshold(text)


def test_errors_at_a_threshold_are_counted_for_frames_and_for_videos():
    fake = np.array([0.2, 0.8, 0.3, 0.9, 0.1])
    scores = SplitScores(
        np.array([0, 0, 1, 1, 1]),
        None,
        np.column_stack([1 - fake, fake]),
        range(5),
        ["a", "a", "b", "b", None],
    )
    found = verdicts(made(videos=(0.55, 0.6)), "eer")
    assert at_threshold(found, scores, "frame") == {
        "threshold": 0.4, "acc_at_threshold": 2 / 5, "false_alarms": 1 / 2, "misses": pytest.approx(2 / 3)
    }  # fmt: skip
    assert at_threshold(found, scores, "video") == {
        "threshold": 0.55, "acc_at_threshold": 1.0, "false_alarms": 0.0, "misses": 0.0
    }  # fmt: skip
