import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from roga_domainbed.metrics.binary import auc, average_precision, eer
from roga_domainbed.metrics.video import video_scores


def test_auc_counts_pairs_and_half_of_the_ties():
    # Pairs (real, fake): (.1,.4) (.1,.3) (.3,.4) won, (.3,.3) tied: 3.5 of 4.
    assert auc([0.1, 0.3, 0.4, 0.3], [0, 0, 1, 1]) == 3.5 / 4


def test_average_precision_matches_a_computation_by_hand():
    # Ranked: fake, real, fake: precision 1 at recall 1/2, 2/3 at recall 1.
    assert average_precision([0.9, 0.8, 0.7], [1, 0, 1]) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


@pytest.mark.parametrize("seed", range(20))
def test_auc_and_average_precision_equal_scikit_learn(seed):
    rng = np.random.RandomState(seed)
    labels = np.r_[0, 1, rng.randint(0, 2, 30)]
    scores = rng.randint(0, 8, 32) / 8 if seed % 2 else rng.randn(32)
    assert auc(scores, labels) == roc_auc_score(labels, scores)
    assert average_precision(scores, labels) == average_precision_score(labels, scores)


def test_the_curve_of_the_same_scores_is_another_with_other_labels_and_the_same_with_labels_of_any_type():
    scores = [0.1, 0.2, 0.3, 0.4]
    assert auc(scores, [0, 0, 1, 1]) == 1
    assert auc(scores, [0, 1, 0, 1]) == 0.75  # three of four pairs
    assert auc(scores, np.array([False, True, False, True])) == 0.75
    assert auc(scores, np.array([0, 1, 0, 1], dtype=object)) == 0.75
    assert auc([0.4, 0.2, 0.3, 0.1], [0, 1, 0, 1]) == 0


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], 0.0),
        ([0.8, 0.9, 0.1, 0.2], [0, 0, 1, 1], 1.0),
        ([0.5, 0.5, 0.5, 0.5], [0, 0, 1, 1], 0.5),
        # ROC points (0,0) (0,1/2) (1/2,1/2) (1/2,1) (1,1): fnr = fpr = 1/2 is a point of the curve.
        ([0.9, 0.6, 0.7, 0.2], [1, 1, 0, 0], 0.5),
        # Points (0,1/2) (1/3,1/2) (2/3,1): on the last piece fnr = 1/2 − t/2 meets fpr = 1/3 + t/3 at t = 1/5.
        ([0.9, 0.5, 0.7, 0.5, 0.1], [1, 1, 0, 0, 0], 0.4),
    ],
)
def test_eer_interpolates_at_the_crossing(scores, labels, expected):
    assert eer(scores, labels) == pytest.approx(expected)


def test_metrics_do_not_depend_on_the_scale_of_the_scores():
    rng = np.random.RandomState(0)
    labels, scores = rng.randint(0, 2, 50), rng.randn(50)
    for metric in (auc, average_precision, eer):
        assert metric(scores, labels) == metric(2 * scores, labels) == metric(np.exp(scores), labels)


@pytest.mark.parametrize("metric", [auc, average_precision, eer])
@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([0.1, 0.2], [1, 1], "only fakes among 2 samples"),
        ([0.1, 0.2], [0, 0], "only reals among 2 samples"),
        ([], [], "no samples among 0 samples"),
        ([0.1, float("nan")], [0, 1], "1 of 2 scores are not finite"),
        ([0.1, 0.2], [0, 2], r"labels must be 0 \(real\) or 1 \(fake\); got \[0, 2\]"),
        ([0.1, 0.2, 0.3], [0, 1], "of one length"),
    ],
)
def test_metrics_refuse_what_they_cannot_answer(metric, scores, labels, message):
    with pytest.raises(ValueError, match=message):
        metric(scores, labels)


def test_video_scores_are_means_in_order_of_first_appearance():
    scores, labels = video_scores([0.2, 0.9, 0.4, 0.7], [0, 1, 0, 1], ["b", "a", "b", "a"])
    assert scores.tolist() == pytest.approx([0.3, 0.8])
    assert labels.tolist() == [0, 1]


def test_a_video_key_shared_by_both_classes_is_refused():
    with pytest.raises(ValueError, match="'000_003' has frames of both labels"):
        video_scores([0.2, 0.9], [0, 1], ["000_003", "000_003"])
