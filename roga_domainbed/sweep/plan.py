"""What a sweep trains: a plan, from a preset or from arguments, and the arguments of each of its trainings."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from itertools import chain
from pathlib import Path
from typing import Any

from datasets_ext.training_options import LABEL_NOISE, TRAIN_FRACTION, TrainingOptions
from roga_domainbed.catalog import DATASETS
from roga_domainbed.catalog.datasets import (
    EVAL_PARTS,
    SPLIT_MODES,
    TASKS,
    DatasetInfo,
    test_env_problems,
    train_env_problems,
)
from roga_domainbed.catalog.hparams import parse_overrides
from roga_domainbed.catalog.values import MOST_STEPS, Allowed, argument, arguments_of, check_arguments, shown
from roga_domainbed.errors import Problems, RogaError, unknown_name
from roga_domainbed.foreign import Malformed, parse_yaml, read_text
from roga_domainbed.foreign.yaml_text import LARGEST_YAML
from roga_domainbed.seeds import seed_hash
from roga_domainbed.sweep.checked import checked
from roga_domainbed.sweep.paper import PaperTable

#: The arguments that say what each job holds out; those of the first two exclude those of the others.
HELD_OUT = ("test_envs", "single_test_envs", "train_envs", "single_train_envs")
_ENVS = ("test_envs", "train_envs")  # may be a mapping in a preset
MOST_JOBS = 1_000_000  # all algorithms of a checkout on all datasets are 810,000


@dataclass(frozen=True)
class Row:
    """One row of the result tables: an algorithm and its settings.

    Attributes:
        algorithm: registered name.
        name: of the row; None for the algorithm's name.
        hparams: hyper-parameters that this row overrides, over those of the plan.
    """

    algorithm: str
    name: str | None = None
    hparams: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name or self.algorithm


@dataclass
class Plan:
    """What a sweep trains; the first ten are upstream's arguments.

    Attributes:
        rows: named rows, beside ``algorithms`` or instead of them.
        test_envs_of: dataset → ``test_envs`` of its jobs, where datasets differ; a preset's ``test_envs`` as a mapping.
        train_envs_of: likewise of ``train_envs``.
        paper: what a paper prints for these rows.
    """

    datasets: list[str] | None = argument(None, "default: all but the Debug ones")
    algorithms: list[str] | None = argument(
        None, "default: all of this backend, or none beside a preset's rows"
    )
    task: str = argument(TASKS[0], " or ".join(TASKS), choices=TASKS)
    n_hparams_from: int = argument(
        0, "first hparams_seed; 0 is the default hyper-parameters", at_least=0, at_most=MOST_JOBS
    )
    n_hparams: int = argument(20, "one past the last hparams_seed", at_least=1, at_most=MOST_JOBS)
    data_dir: str | None = argument(None, "folder of the datasets; required unless none needs it", path=True)
    n_trials: int = argument(3, "repetitions with other splits and seeds", at_least=1, at_most=MOST_JOBS)
    steps: int | None = argument(
        None, "training steps (default: the dataset's)", at_least=1, at_most=MOST_STEPS
    )
    hparams: str | None = argument(None, "JSON object that overrides hyper-parameters of every job")
    holdout_fraction: float = argument(0.2, "validation part of a domain", above=0, below=1)
    single_test_envs: bool = argument(False, "hold out each environment alone, no pairs")
    test_envs: list[int] | None = argument(
        None, "hold out these together, in every job; with single_test_envs, each of them alone"
    )
    single_train_envs: bool = argument(False, "train on each environment alone and hold out the others")
    train_envs: list[int] | None = argument(
        None, "train on these together and hold out the others; with single_train_envs, on each of them alone"
    )
    split: str | None = argument(
        None, "how training domains are split (default: train's)", choices=SPLIT_MODES
    )
    reals: str = argument(TrainingOptions.reals)
    balance: str | None = argument(None)
    strict: bool = argument(False)
    label_noise: float = argument(TrainingOptions.label_noise, **LABEL_NOISE)
    train_fraction: float = argument(TrainingOptions.train_fraction, **TRAIN_FRACTION)
    allow_leakage: bool = argument(False)
    checkpoint_freq: int | None = argument(
        None, "steps between records (default: the dataset's)", at_least=1, at_most=MOST_STEPS
    )
    skip_model_save: bool = argument(False, "write no weights")
    eval_parts: str = argument(
        "all", "needed: evaluate what is trained on in the last record only", choices=EVAL_PARTS
    )
    rows: list[Row] = field(default_factory=list)
    test_envs_of: dict[str, list[int]] = field(default_factory=dict)
    train_envs_of: dict[str, list[int]] = field(default_factory=dict)
    paper: PaperTable | None = None

    @property
    def all_rows(self) -> list[Row]:
        """A row for each of ``algorithms``, then the named ones."""
        return [*map(Row, self.algorithms or ()), *self.rows]

    @property
    def training_options(self) -> TrainingOptions:
        """What of the training part is trained on, and with which labels."""
        return TrainingOptions.of(vars(self))

    def hparams_of(self, row: Row) -> str | None:
        """The ``--hparams`` of a row's jobs: the plan's with the row's own over them, as JSON."""
        if not row.hparams:
            return self.hparams
        return json.dumps({**parse_overrides(self.hparams), **row.hparams})

    @classmethod
    def of(cls, values: Mapping[str, Any], where: str, problems: Problems) -> Plan:
        """The plan of the arguments in a file; those that are not allowed are left out and added to ``problems``.

        Args:
            values: as in a preset; ``hparams`` may be a mapping.
            where: what the sentences begin with.
            problems: where unknown keys, values of another kind and what is wrong with rows are added.
        """
        return cls(**_plan_values(values, where, problems))

    def values(self) -> dict[str, Any]:
        """The arguments that are not the default, as plain values: what ``of`` reads."""
        found = {name: getattr(self, name) for name in arguments_of(Plan)}
        found = {name: value for name, value in found.items() if value != getattr(_DEFAULT, name)}
        for name in _ENVS:
            if of_datasets := getattr(self, f"{name}_of"):
                found[name] = dict(of_datasets)
        if self.rows:
            found["rows"] = [
                {
                    **({} if row.name is None else {"name": row.name}),
                    "algorithm": row.algorithm,
                    "hparams": dict(row.hparams),
                }
                for row in self.rows
            ]
        if self.paper is not None:
            found["paper"] = self.paper.values()
        return found

    @property
    def n_jobs(self) -> int:
        """How many trainings there are."""
        held_out = sum(len(self.held_out(name)) for name in self.datasets or ())
        return self.n_trials * held_out * len(self.all_rows) * max(0, self.n_hparams - self.n_hparams_from)

    def check(self, problems: Problems) -> None:
        """Add everything that is wrong and can be seen without loading torch or touching the data."""
        before = len(problems.messages)
        check_arguments(vars(self), arguments_of(Plan), problems)
        for name, count in Counter(map(str, self.all_rows)).items():
            if count > 1 and any(row.name == name for row in self.rows):
                problems.add(f"{count} rows are called {name!r}: give each a name of its own")
        try:
            parse_overrides(self.hparams)
        except RogaError as error:
            problems.add(str(error))
        for message in self.training_options.problems(self.split):
            problems.add(message)
        if self.n_hparams_from >= self.n_hparams >= 1:
            problems.add(f"--n_hparams_from must be below --n_hparams; got {self.n_hparams_from}")
        known = [DATASETS.get(name) for name in dict.fromkeys(self.datasets or ()) if name in DATASETS]
        given = [f"--{name}" for name in HELD_OUT if getattr(self, name) or getattr(self, f"{name}_of", None)]
        if any("train" in name for name in given) and any("test" in name for name in given):
            problems.add(
                f"{' and '.join(given)}: what is not trained on is held out, so give one or the other"
            )
        for info in known:
            self._check_envs(info, problems)
        for name in _ENVS:
            for dataset in getattr(self, f"{name}_of"):
                if dataset not in (self.datasets or ()):
                    problems.add(
                        f"{name}: {unknown_name('dataset of this plan', dataset, self.datasets or ())}"
                    )
        if self.paper is not None:
            self.paper.check(problems)
        needy = [info.name for info in known if info.needs_data_dir]
        if needy and self.data_dir is None:
            problems.add(f"--data_dir is required for {', '.join(needy)}")
        if len(problems.messages) == before and len(known) == len(set(self.datasets or ())):
            n_jobs = self.n_jobs
            if n_jobs > MOST_JOBS:
                problems.add(
                    f"a sweep of {n_jobs:,} jobs: at most {MOST_JOBS:,} are allowed; lower --n_trials or --n_hparams"
                )

    def _check_envs(self, info: DatasetInfo, problems: Problems) -> None:
        """Add what is wrong with the environments that are held out, or trained on, of one dataset."""
        found = []
        if trained := self.trains_on(info.name):
            found = [train_env_problems(envs, info.environments) for envs in trained]
        elif self._of(info.name, "test_envs") is not None:
            found = [test_env_problems(envs, info.environments) for envs in self.held_out(info.name)]
        elif len(info.environments) < 3 and not self.single_test_envs:
            problems.add(f"{info.name} has too few environments to hold out pairs: use --single_test_envs")
        for message in chain.from_iterable(found):
            problems.add(f"{info.name}: {message}")

    def train_args(self) -> Iterator[dict[str, Any]]:
        """The arguments of ``train`` for every job: trial is the outermost loop, then dataset, row, test envs, hparams.

        Order and seeds are upstream's. What is not given does not enter the dicts: the folder of a job is a hash of
        its dict, and upstream's arguments must give upstream's folders. Rows of one algorithm have the same seeds.
        """
        # Once a row, as a sweep may have many thousands of jobs.
        rows = [(row, self._optional(row)) for row in self.all_rows]
        held_out = {dataset: self.held_out(dataset) for dataset in self.datasets or ()}
        for trial_seed in range(self.n_trials):
            for dataset in self.datasets or ():
                for row, optional in rows:
                    for envs in held_out[dataset]:
                        for hparams_seed in range(self.n_hparams_from, self.n_hparams):
                            args = {
                                "dataset": dataset,
                                "algorithm": row.algorithm,
                                "test_envs": envs,
                                "holdout_fraction": self.holdout_fraction,
                                "hparams_seed": hparams_seed,
                                "data_dir": self.data_dir,
                                "task": self.task,
                                "trial_seed": trial_seed,
                                "seed": seed_hash(dataset, row.algorithm, envs, hparams_seed, trial_seed),
                            }
                            yield args | optional

    def _optional(self, row: Row) -> dict[str, Any]:
        given = {
            "steps": self.steps,
            "hparams": self.hparams_of(row),
            "split": self.split,
            **self.training_options.given(),
            "allow_leakage": self.allow_leakage or None,
            "checkpoint_freq": self.checkpoint_freq,
            "skip_model_save": self.skip_model_save or None,
            "eval_parts": self.eval_parts if self.eval_parts != "all" else None,
            "row": row.name,
        }
        return {name: value for name, value in given.items() if value is not None}

    def trains_on(self, dataset: str) -> list[list[int]]:
        """The training environments of each of the dataset's jobs, where the plan names these; else empty."""
        together = self._of(dataset, "train_envs")
        if self.single_train_envs:
            n = len(DATASETS.get(dataset).environments)
            return [[env] for env in dict.fromkeys(range(n) if together is None else together)]
        return [] if together is None else [list(together)]

    def held_out(self, dataset: str) -> list[list[int]]:
        """The test environments of each of the dataset's jobs, for one trial, row and hyper-parameter seed."""
        n = len(DATASETS.get(dataset).environments)
        if trained := self.trains_on(dataset):
            return [[env for env in range(n) if env not in envs] for envs in trained]
        together = self._of(dataset, "test_envs")
        if together is not None:
            alone = [[env] for env in dict.fromkeys(together)]
            return alone if self.single_test_envs else [list(together)]
        return [[i] for i in range(n)] if self.single_test_envs else all_test_env_combinations(n)

    def _of(self, dataset: str, name: str) -> list[int] | None:
        """``test_envs`` or ``train_envs`` of one dataset."""
        return getattr(self, f"{name}_of").get(dataset, getattr(self, name))


