"""Is leaving one environment of SynthFake out a real test? ERM trained on one environment, tested on all.

    python benchmarks/synthfake_transfer.py --data_dir data [--seeds 5] [--steps 800] [--workers 2]

Trains on each environment with the official split and default hyper-parameters, and prints the AUC on its own held-out
people (the out-split) and on the test people of the three others: mean and standard deviation over seeds, in percent.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from roga_domainbed.results.text_table import text_table

ENVIRONMENTS = ("DF", "F2F", "FS", "NT")


def train(source, seed, args, folder):
    others = [i for i in range(len(ENVIRONMENTS)) if i != source]
    command = [
        sys.executable,
        "-m",
        "roga_domainbed",
        "train",
        "--algorithm",
        "ERM",
        "--dataset",
        "SynthFake",
    ]
    command += ["--data_dir", args.data_dir, "--test_envs", *map(str, others), "--seed", str(seed)]
    command += ["--steps", str(args.steps), "--checkpoint_freq", str(args.steps), "--skip_model_save"]
    command += ["--output_dir", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    last = (folder / "results.jsonl").read_text().splitlines()[-1]
    record = json.loads(last)
    return [100 * record[f"env{i}_{'out' if i == source else 'in'}_auc"] for i in range(len(ENVIRONMENTS))]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    jobs = [(source, seed) for source in range(len(ENVIRONMENTS)) for seed in range(args.seeds)]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(args.workers) as pool:
        rows = list(pool.map(lambda job: train(*job, args, Path(folder) / f"{job[0]}-{job[1]}"), jobs))
    by_source = {
        s: [row for (source, _), row in zip(jobs, rows, strict=True) if source == s] for s, _ in jobs
    }
    print(f"AUC in %, ERM, {args.steps} steps, {args.seeds} seeds; [in-domain, held-out people]")
    table = [["trained on", *(f"on {name}" for name in ENVIRONMENTS)]]
    for source, name in enumerate(ENVIRONMENTS):
        columns = zip(*by_source[source], strict=True)
        cells = [f"{statistics.mean(values):.1f} ± {statistics.pstdev(values):.1f}" for values in columns]
        cells[source] = f"[{cells[source]}]"
        table.append([name, *cells])
    print(text_table(table), end="")
    inside = [row[s] for s in by_source for row in by_source[s]]
    outside = [row[i] for s in by_source for row in by_source[s] for i in range(len(ENVIRONMENTS)) if i != s]
    print(f"in-domain mean {statistics.mean(inside):.1f}, left-out mean {statistics.mean(outside):.1f}")


if __name__ == "__main__":
    main()
