"""Every metric on 1,000 random cases: ties, constant scores, a single fake, a single real."""

import numpy as np
import pytest
from scipy.optimize import brentq
from sklearn import metrics as sk

from roga_domainbed.metrics import METRICS
from roga_domainbed.metrics.binary import tpr_at_fpr
from roga_domainbed.metrics.multiclass import macro_auc

BINARY = [metric.name for metric in METRICS if not metric.many_classes]


def case(seed):
    rng = np.random.RandomState(seed)
    n = rng.randint(2, 60)
    labels = rng.randint(0, 2, n)
    if seed % 5 == 0:  # one fake, or one real
        labels[:] = seed % 2
        labels[rng.randint(n)] = 1 - seed % 2
    else:
        labels[:2] = 0, 1
    scores = rng.rand(n)
    if seed % 3 == 1:
        scores = np.round(scores * 4) / 4  # ties, and certain zeros and ones
    if seed % 20 == 7:
        scores[:] = rng.choice([0.0, 0.25, 0.5, 1.0])
    return scores, labels


CASES = [case(seed) for seed in range(1000)]


def largest_tpr(scores, labels, max_fpr):
    accused = scores[:, None] >= np.append(np.unique(scores), np.inf)
    allowed = accused[labels == 0].mean(0) <= max_fpr
    return accused[labels == 1].mean(0)[allowed].max()


def equal_error_rate(scores, labels):
    fpr, tpr, _ = sk.roc_curve(labels, scores, drop_intermediate=False)
    at = np.arange(len(fpr))
    root = brentq(lambda t: np.interp(t, at, 1 - tpr - fpr), 0, at[-1], xtol=1e-13)
    return np.interp(root, at, fpr)


def nearest_equal_error_rate(scores, labels):
    fpr, tpr, _ = sk.roc_curve(labels, scores, pos_label=1)
    fnr = 1 - tpr
    return fpr[np.nanargmin(np.absolute(fnr - fpr))]


def calibration_error(scores, labels):
    total = 0.0
    for b in range(15):
        confidence, predicted = np.maximum(scores, 1 - scores), scores > 0.5
        inside = (confidence > b / 15 + 1e-12) & (confidence <= (b + 1) / 15 + 1e-12)
        if inside.any():
            total += inside.mean() * abs((predicted == labels)[inside].mean() - confidence[inside].mean())
    return total


ORACLES = {
    "acc": lambda scores, labels: sk.accuracy_score(labels, scores > 0.5),
    "balanced_acc": lambda scores, labels: sk.balanced_accuracy_score(labels, scores > 0.5),
    "auc": lambda scores, labels: sk.roc_auc_score(labels, scores),
    "ap": lambda scores, labels: sk.average_precision_score(labels, scores),
    "eer": equal_error_rate,
    "eer_nearest": nearest_equal_error_rate,
    "tpr_at_fpr_1pct": lambda scores, labels: largest_tpr(scores, labels, 0.01),
    "tpr_at_fpr_0_1pct": lambda scores, labels: largest_tpr(scores, labels, 0.001),
    "log_loss": lambda scores, labels: sk.log_loss(labels, scores),
    "ece": calibration_error,
}


@pytest.mark.parametrize("name", BINARY)
def test_a_metric_equals_its_oracle_on_a_thousand_cases(name):
    got = [METRICS.get(name).function(scores, labels) for scores, labels in CASES]
    expected = [ORACLES[name](scores, labels) for scores, labels in CASES]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("limit", [0.0, 0.1, 0.5, 1.0])
def test_the_rate_of_fakes_found_follows_the_allowed_rate_of_accused_reals(limit):
    got = [tpr_at_fpr(scores, labels, limit) for scores, labels in CASES[:100]]
    np.testing.assert_allclose(got, [largest_tpr(scores, labels, limit) for scores, labels in CASES[:100]])


def test_macro_auc_is_scikit_learns_one_against_the_rest():
    for seed in range(60):
        rng = np.random.RandomState(seed)
        classes = rng.randint(3, 8)
        labels = rng.permutation(np.r_[np.arange(classes), rng.randint(0, classes, 30)])
        scores = rng.randint(1, 6, (len(labels), classes)).astype(float)
        scores /= scores.sum(1, keepdims=True)
        expected = sk.roc_auc_score(labels, scores, multi_class="ovr", average="macro")
        assert macro_auc(scores, labels) == pytest.approx(expected, abs=1e-12)