def all_test_env_combinations(n: int) -> list[list[int]]:
    """Every environment alone, each followed by its pairs: [0], [0, 1], [0, 2], [1], [1, 2], [2] for three.

    Raises:
        RogaError: if ``n`` < 3: a pair would leave nothing to train on.
    """
    if n < 3:
        raise RogaError(
            f"pairs of test environments need at least 3 environments; there are {n}. Use --single_test_envs"
        )
    return [envs for i in range(n) for envs in ([i], *([i, j] for j in range(i + 1, n)))]


_DEFAULT = Plan()


def preset_names() -> list[str]:
    """The presets that come with the package."""
    return sorted(
        path.name.removesuffix(".yaml") for path in _folder().iterdir() if path.name.endswith(".yaml")
    )


def load_preset(name: str, problems: Problems, option: str = "--preset") -> dict[str, Any]:
    """The arguments of a ``Plan`` in a preset. ``hparams`` may be a mapping there and is JSON text here.

    Args:
        name: one of ``preset_names()``, or the path of a YAML file.
        problems: where unknown keys, values of another kind and what is wrong with rows are added.
        option: that named it, for messages.

    Raises:
        RogaError: no such preset or file, or no YAML mapping.
    """
    try:
        if Path(name).suffix in (".yaml", ".yml"):
            text = read_text(name, at_most=4 * LARGEST_YAML)
        elif name in preset_names():
            text = (_folder() / f"{name}.yaml").read_text(encoding="utf-8")
        else:
            known = [*preset_names(), "or the path of a .yaml file"]
            raise RogaError(unknown_name("preset", name, known))
        values = parse_yaml(text)
    except FileNotFoundError:
        raise RogaError(f"{option}: no such file: {name!r}") from None
    except OSError as error:
        raise RogaError(f"{option} {name!r} cannot be read: {error.strerror}") from None
    except Malformed as error:
        raise RogaError(f"{option} {name}: {error}") from None
    if not isinstance(values, dict):
        raise RogaError(f"{option} {name}: expected 'argument: value' lines, as in sweeps/demo.yaml")
    return _plan_values(values, f"{option} {name}: ", problems)


