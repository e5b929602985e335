"""Real digits: the same job with DomainBed's own train script and with ours, on a checkout and on the engine.

    DOMAINBED_HOME=<checkout> python benchmarks/digits.py --idx FOLDER [--digits 70000] [--steps 300] [--seeds 0 1 2]

FOLDER holds MNIST's four idx files, under the names of the original (train-images-idx3-ubyte, ...) or with a dot
(train-images.idx3-ubyte, ...: the package mnist-dir ships them so). They are put where torchvision expects them,
so nothing is downloaded. With --digits N the first N are used, six sevenths of them from the training part:
evaluation, of every digit at the first and the last step, is most of the time on a CPU.

ERM on RotatedMNIST (test environment 0 degrees) and ColoredMNIST (test environment -90%), three ways:

    stock      the checkout's domainbed.scripts.train as it is, except that N_WORKERS, 8 processes for each of some
               15 loaders, is set to 0 in memory: the images are the same
    checkout   roga-domainbed train on the checkout's modules
    engine     roga-domainbed train on the embedded engine

Finished runs in --output_dir are kept, so an interrupted benchmark continues. Seeds give other digits to the
environments (stock, checkout), other splits, weights and minibatches: equality is up to seed noise. Exit status 1
if Welch's t test tells a mean from the stock mean with p < 0.01.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from scipy.stats import ttest_ind

TEST_ENV = {"RotatedMNIST": 0, "ColoredMNIST": 2}
ENVIRONMENTS = {"RotatedMNIST": 6, "ColoredMNIST": 3}
LR = 1e-3
WAYS = ("stock", "checkout", "engine")
_STOCK = """
import runpy, sys
from domainbed import datasets
datasets.MultipleDomainDataset.N_WORKERS = 0
sys.argv[0] = "domainbed.scripts.train"
runpy.run_module("domainbed.scripts.train", run_name="__main__")
"""


def place(source: Path, data_dir: Path, digits: int) -> None:
    """Write the first ``digits`` of MNIST as idx files into ``data_dir``/MNIST/raw."""
    raw = data_dir / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", digits * 6 // 7), ("t10k", digits - digits * 6 // 7)):
        for kind, header, size in (("images-idx3-ubyte", 16, 28 * 28), ("labels-idx1-ubyte", 8, 1)):
            names = [f"{part}-{kind}", f"{part}-{kind.replace('-idx', '.idx')}"]
            found = next((source / name for name in names if (source / name).is_file()), None)
            if found is None:
                raise SystemExit(f"no {' or '.join(names)} in {source}")
            content = found.read_bytes()
            shortened = content[:4] + count.to_bytes(4, "big") + content[8 : header + count * size]
            (raw / names[0]).write_bytes(shortened)


def train(way: str, dataset: str, seed: int, args: argparse.Namespace) -> dict:
    """Run one training unless its folder is finished, and return its last record."""
    folder = args.output_dir.resolve() / f"{way}-{dataset}-{seed}"
    if not (folder / "done").exists():
        hparams = json.dumps({"batch_size": args.batch_size, "lr": LR})
        arguments = [
            *("--data_dir", args.output_dir.resolve() / "data", "--dataset", dataset, "--algorithm", "ERM"),
            *("--test_envs", TEST_ENV[dataset], "--seed", seed, "--trial_seed", seed, "--hparams", hparams),
            *("--steps", args.steps, "--checkpoint_freq", args.steps, "--output_dir", folder),
            "--skip_model_save",
        ]
        arguments = [str(argument) for argument in arguments]
        home = os.environ["DOMAINBED_HOME"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
        if way == "stock":
            environment["PYTHONPATH"] = home
            command, cwd = [sys.executable, "-W", "ignore", "-c", _STOCK, *arguments], home
        else:
            command = [sys.executable, "-m", "roga_domainbed", "train", *arguments, "--n_workers", "0"]
            command, cwd = [*command, "--overwrite"], None
            if way == "engine":
                del environment["DOMAINBED_HOME"]
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{way}, {dataset}, seed {seed} failed:\n{done.stderr[-2000:]}")
    return json.loads((folder / "results.jsonl").read_text().splitlines()[-1])


def measured(record: dict, dataset: str) -> dict[str, float]:
    """Accuracy in %: of the held-out environment, and of the out-splits of the others."""
    test = TEST_ENV[dataset]
    others = [record[f"env{i}_out_acc"] for i in range(ENVIRONMENTS[dataset]) if i != test]
    return {
        "test environment": 100 * record[f"env{test}_in_acc"],
        "validation": 100 * statistics.mean(others),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--idx", type=Path, required=True, help="folder with MNIST's four idx files")
    parser.add_argument("--output_dir", type=Path, default=Path("digits_output"))
    parser.add_argument("--digits", type=int, default=70000)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    if "DOMAINBED_HOME" not in os.environ:
        parser.error("set DOMAINBED_HOME to a DomainBed checkout")
    if len(args.seeds) < 2:
        parser.error("--seeds: noise needs two at least")
    args.output_dir.mkdir(parents=True, exist_ok=True)
    place(args.idx, args.output_dir / "data", args.digits)

    values: dict[tuple[str, str, str], list[float]] = {}
    for seed in args.seeds:
        for dataset in TEST_ENV:
            for way in WAYS:
                record = train(way, dataset, seed, args)
                for name, value in measured(record, dataset).items():
                    values.setdefault((dataset, name, way), []).append(value)
                print(f"# seed {seed} {dataset} {way}: {measured(record, dataset)}", flush=True)

    print(
        f"\nERM, {args.steps} steps, minibatches of {args.batch_size}, lr {LR}, {args.digits} digits, seeds "
        f"{' '.join(map(str, args.seeds))}; accuracy in %, mean ± standard deviation\n"
    )
    titles = (
        "dataset",
        "accuracy on",
        "stock",
        "ours on the checkout",
        "difference",
        "ours on the engine",
        "difference",
    )
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    agree = True
    for dataset in TEST_ENV:
        for name in ("test environment", "validation"):
            runs = {way: values[dataset, name, way] for way in WAYS}
            shown = {w: f"{statistics.mean(v):.1f} ± {statistics.stdev(v):.1f}" for w, v in runs.items()}
            cells = [dataset, name, shown["stock"]]
            for way in WAYS[1:]:
                difference = statistics.mean(runs[way]) - statistics.mean(runs["stock"])
                p = ttest_ind(runs["stock"], runs[way], equal_var=False).pvalue
                differs = p < 0.01
                agree &= not differs
                note = ", MORE THAN SEED NOISE" if differs else ""
                cells += [shown[way], f"{difference:+.1f} (p = {p:.2f}){note}"]
            print("| " + " | ".join(cells) + " |")
    return 0 if agree else 1


if __name__ == "__main__":
    raise SystemExit(main())
