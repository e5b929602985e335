"""The arguments of one training run, and everything that can be wrong with them before anything slow."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from datasets_ext.training_options import TrainingOptions
from roga_domainbed.catalog import ALGORITHMS, DATASETS
from roga_domainbed.errors import Problems, RogaError, unknown_name

TASKS = ("domain_generalization", "domain_adaptation")
EVAL_PARTS = ("all", "needed")
PRECISIONS = ("auto", "fp32", "bf16")
INPUT_MODES = ("fast", "exact")
SPLIT_MODES = ("official", "group", "frame")

#: The arguments upstream's ``train`` has; the others are ours.
UPSTREAM_ARGS = (
    "algorithm checkpoint_freq data_dir dataset holdout_fraction hparams hparams_seed output_dir "
    "save_model_every_checkpoint seed skip_model_save steps task test_envs trial_seed uda_holdout_fraction"
).split()


@dataclass
class TrainConfig:
    """One run. Names, defaults and meaning of the first sixteen are upstream's (``train --help`` explains them)."""

    data_dir: str | None = None
    dataset: str = "RotatedMNIST"
    algorithm: str = "ERM"
    task: str = "domain_generalization"
    hparams: str | None = None
    hparams_seed: int = 0
    trial_seed: int = 0
    seed: int = 0
    steps: int | None = None
    checkpoint_freq: int | None = None
    test_envs: list[int] = field(default_factory=lambda: [0])
    output_dir: str = "train_output"
    holdout_fraction: float = 0.2
    uda_holdout_fraction: float = 0
    skip_model_save: bool = False
    save_model_every_checkpoint: bool = False
    split: str | None = None
    reals: str = TrainingOptions.reals
    balance: str | None = None
    strict: bool = False
    allow_leakage: bool = False
    n_workers: int | None = None
    checkpoint_every: int | None = None
    skip_unreadable: bool = False
    input: str = "fast"
    cache: str = "auto"
    precision: str = "auto"
    compile: bool = False
    profile: bool = False
    eval_every: int | None = None
    eval_max_per_env: int | None = None
    eval_parts: str = "all"
    overwrite: bool = False

    def record_args(self) -> dict[str, Any]:
        """What a record carries as ``args``: upstream's sixteen, and of ours those that change numbers."""
        values = asdict(self)
        args = {name: values[name] for name in UPSTREAM_ARGS}
        if self.split is not None:
            args["split"] = self.split
        args |= self.training_options.given()
        if self.allow_leakage:
            args["allow_leakage"] = True
        if self.skip_unreadable:
            args["skip_unreadable"] = True
        for name in ("input", "precision", "compile", "eval_every", "eval_max_per_env", "eval_parts"):
            if values[name] != _OF_OURS[name]:
                args[name] = values[name]
        return args

    @property
    def training_options(self) -> TrainingOptions:
        """What of the training part is trained on."""
        return TrainingOptions(self.reals, self.balance, self.strict)

    def check(self, problems: Problems) -> None:
        """Add everything that is wrong and can be seen without loading torch or touching the data."""
        if self.algorithm not in ALGORITHMS:
            problems.add(unknown_name("algorithm", self.algorithm, ALGORITHMS.names()))
        if self.dataset not in DATASETS:
            problems.add(unknown_name("dataset", self.dataset, DATASETS.names()))
        else:
            info = DATASETS.get(self.dataset)
            if info.needs_data_dir:
                self._check_data_dir(problems)
            for message in test_env_problems(self.test_envs, info.environments):
                problems.add(message)
        if self.task not in TASKS:
            problems.add(unknown_name("task", self.task, TASKS))
        if self.split is not None and self.split not in SPLIT_MODES:
            problems.add(unknown_name("split", self.split, SPLIT_MODES))
        for message in self.training_options.problems(self.split):
            problems.add(message)
        if not 0 < self.holdout_fraction < 1:
            problems.add(f"--holdout_fraction must lie between 0 and 1; got {self.holdout_fraction}")
        if not 0 <= self.uda_holdout_fraction < 1:
            problems.add(
                f"--uda_holdout_fraction must be at least 0 and below 1; got {self.uda_holdout_fraction}"
            )
        elif self.task == "domain_adaptation" and self.uda_holdout_fraction == 0:
            problems.add(
                "--task domain_adaptation needs unlabelled data: give --uda_holdout_fraction above 0, for example 0.5"
            )
        if self.precision not in PRECISIONS:
            problems.add(unknown_name("precision", self.precision, PRECISIONS))
        if self.eval_parts not in EVAL_PARTS:
            problems.add(unknown_name("eval_parts", self.eval_parts, EVAL_PARTS))
        for name in ("steps", "checkpoint_freq", "eval_every", "eval_max_per_env"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                problems.add(f"--{name} must be at least 1; got {value}")
        if self.checkpoint_every is not None and self.checkpoint_every < 0:
            problems.add(f"--checkpoint_every must be at least 0; got {self.checkpoint_every}")
        if self.input not in INPUT_MODES:
            problems.add(unknown_name("input", self.input, INPUT_MODES))
        if self.n_workers is not None and self.n_workers < 0:
            problems.add(f"--n_workers must be at least 0; got {self.n_workers}")
        for name in ("seed", "trial_seed", "hparams_seed"):
            if not 0 <= getattr(self, name) < 2**63:
                problems.add(f"--{name} must lie in [0, 2**63); got {getattr(self, name)}")

    def _check_data_dir(self, problems: Problems) -> None:
        if self.data_dir is None:
            problems.add(f"dataset {self.dataset!r} needs --data_dir, the folder that contains it")
        elif not Path(self.data_dir).is_dir():
            problems.add(f"--data_dir {self.data_dir!r} is not a folder")


#: Defaults of our own arguments that change numbers or records; in a record's ``args`` only where they differ.
_OF_OURS = {entry.name: entry.default for entry in fields(TrainConfig) if entry.name not in UPSTREAM_ARGS}


def test_env_problems(test_envs: list[int], environments: tuple[str, ...]) -> list[str]:
    """What is wrong with ``--test_envs``, given the names of the dataset's environments."""
    n = len(environments)
    listing = ", ".join(f"{i} {name}" for i, name in enumerate(environments))
    problems = []
    outside = [env for env in test_envs if not 0 <= env < n]
    if outside:
        problems.append(
            f"--test_envs {' '.join(map(str, outside))}: there is no such environment; they are {listing}"
        )
    repeated = sorted({env for env in test_envs if test_envs.count(env) > 1})
    if repeated:
        problems.append(f"--test_envs names {' '.join(map(str, repeated))} more than once")
    if not outside and len(set(test_envs)) == n:
        problems.append(
            f"--test_envs names all {n} environments and leaves none to train on; they are {listing}"
        )
    return problems


def require_finite(values: dict[str, float], step: int) -> None:
    """Stop the run when an algorithm reports a value that is not finite."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise RogaError(
                f"step {step}: {name} is {value}; training stopped. Lower the learning rate, or look at the data"
            )
