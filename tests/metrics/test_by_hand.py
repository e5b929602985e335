import numpy as np
import pytest

from roga_domainbed.metrics import METRICS, Metric, get_metric, macro_auc
from roga_domainbed.metrics.binary import (
    accuracy,
    balanced_accuracy,
    ece,
    eer,
    eer_nearest,
    log_loss,
    tpr_at_fpr,
)
from roga_domainbed.metrics.split import SplitScores, split_metrics

BINARY = [metric.name for metric in METRICS if not metric.many_classes]


@pytest.mark.parametrize(
    ("scores", "labels", "nearest"),
    [
        ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], 0.0),
        # Points (0,0) and (1,1) only: |FNR − FPR| is 1 at both, the first is taken; interpolated it is 1/2.
        ([0.5, 0.5, 0.5, 0.5], [0, 0, 1, 1], 0.0),
        # Points (fpr, fnr) (0,1) (0,1/2) (1/3,1/2) (2/3,0) (1,0): the gaps are 1, 1/2, 1/6, 2/3, 1.
        ([0.9, 0.5, 0.7, 0.5, 0.1], [1, 1, 0, 0, 0], 1 / 3),
    ],
)
def test_the_nearest_point_convention_does_not_interpolate(scores, labels, nearest):
    assert eer_nearest(scores, labels) == pytest.approx(nearest)


def test_both_conventions_of_the_equal_error_rate_differ_on_small_sets():
    scores, labels = [0.9, 0.5, 0.7, 0.5, 0.1], [1, 1, 0, 0, 0]
    assert eer(scores, labels) == pytest.approx(0.4)
    assert eer_nearest(scores, labels) == pytest.approx(1 / 3)


def test_calibration_error_by_hand():
    # Confidences 0.9 0.9 0.6 0.6, of which right: both of the first, one of the last two.
    # With 5 bins, (0.8, 1]: |1 − 0.9|, (0.4, 0.6]: |0.5 − 0.6|; each holds half of the samples.
    assert ece([0.9, 0.1, 0.6, 0.4], [1, 0, 1, 1], bins=5) == pytest.approx(0.1)


def test_calibration_errors_of_opposite_sign_in_one_bin_cancel_and_in_two_do_not():
    # Confidence 0.7 wrong, 0.9 right: gaps −0.7 and +0.1. One bin: 0.6 / 2. Ten bins: (0.7 + 0.1) / 2.
    scores, labels = [0.7, 0.9], [0, 1]
    assert ece(scores, labels, bins=1) == pytest.approx(0.3)
    assert ece(scores, labels, bins=10) == pytest.approx(0.4)


def test_certain_and_right_is_calibrated():
    assert ece([0.0, 1.0], [0, 1]) == 0.0


def test_a_score_at_the_threshold_counts_as_real():
    assert accuracy([0.5, 0.5, 0.5], [0, 1, 1]) == pytest.approx(1 / 3)
    assert balanced_accuracy([0.5, 0.5, 0.5], [0, 1, 1]) == 0.5
    assert accuracy([0.4, 0.4], [1, 1], threshold=0.3) == 1.0


def test_a_certain_mistake_costs_36_nats():
    assert log_loss([0.0], [1]) == pytest.approx(36.04, abs=0.01)
    assert log_loss([0.5, 0.25], [1, 0]) == pytest.approx((np.log(2) - np.log(0.75)) / 2)


def test_few_reals_leave_no_false_alarm_at_a_small_rate():
    # Two fakes above every real: only those count while one of three reals is more than 1 %.
    assert tpr_at_fpr([0.9, 0.8, 0.7, 0.6, 0.1, 0.1], [1, 1, 0, 1, 0, 0], 0.01) == pytest.approx(2 / 3)
    assert tpr_at_fpr([0.9, 0.1], [0, 1], 0.01) == 0.0


@pytest.mark.parametrize("name", sorted(set(BINARY) - {"acc", "log_loss", "ece"}))
def test_one_class_alone_has_no_value_and_the_reason_is_said(name):
    with pytest.raises(ValueError, match="only fakes among 2 samples: both classes are needed"):
        METRICS.get(name).function([0.1, 0.2], [1, 1])


@pytest.mark.parametrize("name", BINARY)
def test_no_samples_and_scores_that_are_no_numbers_are_refused(name):
    with pytest.raises(ValueError, match="no samples among 0 samples"):
        METRICS.get(name).function([], [])
    with pytest.raises(ValueError, match="1 of 2 scores are not finite"):
        METRICS.get(name).function([0.1, float("nan")], [0, 1])


@pytest.mark.parametrize("metric", [log_loss, ece])
def test_what_is_no_probability_is_refused(metric):
    with pytest.raises(ValueError, match=r"1 of 2 scores are outside \[0, 1\]"):
        metric([0.5, 1.5], [0, 1])


def test_macro_auc_gives_every_class_the_same_weight():
    # Class 0 is ranked perfectly, classes 1 and 2 are constant: (1 + 1/2 + 1/2) / 3, whatever their sizes.
    scores = np.array([[0.9, 0.5, 0.5], [0.1, 0.5, 0.5], [0.1, 0.5, 0.5], [0.2, 0.5, 0.5]])
    assert macro_auc(scores, [0, 1, 2, 2]) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 1], r"classes \[2\] do not occur among 3 samples"),
        ([0, 1, 3], "labels must be classes 0 to 2"),
    ],
)
def test_macro_auc_refuses_what_it_cannot_answer(labels, message):
    with pytest.raises(ValueError, match=message):
        macro_auc(np.ones((3, 3)), labels)


def test_a_video_has_the_metric_of_its_frames_and_a_name_without_a_row_the_defaults():
    assert get_metric("video_eer").lower_is_better
    assert (get_metric("video_auc").title, get_metric("auc").title) == ("video AUC", "AUC")
    unknown = get_metric("my_metric")
    assert (unknown.title, unknown.unit, unknown.lower_is_better) == ("my_metric", "%", False)


def test_a_metric_that_is_added_is_measured():
    share = Metric("share", lambda scores, labels: float(np.mean(scores > 0.5)), "share of fakes")
    scores = np.array([0.9, 0.8, 0.1])
    with METRICS.temporarily(share):
        found = split_metrics(
            SplitScores(
                np.array([1, 1, 0]), scores > 0.5, np.stack([1 - scores, scores], 1), range(3), list("aab")
            )
        )
    assert (found.values["share"], found.values["video_share"]) == (pytest.approx(2 / 3), 0.5)
