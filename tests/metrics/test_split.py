"""The record values of one split, against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn import metrics as sk

from roga_domainbed.metrics import METRICS
from roga_domainbed.metrics.multiclass import macro_auc
from roga_domainbed.metrics.split import SplitScores, split_metrics

BINARY = [metric.name for metric in METRICS if not metric.many_classes]


def binary(labels, fake, videos=None):
    fake = np.asarray(fake, dtype=float)
    predicted = (fake > 0.5).astype(int)
    return SplitScores(np.asarray(labels), predicted, np.stack([1 - fake, fake], 1), range(len(fake)), videos)


def test_a_binary_split_has_every_metric_of_frames_and_of_videos():
    rng = np.random.RandomState(0)
    labels = np.arange(40) % 2
    fake = np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1)
    videos = [f"env/{label}/{i // 8}" for i, label in enumerate(labels)]
    found = split_metrics(binary(labels, fake, videos))
    assert found.values.keys() == {*BINARY, *(f"video_{name}" for name in BINARY), "n", "video_n"}
    assert found.why_null == {}
    # Ten videos, five of each label, of four frames each.
    keys = sorted(set(videos))
    means = [np.mean([f for f, v in zip(fake, videos, strict=True) if v == key]) for key in keys]
    of_video = [int(key.split("/")[1]) for key in keys]
    for level, y, p in (("", labels, fake), ("video_", of_video, np.array(means))):
        oracle = {
            "n": len(y),
            "acc": sk.accuracy_score(y, p > 0.5),
            "balanced_acc": sk.balanced_accuracy_score(y, p > 0.5),
            "auc": sk.roc_auc_score(y, p),
            "ap": sk.average_precision_score(y, p),
            "log_loss": sk.log_loss(y, p),
        }
        for name, value in oracle.items():
            assert found.values[level + name] == pytest.approx(value, abs=1e-12), level + name


def test_a_split_of_one_class_has_accuracy_and_calibration_and_says_why_it_has_no_more():
    found = split_metrics(binary([1, 1, 1], [0.9, 0.2, 0.6], ["a", "a", "b"]))
    has_value = {name for name, value in found.values.items() if value is not None}
    one_class = {"acc", "log_loss", "ece"}
    assert has_value == {"n", "video_n", *one_class, *(f"video_{name}" for name in one_class)}
    assert found.values["acc"] == pytest.approx(2 / 3)
    assert found.values["video_acc"] == 1.0, "(0.9 + 0.2) / 2 = 0.55"
    assert found.why_null["auc"] == "only fakes among 3 samples: both classes are needed"
    assert found.why_null["video_eer"] == "only fakes among 2 samples: both classes are needed"
    assert found.why_null.keys() == found.values.keys() - has_value


def test_a_video_with_frames_of_both_labels_costs_the_video_level_alone():
    found = split_metrics(binary([0, 1], [0.1, 0.9], ["same", "same"]))
    assert found.values["auc"] == 1.0
    assert found.values["video_auc"] is None
    assert "'same' has frames of both labels" in found.why_null["video_auc"]


def test_scores_that_are_no_numbers_leave_accuracy_alone():
    found = split_metrics(binary([0, 1], [0.1, float("nan")]))
    assert found.values["acc"] == 0.5
    assert found.why_null["auc"] == "1 of 2 scores are not finite"


def test_more_than_two_classes_have_accuracy_and_macro_auc():
    probabilities = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [0.5, 0.1, 0.4], [0.1, 0.2, 0.7]])
    labels = np.array([0, 1, 2, 2])
    found = split_metrics(SplitScores(labels, probabilities.argmax(1), probabilities, range(4)))
    assert found.values.keys() == {"n", "acc", "macro_auc"}
    assert found.values["acc"] == 0.75
    expected = sk.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert found.values["macro_auc"] == pytest.approx(expected, abs=1e-12)


def test_a_class_that_does_not_occur_leaves_macro_auc_null_with_its_reason():
    probabilities = np.full((2, 3), 1 / 3, dtype=np.float32)
    found = split_metrics(SplitScores(np.array([0, 2]), np.zeros(2, int), probabilities, range(2)))
    assert found.values["macro_auc"] is None
    assert "classes [1] do not occur" in found.why_null["macro_auc"]


def test_macro_auc_refuses_what_is_no_number():
    scores = np.array([[0.1, 0.2], [np.nan, 0.2]])
    with pytest.raises(ValueError, match="1 of 4 scores are not finite"):
        macro_auc(scores, [0, 1])
