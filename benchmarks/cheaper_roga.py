"""Cheaper RoGA: what each variant costs and what it keeps, against full RoGA and against ERM given the same compute.

    python benchmarks/cheaper_roga.py --data_dir weak_trace --output_dir cheaper [--seeds 0 1 2 3 4] [--steps 1000]

On SynthFake, one environment left out at a time, meso4, images resident and not augmented. SynthFake is made in
--data_dir with the trace that all fakes share at --trace of its usual strength: at 1 ERM soon knows the environment
left out, which leaves nothing to gain. Every variant trains for --steps. Its cost is the median over pairs of its step
and ERM's steps just before it (whole cycles where steps differ); ERM given the same compute has cost x steps of them.
The left-out AUC is that after the last step on the test people of the environment left out, averaged over --test_envs,
so one value a seed; intervals are 95 % t intervals over seeds, differences are paired by seed. Writes cheaper_roga.md,
.png and .json; what the .json holds already is not trained again.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import matplotlib
import numpy as np
import torch
from scipy import stats

from datasets_ext.synthfake.generate import generate
from datasets_ext.synthfake.manipulate import Strengths
from roga_domainbed.catalog import DATASETS
from roga_domainbed.input.minibatches import seed_everything
from roga_domainbed.metrics.binary import auc
from roga_domainbed.processes import keep_freed_memory
from roga_domainbed.seeds import derive, generator
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.splits import split_environments
from roga_domainbed.upstream import bridge

matplotlib.use("Agg")

NAMES = DATASETS.get("SynthFake").environments
#: label → hparams of RoGA; the first is the paper's.
VARIANTS = {
    "full": {},
    "every 2": {"roga_every": 2},
    "every 5": {"roga_every": 5},
    "fraction 1/2": {"roga_ascent_fraction": 0.5},
    "fraction 1/4": {"roga_ascent_fraction": 0.25},
}

#: ERM is evaluated every so many steps, up to so many times --steps.
EVERY, ERM_LONGER = 15, 2.4


def build(host, name, hparams, seed):
    seed_everything(derive(seed, "weights"))
    defaults = host.hparams_registry.default_hparams(name, "SynthFake")
    size = defaults["image_size"]
    return host.algorithms.get_algorithm_class(name)((3, size, size), 2, 3, {**defaults, **hparams})


def images(environment, indices):
    """The images of ``indices`` as they are evaluated, and their labels."""
    pairs = [environment.evaluation[i] for i in indices]
    return torch.stack([x for x, _ in pairs]), torch.tensor([int(y) for _, y in pairs])


class Resident:
    """The training images of three environments and the test images of the one left out."""

    def __init__(self, host, data_dir, left_out, batch):
        hparams = host.hparams_registry.default_hparams("RoGA", "SynthFake")
        dataset = host.datasets.get_dataset_class("SynthFake")(data_dir, [left_out], hparams)
        _, splits = split_environments(
            dataset, "official", [left_out], 0, 0.2, 0, TrainConfig().training_options
        )
        self.batch = batch
        self.train = [images(dataset[i], splits[i].in_split) for i in range(len(NAMES)) if i != left_out]
        self.test = images(dataset[left_out], splits[left_out].in_split)

    def minibatches(self, seed, step):
        """One (x, y) an environment: a function of the seed and the step, the same for every algorithm."""
        batches = []
        for env, (x, y) in enumerate(self.train):
            picks = generator(seed, "minibatch", step, env).integers(0, len(y), size=self.batch)
            batches.append((x[picks], y[picks]))
        return batches

    @torch.inference_mode()
    def auc(self, algorithm):
        """On the test people of the environment left out."""
        algorithm.eval()
        x, y = self.test
        scores = torch.cat([algorithm.predict(part).softmax(1)[:, 1] for part in x.split(64)])
        algorithm.train()
        return auc(scores.double().numpy(), y.numpy())


def trained(host, data, name, hparams, seed, at):
    """Left-out AUC in percent after each of the numbers of steps ``at``."""
    algorithm = build(host, name, hparams, seed)
    found = {}
    for step in range(max(at)):
        seed_everything(derive(seed, "update", step))
        algorithm.update(data.minibatches(seed, step))
        if step + 1 in at:
            found[str(step + 1)] = 100 * data.auc(algorithm)
    return found


def costs(host, data, pairs):
    """Step of each variant over the ERM step before it, median of ``pairs`` (whole cycles of ``roga_every``)."""
    erm = build(host, "ERM", {}, 0)
    algorithms = {label: build(host, "RoGA", hparams, 0) for label, hparams in VARIANTS.items()}
    batches = [data.minibatches(0, step) for step in range(8)]
    ratios = {label: [] for label in VARIANTS}

    def seconds(algorithm, n):
        start = time.perf_counter()
        for step in range(n):
            algorithm.update(batches[step % len(batches)])
        return time.perf_counter() - start

    for pair in range(pairs + 1):
        for label, algorithm in algorithms.items():
            n = VARIANTS[label].get("roga_every", 1)
            n *= -(-4 // n)  # four steps at least: single ones are too short to time here
            ratio = seconds(algorithm, n) / seconds(erm, n)
            if pair:  # the first warms up
                ratios[label].append(ratio)
    return {label: statistics.quantiles(values, n=4) for label, values in ratios.items()}


def row(values):
    """(mean, half width of its 95 % interval) over seeds."""
    n = len(values)
    return np.mean(values), stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)


def erm_measured(steps):
    """The steps after which ERM's AUC is measured."""
    return range(EVERY, round(ERM_LONGER * steps) + 1, EVERY)


