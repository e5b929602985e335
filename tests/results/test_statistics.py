import numpy as np
import pytest
from scipy.stats import bootstrap, norm, rankdata, wilcoxon
from sklearn.metrics import roc_curve

from roga_domainbed.metrics import ACCURACY, get_metric
from roga_domainbed.report.comparison import verdicts
from roga_domainbed.results.statistics import (
    auc_interval,
    average_ranks,
    compare,
    holm,
    mean_interval,
    roc_intervals,
)


def test_holm_by_hand():
    # Sorted 0.01 0.02 0.03 0.5 times 4 3 2 1: 0.04 0.06 0.06 0.5; a smaller one may not follow a larger one.
    assert holm([0.5, 0.01, 0.03, 0.02]) == pytest.approx([0.5, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])


def test_a_comparison_is_over_the_pairs_both_have():
    rng = np.random.RandomState(0)
    keys = [("D", env, trial) for env in range(4) for trial in range(3)]
    base = dict(zip(keys, rng.rand(12), strict=True))
    better = {key: value + 0.01 + 0.02 * rng.rand() for key, value in base.items()}
    mixed = {
        key: value + sign
        for (key, value), sign in zip(list(base.items())[:6], [1, -1, 0, 1, -1, 0], strict=True)
    }
    first, second = compare({"ERM": base, "A": better, "B": mixed}, "ERM")
    assert (first.wins, first.ties, first.losses, first.pairs) == (12, 0, 0, 12)
    gains = [better[key] - base[key] for key in keys]
    assert first.difference == pytest.approx(np.mean(gains))
    assert first.p_value == pytest.approx(2 * wilcoxon(gains).pvalue)
    assert first.interval[0] < np.mean(gains) < first.interval[1]
    assert (second.wins, second.ties, second.losses, second.pairs) == (2, 2, 2, 6)
    assert verdicts([first, second], "ERM", ACCURACY) == [
        "Better than ERM (p < 0.05): A.",
        "No significant difference from ERM (p >= 0.05): B.",
    ]
    assert verdicts([first], "ERM", get_metric("eer")) == ["Worse than ERM (p < 0.05): A."]


def test_no_common_pair_and_no_difference_are_answers():
    none, same = compare(
        {"ERM": {(0,): 0.5, (1,): 0.6}, "A": {(2,): 0.5}, "B": {(0,): 0.5, (1,): 0.6}}, "ERM"
    )
    assert none.pairs == 0
    assert np.isnan(none.p_value)
    assert (same.p_value, same.ties) == (1.0, 2)
    assert verdicts([none], "ERM", ACCURACY) == ["No pair in common with ERM: A."]


def test_average_ranks_share_ties_and_skip_incomplete_blocks():
    values = {"A": {0: 0.9, 1: 0.5, 2: 0.1}, "B": {0: 0.8, 1: 0.5}, "C": {0: 0.7, 1: 0.6}}
    assert average_ranks(values) == ({"A": 1.75, "B": 2.25, "C": 2.0}, 2)
    assert average_ranks(values, lower_is_better=True)[0] == {"A": 2.25, "B": 1.75, "C": 2.0}


def test_too_few_clusters_have_no_interval_and_equal_values_have_a_point():
    assert np.isnan(mean_interval([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1])).all()
    assert mean_interval([0.5, 0.5, 0.5]) == (0.5, 0.5)


def test_copies_of_a_video_do_not_shorten_its_interval():
    rng = np.random.RandomState(0)
    values = rng.rand(20)
    once = mean_interval(values)
    assert mean_interval(np.repeat(values, 30), np.repeat(np.arange(20), 30)) == pytest.approx(once)


def fast_auc(scores, labels):
    fakes = int(labels.sum())
    pairs = fakes * (len(labels) - fakes)
    return (rankdata(scores)[labels == 1].sum() - fakes * (fakes + 1) / 2) / pairs


@pytest.mark.parametrize("trials", [3, 5, 10, 30])
def test_the_interval_of_a_mean_covers_it_as_often_as_it_says(trials):
    covered = 0
    for seed in range(1000):
        low, high = mean_interval(
            np.random.RandomState(seed).randn(trials), resamples=500, seed=10_000 + seed
        )
        covered += low <= 0 <= high
    assert 920 <= covered <= 970


