"""The arguments of one training run, and everything that can be wrong with them before anything slow."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datasets_ext import trees
from datasets_ext.training_options import LABEL_NOISE, TRAIN_FRACTION, TrainingOptions
from roga_domainbed.catalog import ALGORITHMS, DATASETS
from roga_domainbed.catalog.datasets import EVAL_PARTS, SPLIT_MODES, TASKS, test_env_problems
from roga_domainbed.catalog.values import MOST_STEPS, argument, arguments_of, check_arguments
from roga_domainbed.errors import Failed, Problems, unknown_name
from roga_domainbed.trainer import trackers

#: The arguments upstream's ``train`` has; the others are ours.
UPSTREAM_ARGS = (
    "algorithm checkpoint_freq data_dir dataset holdout_fraction hparams hparams_seed output_dir "
    "save_model_every_checkpoint seed skip_model_save steps task test_envs trial_seed uda_holdout_fraction"
).split()

_SEED = {"at_least": 0, "below": 2**63}


@dataclass
class TrainConfig:
    """One run. Names, defaults and meaning of the first sixteen are upstream's."""

    data_dir: str | None = argument(None, "folder that contains the dataset's folder", path=True)
    dataset: str | None = argument(
        None, "registered name ('roga-domainbed list' shows them), or a prepared tree in --data_dir; required"
    )
    algorithm: str = argument("ERM", "registered name")
    task: str = argument(TASKS[0], " or ".join(TASKS), choices=TASKS)
    hparams: str | None = argument(
        None, "JSON object that overrides hyper-parameters, such as '{\"lr\": 0.001}'"
    )
    hparams_seed: int = argument(0, "0: defaults; otherwise seeds the random hyper-parameters", **_SEED)
    trial_seed: int = argument(
        0, "seeds the splits and, with hparams_seed, the random hyper-parameters", **_SEED
    )
    seed: int = argument(0, "seeds everything else", **_SEED)
    steps: int | None = argument(
        None, "training steps (default: the dataset's)", at_least=1, at_most=MOST_STEPS
    )
    checkpoint_freq: int | None = argument(
        None, "steps between records (default: the dataset's)", at_least=1, at_most=MOST_STEPS
    )
    test_envs: list[int] = argument([0], "indices of the held-out environments")
    output_dir: str = argument("train_output", "folder of the run", path=True)
    holdout_fraction: float = argument(0.2, "share of the out-split", above=0, below=1)
    uda_holdout_fraction: float = argument(
        0, "share of unlabelled test-environment samples", at_least=0, below=1
    )
    skip_model_save: bool = argument(False, "write no model file")
    save_model_every_checkpoint: bool = argument(False, "write model_step<N>.pkl at every record")
    split: str | None = argument(
        None,
        "official parts, cut by recording and identity (group), or DomainBed's cut by image (frame) (default: "
        "official where the dataset has a manifest, frame otherwise)",
        choices=SPLIT_MODES,
    )
    reals: str = TrainingOptions.reals
    balance: str | None = None
    strict: bool = False
    label_noise: float = argument(TrainingOptions.label_noise, **LABEL_NOISE)
    train_fraction: float = argument(TrainingOptions.train_fraction, **TRAIN_FRACTION)
    allow_leakage: bool = False
    row: str | None = argument(None, "name of the run's row in result tables (default: the algorithm)")
    n_workers: int | None = argument(
        None,
        "processes that read images ahead (default: the dataset's, at most the threads)",
        at_least=0,
        at_most=256,
    )
    checkpoint_every: int | None = argument(
        None,
        "steps between checkpoints to resume from, 0 for none (default: at a record, or a minute after the last, "
        "taking at most one percent of the time)",
        at_least=0,
        at_most=MOST_STEPS,
    )
    until: int | None = argument(
        None,
        "pause after the first record at or after this step: write a checkpoint and exit with 75; without it, the same "
        "command goes on",
        at_least=0,
        at_most=MOST_STEPS,
    )
    skip_unreadable: bool = False
    input: str = argument(
        "fast",
        "fast: decode each image once, augment whole minibatches, where the dataset allows it; exact: run the "
        "dataset's own code for each image",
        choices=("fast", "exact"),
    )
    cache: str = argument(
        "auto",
        "auto: keep decoded images in memory if a quarter of the free memory holds them; off: decode at each access; "
        "a folder: keep them there in a packed file that the jobs of a machine share",
        path=True,
    )
    precision: str = argument(
        "auto", "auto uses bf16 (autocast) on GPUs that have it", choices=("auto", "fp32", "bf16")
    )
    compile: bool = argument(False, "compile the network with torch.compile; the first steps wait for it")
    profile: bool = argument(False, "print where the time of ten steps goes, and write a trace of them")
    eval_every: int | None = argument(
        None,
        "steps between evaluations, and so records; wins over --checkpoint_freq",
        at_least=1,
        at_most=MOST_STEPS,
    )
    eval_max_per_env: int | None = argument(
        None,
        "evaluate at most so many samples of each split, the same ones each time; the last record has all",
        at_least=1,
        at_most=MOST_STEPS,
    )
    eval_parts: str = argument(
        "all",
        "needed: evaluate what is trained on in the last record only; no selection rule reads it",
        choices=EVAL_PARTS,
    )
    overwrite: bool = argument(False, "replace a run that --output_dir already holds, finished or not")
    track: list[str] | None = argument(
        None, "show the records in these experiment trackers too, as they come", choices=trackers.NAMES
    )

    def record_args(self) -> dict[str, Any]:
        """What a record carries as ``args``: upstream's sixteen, and of ours those that change numbers."""
        values = asdict(self)
        args = {name: values[name] for name in UPSTREAM_ARGS}
        args |= self.training_options.given()
        changed = {name: value for name, value in values.items() if value != _DEFAULTS.get(name)}
        return args | {name: changed[name] for name in _OF_OURS if name in changed}

    @property
    def training_options(self) -> TrainingOptions:
        """What of the training part is trained on, and with which labels."""
        return TrainingOptions.of(vars(self))

    def check(self, problems: Problems) -> None:
        """Add everything that is wrong and can be seen without loading torch or touching the data."""
        if self.algorithm not in ALGORITHMS:
            problems.add(unknown_name("algorithm", self.algorithm, ALGORITHMS.names()))
        if self.dataset is None:
            problems.add(f"--dataset is required; known: {', '.join(DATASETS.names())}")
        elif unknown := trees.problem(self.dataset, self.data_dir):
            problems.add(unknown)
        else:
            info = DATASETS.get(self.dataset)
            if info.needs_data_dir:
                self._check_data_dir(problems)
            for message in test_env_problems(self.test_envs, info.environments):
                problems.add(message)
        check_arguments(asdict(self), arguments_of(TrainConfig), problems)
        for message in self.training_options.problems(self.split):
            problems.add(message)
        for message in trackers.problems(self.track or ()):
            problems.add(message)
        if self.until is not None and self.checkpoint_every == 0:
            problems.add(
                "--until pauses with a checkpoint, and --checkpoint_every 0 writes none: leave one out"
            )
        if self.task == "domain_adaptation" and self.uda_holdout_fraction == 0:
            problems.add(
                "--task domain_adaptation needs unlabelled data: give --uda_holdout_fraction above 0, for example 0.5"
            )

    def _check_data_dir(self, problems: Problems) -> None:
        if self.data_dir is None:
            problems.add(f"dataset {self.dataset!r} needs --data_dir, the folder that contains it")
        elif self.data_dir and not Path(self.data_dir).is_dir():
            problems.add(f"--data_dir {self.data_dir!r} is not a folder")


#: Our own arguments that change numbers or tables; a record's ``args`` have those that are not the default.
_OF_OURS = (
    "split allow_leakage row skip_unreadable input precision compile eval_every eval_max_per_env eval_parts"
).split()
_DEFAULTS = asdict(TrainConfig())


def require_finite(values: dict[str, float], step: int) -> None:
    """Stop the run when an algorithm reports a value that is not finite."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise Failed(
                f"step {step}: {name} is {value}; training stopped. Lower the learning rate, or look at the data"
            )
