"""Time collect-results on a full sweep: 204,000 records in 12,000 run folders, against upstream's own script.

    DOMAINBED_HOME=<checkout> python benchmarks/collect_scale.py --folder /tmp/full_sweep

20 algorithms × 20 hparams × 3 trials × 10 test environments (RotatedMNIST and PACS) × 17 records. Every program is
measured as a whole process: wall time, processor time (which other programs disturb less) and peak resident memory.
The text tables must be equal.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from roga_domainbed.catalog import ALGORITHMS, DATASETS

TEST_SETS = [
    (name, env) for name in ("RotatedMNIST", "PACS") for env in range(len(DATASETS.get(name).environments))
]
HPARAMS, TRIALS, CHECKPOINTS = 20, 3, 17


def write_sweep(folder, hparams=HPARAMS):
    """Records as a training writes them, with random accuracies; one folder a run."""
    rng = random.Random(0)
    folder.mkdir(parents=True)
    jobs = (
        (algorithm, seed, trial, dataset, env)
        for algorithm in ALGORITHMS.names()[:20]
        for seed in range(hparams)
        for trial in range(TRIALS)
        for dataset, env in TEST_SETS
    )
    for number, (algorithm, seed, trial, dataset, env) in enumerate(jobs):
        run = folder / f"{rng.getrandbits(128):032x}"
        run.mkdir()
        args = {
            "algorithm": algorithm, "checkpoint_freq": None, "data_dir": "/data/domainbed", "dataset": dataset,
            "holdout_fraction": 0.2, "hparams": None, "hparams_seed": seed, "output_dir": str(run),
            "save_model_every_checkpoint": False, "seed": number, "skip_model_save": False, "steps": None,
            "task": "domain_generalization", "test_envs": [env], "trial_seed": trial, "uda_holdout_fraction": 0,
        }  # fmt: skip
        draw = random.Random(f"{algorithm} {dataset} {seed} {trial}" if seed else f"{algorithm} {dataset}")
        hparams_used = {
            "batch_size": 32, "class_balanced": False, "data_augmentation": True, "lr": 10 ** draw.uniform(-5, -3.5),
            "nonlinear_classifier": False, "resnet18": False, "resnet50_augmix": True, "resnet_dropout": 0.1,
            "vit": False, "weight_decay": 10 ** draw.uniform(-6, -2),
        }  # fmt: skip
        with open(run / "results.jsonl", "w", encoding="ascii") as file:
            for checkpoint in range(CHECKPOINTS):
                record = {
                    f"env{i}_{split}_acc": rng.random()
                    for i in range(len(DATASETS.get(dataset).environments))
                    for split in ("in", "out")
                }
                record |= {
                    "args": args, "epoch": checkpoint * 7.19, "hparams": hparams_used, "loss": rng.random(),
                    "mem_gb": 6.25, "step": checkpoint * 300, "step_time": rng.random(),
                }  # fmt: skip
                file.write(json.dumps(record, sort_keys=True) + "\n")
        (run / "done").write_text("done")


def measure(command, cwd=None, env=None):
    """(standard output, wall seconds, processor seconds, peak MiB) of a whole process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    seconds = time.perf_counter() - start
    return output, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="made if it does not exist")
    parser.add_argument("--hparams", type=int, default=HPARAMS, help="hparams seeds; fewer for a small trial")
    parser.add_argument(
        "--runs", type=int, default=3, help="how often ours is timed; the table shows the median"
    )
    args = parser.parse_args()
    home = os.environ.get("DOMAINBED_HOME")
    if not home:
        sys.exit("set DOMAINBED_HOME to a DomainBed checkout: its collect_results is the yardstick")
    folder = args.folder.resolve()
    if not folder.exists():
        write_sweep(folder, args.hparams)
    ours = [sys.executable, "-m", "roga_domainbed", "collect-results", "--input_dir", str(folder)]
    ours += ["--compat", "upstream"]  # which prints tables of X, too
    theirs = [sys.executable, "-m", "domainbed.scripts.collect_results", "--input_dir", str(folder)]
    oracle, *upstream = measure(theirs, cwd=home)
    rows = [("upstream", *upstream)]
    taken = []
    for _ in range(args.runs):
        output, *cost = measure(ours)
        if output != oracle:
            sys.exit("the tables differ")
        taken.append(cost)
    rows.append(("ours", *sorted(taken)[len(taken) // 2]))
    print("| | wall, s | processor, s | peak, MiB | processor time, upstream = 1 | memory, upstream = 1 |")
    print("|---|---|---|---|---|---|")
    for name, wall, cpu, memory in rows:
        shares = f"{cpu / upstream[1]:.3f} | {memory / upstream[2]:.3f}"
        print(f"| {name} | {wall:.1f} | {cpu:.1f} | {memory:.0f} | {shares} |")


if __name__ == "__main__":
    main()
