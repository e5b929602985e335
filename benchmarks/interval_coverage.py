"""Measure how often 95 % intervals cover the true value: of an AUC over videos, and of a mean over trials.

    python benchmarks/interval_coverage.py

The frames of a video are not independent. The true AUC of the simulated scores is known in closed form:
Φ(shift / √(2 (1 + 0.7²))). A 95 % interval should cover it in 92 to 97 % of the data sets. The last column treats every
frame as a video of its own, as is often done.
"""

import argparse

import numpy as np
from scipy.stats import norm

from roga_domainbed.results.statistics import auc_interval, mean_interval

WITHIN = 0.7  # standard deviation of frames within a video; that of videos is 1
SHAPES = [
    # reals, fakes, frames a video, shift between the classes
    (20, 20, 8, 1.5),
    (30, 30, 4, 1.5),
    (50, 100, 8, 0.8),
    (50, 100, 8, 1.5),
    (50, 100, 8, 2.5),
    (140, 140, 8, 1.5),
    (140, 560, 8, 2.5),
]


def coverage_of_auc(shape, runs, resamples, *, by_video=True):
    reals, fakes, frames, shift = shape
    video = np.repeat(np.arange(reals + fakes), frames)
    labels = (video >= reals).astype(int)
    truth = norm.cdf(shift / np.sqrt(2 * (1 + WITHIN**2)))
    covered = 0
    for seed in range(runs):
        rng = np.random.default_rng([*shape[:3], int(10 * shift), seed])
        own, noise = rng.standard_normal(reals + fakes), rng.standard_normal(len(video))
        scores = own[video] + shift * labels + WITHIN * noise
        clusters = video if by_video else np.arange(len(video))
        low, high = auc_interval(scores, labels, clusters, resamples=resamples, seed=10_000 + seed)
        covered += low <= truth <= high
    return truth, covered / runs


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000, help="simulated data sets a row")
    parser.add_argument("--resamples", type=int, default=1000)
    args = parser.parse_args()
    print("| real + fake videos | frames each | true AUC | covered, by video | covered, by frame |")
    print("|---|---|---|---|---|")
    for shape in SHAPES:
        truth, share = coverage_of_auc(shape, args.runs, args.resamples)
        naive = coverage_of_auc(shape, args.runs // 10, args.resamples // 4, by_video=False)[1]
        print(
            f"| {shape[0]} + {shape[1]} | {shape[2]} | {truth:.3f} | {share:.3f} | {naive:.2f} |", flush=True
        )
    print("\n| trials | covered |\n|---|---|")
    for trials in (3, 5, 6, 10, 30):
        covered = 0
        for seed in range(args.runs):
            values = np.random.default_rng([trials, seed]).standard_normal(trials)
            low, high = mean_interval(values, resamples=args.resamples, seed=10_000 + seed)
            covered += low <= 0 <= high
        print(f"| {trials} | {covered / args.runs:.3f} |", flush=True)


if __name__ == "__main__":
    main()
