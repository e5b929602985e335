"""Which algorithms train, lower their loss, save and reload: one row each, with the reason where one does not.

    [DOMAINBED_HOME=<checkout>] python benchmarks/algorithm_table.py [--steps 20] [--algorithms NAME ...]

On a checkout: DomainBed's algorithms and ours; without one, those of the embedded engine. Each is trained with its
default hyper-parameters through the plugin's trainer on a small SynthFake (meso4 without dropout, 64 px, minibatches
of 8, lr and lr_g 0.001, test environment 3). The columns:

    trains    the run ends, with AUC, AP and EER in its records
    loss      cross-entropy of ``predict`` on fixed images, 32 of each training environment's in-split, for the weights
              the run started from and for the saved ones. In training mode: after 20 steps the running statistics
              of batch norm still hold their start. It is the same quantity for all, whatever an algorithm itself
              minimizes; "lower" compares the two
    saves     model.pkl is there and torch.load(..., weights_only=True) reads it
    reloads   the algorithm rebuilt from the file's own contents takes its state dict, and every metric of every split
              equals the last record's to the last digit
"""

import argparse
import contextlib
import copy
import io
import json
import tempfile
import warnings
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from datasets_ext.synthfake.generate import generate
from datasets_ext.training_options import TrainingOptions
from roga_domainbed.catalog import ALGORITHMS
from roga_domainbed.errors import RogaError
from roga_domainbed.input.environment import OpenDataset
from roga_domainbed.input.minibatches import seed_everything
from roga_domainbed.input.path import InputOptions, InputPath
from roga_domainbed.metrics.split import split_metrics
from roga_domainbed.seeds import derive
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.evaluation import score_parts
from roga_domainbed.trainer.precision import lay_out
from roga_domainbed.trainer.run import train
from roga_domainbed.trainer.splits import split_environments
from roga_domainbed.upstream import bridge

TEST_ENV = 3
HPARAMS = {"batch_size": 8, "lr": 1e-3, "meso4_dropout": 0.0}
CPU = torch.device("cpu")


def build(host, name, checkpoint):
    """The algorithm as the file describes it, from the seed the run started from."""
    seed_everything(derive(0, "weights"))
    shape = checkpoint["model_input_shape"], checkpoint["model_num_classes"], checkpoint["model_num_domains"]
    algorithm = host.algorithms.get_algorithm_class(name)(*shape, checkpoint["model_hparams"])
    lay_out(algorithm, "fp32", CPU)
    return algorithm


class Data:
    """The images of a run, read once more."""

    def __init__(self, host, data_dir, hparams):
        made = host.datasets.get_dataset_class("SynthFake")(data_dir, [TEST_ENV], hparams)
        self.dataset = OpenDataset(made)
        self.splits = split_environments(self.dataset, None, [TEST_ENV], 0, 0.2, 0, TrainingOptions())[1]
        self.reader = InputPath(
            self.dataset, InputOptions(), name="SynthFake", seed=0, n_workers=0, device=CPU
        )
        first = [(env, self.splits[env].in_split[:32]) for env in range(TEST_ENV)]
        self.fixed = [(x, y) for _, x, y in self.reader.evaluation(first)]

    @torch.no_grad()
    def loss(self, algorithm):
        """Cross-entropy on the fixed images; ``algorithm`` keeps its running statistics."""
        seed_everything(0)  # some predictions draw noise
        algorithm = copy.deepcopy(algorithm).train()
        return sum(cross_entropy(algorithm.predict(x), y).item() for x, y in self.fixed) / len(self.fixed)

    def metrics(self, algorithm, seed):
        """Every metric of every split, under the record's keys."""
        seed_everything(seed)
        named = [(env, part) for env, split in enumerate(self.splits) for part in split.named()]
        parts = [(env, indices) for env, (_, indices) in named]
        scored = score_parts(algorithm, self.dataset, self.reader, parts)
        return {
            f"env{env}_{name}_{metric}": value
            for (env, (name, _)), scores in zip(named, scored, strict=True)
            for metric, value in split_metrics(scores).values.items()
        }


def first_line(error):
    return " ".join(str(error).split())[:160] or type(error).__name__


def row(host, name, data_dir, folder, steps):
    """(cells, remarks) of one algorithm."""
    config = TrainConfig(
        data_dir=str(data_dir),
        dataset="SynthFake",
        algorithm=name,
        hparams=json.dumps({**HPARAMS, **({"lr_g": 1e-3} if name in ("DANN", "CDANN") else {})}),
        test_envs=[TEST_ENV],
        steps=steps,
        checkpoint_freq=steps,
        n_workers=0,
        output_dir=str(folder),
    )
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            train(config)
    except RogaError as error:
        return ["no", "", "", "", ""], [f"refused: {error}"]
    except Exception as error:  # whatever it is, the table is about it
        return ["NO", "", "", "", ""], [f"{type(error).__name__}: {first_line(error)}"]
    remarks = [
        line.removeprefix("Notice: ")
        for line in (folder / "out.txt").read_text().splitlines()
        if line.startswith("Notice: DomainBed")
    ]
    record = json.loads((folder / "results.jsonl").read_text().splitlines()[-1])
    complete = all(f"env{env}_out_{metric}" in record for env in range(4) for metric in ("auc", "ap", "eer"))
    try:
        checkpoint = torch.load(folder / "model.pkl", weights_only=True)
    except Exception as error:
        return ["yes" if complete else "no metrics", "", "", "no", ""], [*remarks, first_line(error)]
    data = Data(host, data_dir, checkpoint["model_hparams"])
    with contextlib.redirect_stdout(io.StringIO()):
        algorithm = build(host, name, checkpoint)
    before = data.loss(algorithm)
    reloads = "yes"
    try:
        algorithm.load_state_dict(checkpoint["model_dict"])
    except RuntimeError as error:
        reloads = "no"
        remarks.append(first_line(error))
        own = {key: value.shape for key, value in algorithm.state_dict().items()}
        fitting = {k: v for k, v in checkpoint["model_dict"].items() if own.get(k) == v.shape}
        algorithm.load_state_dict(fitting, strict=False)
    after = data.loss(algorithm)
    # Where predict draws noise, it continues the generator that the last update left: not to be had again.
    again = data.metrics(algorithm, 0)
    if reloads == "yes" and any(record[key] != value for key, value in again.items()):
        noisy = data.metrics(algorithm, 1) != again
        reloads = "yes, predictions are random" if noisy else "NO: other predictions"
    lower = "yes" if after < before else "no"
    return [
        "yes" if complete else "no metrics",
        f"{before:.3f} → {after:.3f}",
        lower,
        "yes",
        reloads,
    ], remarks


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--algorithms", nargs="+", help="default: all that the backend has")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # those of DomainBed on newer libraries
    torch.set_num_threads(1)  # the networks are small, and threads wait for each other
    host = bridge.register()
    if host.name == "upstream":
        names = args.algorithms or host.algorithms.ALGORITHMS
    else:
        names = args.algorithms or [info.name for info in ALGORITHMS if info.target]
    print(f"{len(names)} algorithms on {host.name}, {args.steps} steps, torch {torch.__version__}\n")
    print("| algorithm | trains | loss | lower | saves | reloads | remarks |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        data_dir = Path(scratch, "data")
        generate(data_dir, n_identities=6, n_frames=4)
        for name in names:
            cells, remarks = row(host, name, data_dir, Path(scratch, name), args.steps)
            print(f"| {' | '.join([name, *cells, '; '.join(remarks)])} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
