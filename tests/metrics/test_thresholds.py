"""Thresholds: cases worked by hand, and the curve of scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from roga_domainbed.metrics.thresholds import equal_error_threshold, error_shares, false_alarm_threshold

REALS, FAKES = [0.1, 0.2, 0.3, 0.6], [0.4, 0.7, 0.8, 0.9]


def labelled(reals, fakes):
    return np.array([*reals, *fakes]), np.array([0] * len(reals) + [1] * len(fakes))


def test_at_equal_error_one_real_in_four_is_called_fake_and_one_fake_in_four_is_missed():
    scores, labels = labelled(REALS, FAKES)
    assert equal_error_threshold(scores, labels) == pytest.approx(0.5), "midway between 0.4 and 0.6"
    assert error_shares(scores, labels, 0.5) == (0.25, 0.25)


def test_classes_that_are_apart_have_one_threshold_in_the_middle():
    scores, labels = labelled([0.1, 0.2], [0.8, 0.9])
    thresholds = {equal_error_threshold(scores, labels), false_alarm_threshold(scores, labels, 1)}
    assert thresholds == {0.5}


def test_no_real_may_be_called_fake_where_one_would_be_more_than_was_asked_for():
    scores, labels = labelled(REALS, FAKES)
    assert false_alarm_threshold(scores, labels, 24) == pytest.approx(0.65)
    assert false_alarm_threshold(scores, labels, 25) == pytest.approx(0.35), (
        "one in four, and all fakes found"
    )
    assert error_shares(scores, labels, 0.65) == (0.0, 0.25)


def test_a_score_on_the_threshold_is_real():
    scores, labels = labelled([0.5], [0.5])
    assert error_shares(scores, labels, 0.5) == (0.0, 1.0)
    assert false_alarm_threshold(scores, labels, 1) == 0.5
    assert equal_error_threshold(scores, labels) == 0.5


def test_neighbouring_floats_have_the_lower_one_between_them():
    low = 0.5
    high = np.nextafter(low, 1)
    scores, labels = labelled([low], [high])
    assert equal_error_threshold(scores, labels) == low
    assert error_shares(scores, labels, low) == (0.0, 0.0)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("decimals", [1, 2, 12])
def test_errors_are_those_of_the_points_of_scikit_learns_curve(seed, decimals):
    rng = np.random.RandomState(seed)
    n_real, n_fake = rng.randint(3, 400, 2)
    scores, labels = labelled(rng.beta(2, 3, n_real).round(decimals), rng.beta(3, 2, n_fake).round(decimals))
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    for percent in (1, 5, 20):
        false_alarms, misses = error_shares(scores, labels, false_alarm_threshold(scores, labels, percent))
        assert false_alarms <= percent / 100
        assert 1 - misses == pytest.approx(tpr[fpr <= percent / 100].max()), "as many fakes as can be found"
    false_alarms, misses = error_shares(scores, labels, equal_error_threshold(scores, labels))
    assert abs(false_alarms - misses) == pytest.approx(np.abs(fpr - (1 - tpr)).min())


def test_one_class_has_no_threshold_and_half_of_the_shares():
    with pytest.raises(ValueError, match="only fakes among 2 samples"):
        equal_error_threshold([0.1, 0.9], [1, 1])
    with pytest.raises(ValueError, match="1 of 2 scores are not finite"):
        false_alarm_threshold([0.1, np.nan], [0, 1], 1)
    assert error_shares([0.1, 0.9], [1, 1], 0.5) == (None, 0.5)
    assert error_shares([0.1, 0.2, 0.9], [0, 0, 0], 0.5) == (pytest.approx(1 / 3), None)