def _plan_values(values: Mapping[str, Any], where: str, problems: Problems) -> dict[str, Any]:
    values = dict(values)
    if isinstance(values.get("hparams"), dict):
        values["hparams"] = json.dumps(values["hparams"])
    rows, paper = values.pop("rows", None), values.pop("paper", None)
    of_datasets = {name: values.pop(name) for name in _ENVS if isinstance(values.get(name), dict)}
    found = checked(values, arguments_of(Plan), where, problems)
    for name, mapping in of_datasets.items():
        allowed = dict.fromkeys(mapping, arguments_of(Plan)[name])
        found[f"{name}_of"] = checked(mapping, allowed, f"{where}{name} of ", problems)
    if paper is not None:
        found["paper"] = PaperTable.of(paper, f"{where}paper: ", problems)
    if rows is not None:
        found["rows"] = _rows(rows, where, problems)
    return found


_ROW_KEYS = {"name": Allowed(kind=str), "algorithm": Allowed(kind=str), "hparams": Allowed(kind=dict)}


def _rows(values: Any, where: str, problems: Problems) -> list[Row]:
    """The rows of a preset: those that have an algorithm, whatever else is wrong with them."""
    if not isinstance(values, list) or not values or not all(isinstance(value, dict) for value in values):
        problems.add(
            f"{where}rows must be a list of mappings, each with name and algorithm; got {shown(values)}"
        )
        return []
    rows = []
    for place, value in enumerate(values, 1):
        name = str(value.get("name", f"row {place}"))
        this = f"{where}row {name!r}" if "name" in value else f"{where}{name}"
        for key in ("name", "algorithm"):
            if key not in value:
                problems.add(f"{this} has no {key}")
        found = checked(value, _ROW_KEYS, f"{this}: ", problems)
        if "algorithm" in found:
            rows.append(Row(found["algorithm"], name, found.get("hparams", {})))
    return rows


def _folder() -> Any:
    try:
        return resources.files("roga_domainbed.sweeps")
    except ModuleNotFoundError:  # run from a checkout that is not installed
        return Path(__file__).resolve().parents[2] / "sweeps"