def erm_steps(cost, steps):
    """Those that are nearest to the compute of ``steps`` steps that cost as much."""
    return str(min(erm_measured(steps), key=lambda n: abs(n - cost * steps)))


def table(variants, cost, auc_of, steps):
    lines = [
        "| RoGA | step, ERM = 1 | left-out AUC | − full RoGA | ERM's steps at that cost | its AUC | − that ERM |",
        "|---|---|---|---|---|---|---|",
    ]

    def shown(values, sign=""):
        mean, half = row(values)
        return f"{mean:{sign}.1f} ± {half:.1f}"

    full, last = auc_of("full", str(steps)), str(steps)
    for label in variants:
        low, middle, high = cost[label]
        values, same = auc_of(label, last), auc_of("ERM", erm_steps(middle, steps))
        lines.append(
            f"| {label} | {middle:.2f} ({low:.2f} to {high:.2f}) | {shown(values)} | "
            f"{'' if label == 'full' else shown(values - full, '+')} | {erm_steps(middle, steps)} | "
            f"{shown(same)} | {shown(values - same, '+')} |"
        )
    alike = erm_steps(1, steps)
    erm = auc_of("ERM", alike)
    lines.append(f"| ERM, {alike} steps | 1 | {shown(erm)} | {shown(erm - full, '+')} | | | |")
    return "\n".join(lines)


def plot(path, variants, cost, auc_of, erm_at, steps):
    from matplotlib import pyplot as plt

    fig, ax = plt.subplots(figsize=(8, 5), constrained_layout=True)
    means, halves = zip(*(row(auc_of("ERM", n)) for n in erm_at), strict=True)
    x = np.array([int(n) for n in erm_at]) / steps
    ax.plot(x, means, color="0.45", lw=1, label="ERM, more steps")
    ax.fill_between(x, np.subtract(means, halves), np.add(means, halves), color="0.45", alpha=0.15, lw=0)
    points = sorted((cost[label][1], *row(auc_of(label, str(steps))), label) for label in variants)
    best = -np.inf
    front = []
    for c, mean, _, _ in points:
        if mean > best:
            best = mean
            front.append((c, mean))
    ax.plot(*zip(*front, strict=True), color="C0", lw=1, ls="--", label="RoGA, best up to that cost")
    for number, (c, mean, half, label) in enumerate(points, start=1):
        ax.errorbar(c, mean, half, fmt="o", ms=5, capsize=2, lw=1, color="C3" if label == "full" else "C0")
        ax.annotate(str(number), (c, mean), xytext=(5, 4), textcoords="offset points", fontsize=9)
    legend = "\n".join(f"{number}  {label}" for number, (_, _, _, label) in enumerate(points, start=1))
    ax.text(1.02, 0.98, legend, transform=ax.transAxes, va="top", fontsize=9)
    ax.set_xlabel("cost of the run, ERM's steps = 1")
    ax.set_ylabel("left-out AUC, %  (95 % interval over seeds)")
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 0.3), frameon=False, fontsize=9)
    ax.grid(alpha=0.25)
    fig.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--trace", type=float, default=0.4, help="strength of what all fakes share")
    parser.add_argument("--batch_size", type=int, default=16, help="of each environment")
    parser.add_argument("--rho", type=float, default=0.1, help="of RoGA")
    parser.add_argument("--pairs", type=int, default=9, help="pairs of timings")
    parser.add_argument("--test_envs", type=int, nargs="+", default=[2], help="left out one at a time")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--only", choices=("cost", "auc"), help="measure that alone, the other one later")
    args = parser.parse_args()
    variants = ["full", *(label for label in VARIANTS if label in args.variants and label != "full")]
    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    path = folder / "cheaper_roga.json"
    settings = {"steps": args.steps, "batch_size": args.batch_size, "rho": args.rho, "trace": args.trace}
    done = {"settings": settings, "cost": {}, "auc": {}}
    if path.exists():
        done = json.loads(path.read_text(encoding="utf-8"))
        if done["settings"] != settings:
            parser.error(f"{path} holds figures of {done['settings']}: give another --output_dir")
    generate(args.data_dir, strengths=Strengths(trace=args.trace))
    host = bridge.register()
    left_out = {env: Resident(host, args.data_dir, env, args.batch_size) for env in args.test_envs}

    def save():
        path.write_text(json.dumps(done, indent=1), encoding="utf-8")

    if args.only != "auc":
        done["cost"] = costs(host, left_out[args.test_envs[0]], args.pairs)
        save()
    erm_at = erm_measured(args.steps)
    runs = {
        "ERM": ("ERM", {}, erm_at),
        **{label: ("RoGA", {"rho": args.rho, **VARIANTS[label]}, [args.steps]) for label in variants},
    }
    keys = [(seed, env) for seed in args.seeds for env in left_out]
    if args.only != "cost":
        for seed, env in keys:
            for label, (name, hparams, at) in runs.items():
                key = f"{label}, seed {seed}, without {NAMES[env]}"
                if key not in done["auc"]:
                    done["auc"][key] = trained(host, left_out[env], name, hparams, seed, at)
                    save()
                    print(key, list(done["auc"][key].values())[-1], flush=True)
    if not done["cost"] or not done["auc"]:
        return

    def auc_of(label, step):
        values = [done["auc"][f"{label}, seed {seed}, without {NAMES[env]}"][step] for seed, env in keys]
        return np.array(values).reshape(len(args.seeds), -1).mean(1)

    text = table(variants, done["cost"], auc_of, args.steps)
    print(text)
    (folder / "cheaper_roga.md").write_text(text + "\n", encoding="utf-8")
    plot(folder / "cheaper_roga.png", variants, done["cost"], auc_of, list(map(str, erm_at)), args.steps)


if __name__ == "__main__":
    main()