def test_the_interval_of_three_trials_is_students():
    # mean 2, standard deviation 1: 2 ± 4.302653 / √3
    assert mean_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-6)


def unequal_videos(seed, trials=1):
    rng = np.random.RandomState(seed)
    videos = np.repeat(np.arange(20), rng.randint(1, 6, 20))
    labels = videos % 2
    scores = np.round(rng.rand(len(videos), trials) + 0.3 * labels[:, None], 1)  # many ties
    return scores, labels, videos


def scipys_interval(scores, labels, videos):
    """The BCa interval of the mean AUC over trials, both classes of videos resampled; resamples one at a time."""

    def mean_auc(reals, fakes):
        rows = np.concatenate([np.flatnonzero(videos == video) for video in (*reals, *fakes)])
        return np.mean([fast_auc(trial[rows], labels[rows]) for trial in scores.T])

    classes = [np.unique(videos[labels == label]) for label in (0, 1)]
    options = {"method": "BCa", "n_resamples": 200, "batch": 1, "random_state": np.random.RandomState(0)}
    return tuple(bootstrap(classes, mean_auc, vectorized=False, **options).confidence_interval)


@pytest.mark.parametrize(("seed", "trials"), [(0, 1), (1, 1), (0, 3)])
def test_the_interval_of_a_mean_auc_over_trials_is_scipys_over_videos(seed, trials):
    scores, labels, videos = unequal_videos(seed, trials)
    got = auc_interval(scores, labels, videos, resamples=200)
    assert got == pytest.approx(scipys_interval(scores, labels, videos), abs=1e-12)


@pytest.mark.parametrize("seed", [0, 1])
def test_auc_and_eer_of_one_set_of_resamples_are_those_of_scikit_learn(seed):
    scores, labels, videos = unequal_videos(seed, 1)
    scores = scores.ravel()
    got = roc_intervals(scores, labels, videos, resamples=200)
    assert got["auc"] == pytest.approx(auc_interval(scores, labels, videos, resamples=200), abs=1e-12)
    frames = [np.flatnonzero(np.asarray(videos) == key) for key in np.unique(videos)]
    of_label = [[own for own in frames if labels[own[0]] == label] for label in (0, 1)]
    rng, eers = np.random.RandomState(0), []
    for _ in range(200):
        drawn = np.concatenate([own[k] for own in of_label for k in rng.randint(0, len(own), len(own))])
        fpr, tpr, _ = roc_curve(labels[drawn], scores[drawn], drop_intermediate=False)
        eers.append(np.interp(0, fpr + tpr - 1, fpr))
    assert got["eer"] == pytest.approx(np.quantile(eers, [0.025, 0.975]), abs=1e-12)


def test_an_interval_of_an_auc_needs_two_videos_of_each_class():
    with pytest.raises(ValueError, match="1 real and 2 fake videos"):
        auc_interval([0.1, 0.2, 0.3], [0, 1, 1], ["a", "b", "c"])
    with pytest.raises(ValueError, match="1 real and 2 fake videos"):
        roc_intervals([0.1, 0.2, 0.3], [0, 1, 1], ["a", "b", "c"])


@pytest.mark.slow
def test_the_interval_of_an_auc_clustered_by_video_covers_it_as_often_as_it_says():
    n, frames, runs, covered = 30, 4, 400, 0
    videos, labels = np.repeat(np.arange(2 * n), frames), np.repeat([0, 1], n * frames)
    truth = norm.cdf(1.5 / np.sqrt(2 * (1 + 0.7**2)))
    for seed in range(runs):
        rng = np.random.RandomState(seed)
        scores = rng.randn(2 * n)[videos] + 1.5 * labels + 0.7 * rng.randn(2 * n * frames)
        low, high = auc_interval(scores, labels, videos, resamples=300, seed=10_000 + seed)
        covered += low <= truth <= high
    assert 0.92 <= covered / runs <= 0.97
