"""Cheaper RoGA: what each variant costs and what it keeps, against full RoGA and against ERM given the same compute.

    python benchmarks/cheaper_roga.py --data_dir weak_trace --output_dir cheaper [--seeds 0 1 2 3 4] [--steps 1000]

On SynthFake without FS, meso4, images resident and not augmented. SynthFake is made in --data_dir with the trace that
all fakes share at 0.4 of its usual strength, as in the measurement of RESULTS.md. That one used version 1 of
SynthFake, whose trace at 1 left nothing to gain; version 2 has another trace, and its numbers differ. Every variant
trains for --steps. Its cost is the median over pairs of its step and ERM's steps just before it (whole cycles where
steps differ); ERM given the same compute trains for cost x steps. The left-out AUC is the one after the last step on
FS' test people; intervals are 95 % t intervals over seeds, differences are paired by seed. Writes cheaper_roga.md and
.json; what the .json already holds is not trained again.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from datasets_ext.synthfake.generate import generate
from datasets_ext.synthfake.manipulate import Strengths
from roga_domainbed.catalog import DATASETS
from roga_domainbed.input.environment import OpenDataset
from roga_domainbed.input.minibatches import seed_everything
from roga_domainbed.metrics.binary import auc
from roga_domainbed.processes import keep_freed_memory
from roga_domainbed.seeds import derive, generator
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.splits import split_environments
from roga_domainbed.upstream import bridge

LEFT_OUT = DATASETS.get("SynthFake").environments.index("FS")
TRACE, BATCH, RHO, PAIRS = 0.4, 16, 0.1, 15
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

    def __init__(self, host, data_dir):
        hparams = host.hparams_registry.default_hparams("RoGA", "SynthFake")
        dataset = OpenDataset(host.datasets.get_dataset_class("SynthFake")(data_dir, [LEFT_OUT], hparams))
        _, splits = split_environments(
            dataset, "official", [LEFT_OUT], 0, 0.2, 0, TrainConfig().training_options
        )
        parts = [
            images(environment, split.in_split) for environment, split in zip(dataset, splits, strict=True)
        ]
        self.test = parts.pop(LEFT_OUT)
        self.train = parts

    def minibatches(self, seed, step):
        """One (x, y) an environment: a function of the seed and the step, the same for every algorithm."""
        batches = []
        for env, (x, y) in enumerate(self.train):
            picks = generator(seed, "minibatch", step, env).integers(0, len(y), size=BATCH)
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


def costs(host, data):
    """Step of each variant over the ERM step before it, quartiles of ``PAIRS`` (whole cycles of ``roga_every``)."""
    erm = build(host, "ERM", {}, 0)
    algorithms = {label: build(host, "RoGA", hparams, 0) for label, hparams in VARIANTS.items()}
    batches = [data.minibatches(0, step) for step in range(8)]
    ratios = {label: [] for label in VARIANTS}

    def seconds(algorithm, n):
        start = time.perf_counter()
        for step in range(n):
            algorithm.update(batches[step % len(batches)])
        return time.perf_counter() - start

    for pair in range(PAIRS + 1):
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


def table(cost, auc_of, steps):
    lines = [
        "| RoGA | step, ERM = 1 | left-out AUC | − full RoGA | ERM's steps at that cost | its AUC | − that ERM |",
        "|---|---|---|---|---|---|---|",
    ]

    def shown(values, sign=""):
        mean, half = row(values)
        return f"{mean:{sign}.1f} ± {half:.1f}"

    last = str(steps)
    full = auc_of("full", last)
    for label in VARIANTS:
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


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, default=1000)
    args = parser.parse_args()
    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    path = folder / "cheaper_roga.json"
    done = {"steps": args.steps, "auc": {}}
    if path.exists():
        done = json.loads(path.read_text(encoding="utf-8"))
        if done["steps"] != args.steps:
            parser.error(f"{path} is of {done['steps']} steps: give another --output_dir")
    generate(args.data_dir, strengths=Strengths(trace=TRACE))
    host = bridge.register()
    data = Resident(host, args.data_dir)
    cost = costs(host, data)
    runs = {
        "ERM": ("ERM", {}, erm_measured(args.steps)),
        **{label: ("RoGA", {"rho": RHO, **hparams}, [args.steps]) for label, hparams in VARIANTS.items()},
    }
    for seed in args.seeds:
        for label, (name, hparams, at) in runs.items():
            key = f"{label}, seed {seed}"
            if key not in done["auc"]:
                done["auc"][key] = trained(host, data, name, hparams, seed, at)
                path.write_text(json.dumps(done, indent=1), encoding="utf-8")
                print(key, list(done["auc"][key].values())[-1], flush=True)

    def auc_of(label, step):
        return np.array([done["auc"][f"{label}, seed {seed}"][step] for seed in args.seeds])

    text = table(cost, auc_of, args.steps)
    print(text)
    (folder / "cheaper_roga.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
