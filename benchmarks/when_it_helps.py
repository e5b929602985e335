"""When RoGA and its relatives help against ERM: a study whose decisions were written down before its first run.

    python benchmarks/when_it_helps.py run --data_dir DIR [--idx FOLDER] [--part NAME ...] [--n_workers N] [--dry_run]
    python benchmarks/when_it_helps.py show [--pictures docs/pictures]

DIR gets what is trained on. FOLDER holds MNIST's four idx files (``digits.py`` says under which names); SynthFake is
generated. Every run is one call of the library's ``train`` in a process of one thread; its result is a row of
``when_it_helps/<part>.parquet``, and what is there is not run again, so an interrupted study continues. ``show`` prints
the tables from these files and draws the figures. docs/when-roga-helps.md has the findings, and what was changed after
the first run.

A part is one condition: data, noise, sizes, steps. In it a method has one hyper-parameter to choose, from values fixed
below. Each is trained on the selection seeds, and the one with the best mean accuracy on the validation parts of
the training domains (their labels are as noisy as those trained on) is trained anew on the test seeds. The tables show
the last step on the test seeds. A seed decides the split, the subset, the noise, the weights and the minibatches, alike
for all methods, so differences are paired by seed.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import math
import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from digits import place
from scipy import stats

from datasets_ext.synthfake.generate import generate
from datasets_ext.synthfake.manipulate import Strengths
from roga_domainbed.catalog import DATASETS
from roga_domainbed.engine.datasets import RotatedMNIST
from roga_domainbed.engine.datasets.tensors import TensorEnvironment
from roga_domainbed.files import replacing
from roga_domainbed.results.records import RECORDS, read_records
from roga_domainbed.results.statistics import holm
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.run import train

# --- decisions, fixed before the first run ---------------------------------------------------------------

#: ρ of every method that has one; ASAM's is in the scaled norm and ten times as large.
RHO = (0.05, 0.1, 0.2, 0.4, 0.8)
WEIGHT_DECAY = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1)  # Adam's, an L2 term
STEPS = (0.125, 0.25, 0.5, 1, 2)  # in units of the part's steps; the schedule always ends with the run
ALPHA = (2e-4, 1e-2, 1e-1)  # the first is the paper's; the last moves the ascent point about as far as ρ does
FEW_RHO = (0.02, 0.05, 0.1)  # of SynthFake, where a run takes long and a larger ρ stalls training

#: Settings are chosen on the first seeds and measured on the second ones; fewer where a run takes long or the part is
#: one of an axis.
SELECTION_SEEDS, TEST_SEEDS = (0, 1, 2, 3), (4, 5, 6, 7, 8, 9, 10, 11)
AXIS_SELECTION_SEEDS, AXIS_TEST_SEEDS = (0, 1), (4, 5, 6, 7, 8, 9)
FAKES_TEST_SEEDS = (4, 5, 6, 7, 8)

#: Of 12,000 digits each rotation has 2,000: 1,600 in the training part and 400 for validation.
DIGITS, TRAINING_PART = 12_000, 1_600

#: The comparisons that are tested, corrected together (Holm): (part, method, against). All other intervals are
#: descriptions, 95 % each and not corrected.
PRIMARY = (
    ("digits", "RoGA", "ERM"),
    ("digits", "RoGA", "ERM, twice the steps"),
    ("digits", "RoGA", "SAM"),
    ("digits", "RoGA", "RoGA, random parts"),
    ("digits, no noise", "RoGA", "ERM"),
    ("digits, no noise", "RoGA", "ERM, twice the steps"),
)


@dataclass(frozen=True)
class Method:
    """A row of the tables: an algorithm and the one hyper-parameter that is chosen for it.

    Attributes:
        name: of the row.
        algorithm: registered name.
        hparams: those that are fixed.
        tuned: the hyper-parameter that is chosen; ``steps`` is the length of training, and empty is: nothing.
        values: what is tried.
        like: the method whose chosen setting it starts from.
        steps: in units of the part's.
        cost: CPU seconds of 1000 steps of 3×16 digits on a busy machine, for the estimate of ``--dry_run`` alone.
    """

    name: str
    algorithm: str
    hparams: Mapping[str, Any] = field(default_factory=dict)
    tuned: str = ""
    values: tuple[float, ...] = ()
    like: str = ""
    steps: float = 1
    cost: float = 5.5


_RANDOM, _POOLED, _EXACT = {"roga_parts": "random"}, {"roga_anchor": "pooled"}, {"roga_gradient": "exact"}
METHODS = (
    Method("ERM", "ERM"),
    Method("ERM, twice the steps", "ERM", steps=2),
    Method("ERM, chosen steps", "ERM", tuned="steps", values=STEPS),
    Method("ERM, chosen weight decay", "ERM", tuned="weight_decay", values=WEIGHT_DECAY),
    Method("SAM", "SAM", tuned="rho", values=RHO, cost=8.5),
    Method("ASAM", "ASAM", tuned="rho", values=tuple(10 * rho for rho in RHO), cost=8.5),
    Method("GSAM", "GSAM", tuned="rho", values=RHO, cost=8.5),
    Method("SAGM", "SAGM", tuned="rho", values=RHO, cost=8.5),
    Method("RoGA", "RoGA", tuned="rho", values=RHO, cost=12.5),
    Method("RoGA, random parts", "RoGA", _RANDOM, tuned="rho", values=RHO, cost=12.5),
    Method("RoGA, pooled anchor", "RoGA", _POOLED, "alpha", ALPHA, like="RoGA", cost=12.5),
    Method("RoGA, exact", "RoGA", _EXACT, "alpha", ALPHA, like="RoGA", cost=27.0),
)
ALL = tuple(method.name for method in METHODS)
SHORT = tuple(ALL[:5]) + ("RoGA",)
WITH_RANDOM = (*SHORT, "RoGA, random parts")
FEW = ("ERM", "ERM, twice the steps", "SAM", "RoGA")


@dataclass(frozen=True)
class Part:
    """A condition.

    Attributes:
        name: of the table and of the file.
        dataset: ``RotatedMNIST``, ``SynthFake`` or ``SelfBlend``.
        train_envs: the environments that are trained on; all others are held out.
        left_out: the held-out environment of the tables.
        metric: of the tables; settings are chosen by accuracy.
        methods: names of its rows.
        steps: of training.
        batch_size: of each training environment.
        size: images of each training environment; None for all.
        label_noise: share of labels drawn again, in training and validation parts.
        hparams: of all its runs.
        trace: SynthFake's strength of the trace that all fakes share.
        selection_seeds: see above.
        test_seeds: see above.
        rho: what is tried in place of ``RHO``.
    """

    name: str
    dataset: str = "RotatedMNIST"
    train_envs: tuple[int, ...] = (1, 2, 3)
    left_out: int = 0
    metric: str = "acc"
    methods: tuple[str, ...] = SHORT
    steps: int = 800
    batch_size: int = 16
    size: int | None = 150
    label_noise: float = 0.4
    hparams: Mapping[str, Any] = field(
        default_factory=lambda: {"backbone": "mlp", "image_size": 14, "lr": 1e-3, "lr_schedule": "cosine"}
    )
    trace: float = 1.0
    selection_seeds: tuple[int, ...] = SELECTION_SEEDS
    test_seeds: tuple[int, ...] = TEST_SEEDS
    rho: tuple[float, ...] = RHO

    @property
    def file(self) -> str:
        """The name of its file of results."""
        return "".join(c if c.isalnum() else "-" for c in self.name).replace("--", "-") + ".parquet"


#: The base condition: RotatedMNIST at 14×14, trained on 15°, 30° and 45°, tested on 0°; 196-128-10 perceptron; 150
#: digits a domain, 40 % of labels drawn again; 800 steps of 3×16 of Adam. Every other digits part changes one thing.
BASE = Part("digits", methods=ALL)
FAKES = Part(
    "fakes",
    dataset="SynthFake",
    train_envs=(0, 1, 3),
    left_out=2,
    metric="auc",
    methods=FEW,
    steps=300,
    size=None,
    label_noise=0.0,
    hparams={"lr_schedule": "cosine"},
    selection_seeds=AXIS_SELECTION_SEEDS,
    test_seeds=FAKES_TEST_SEEDS,
    rho=FEW_RHO,
)
#: Photographs with forgeries of SelfBlend c23, FS left out, with the settings of sweeps/league.yaml, which were chosen
#: with ERM alone.
PHOTOGRAPHS = replace(
    FAKES,
    name="photographs, pretrained",
    dataset="SelfBlend",
    steps=61,
    hparams={
        "backbone": "tf_efficientnet_lite0",
        "weights": "lite0.pth",  # in the folder of --photographs
        "image_size": 64,
        "lr": 1e-3,
        "lr_schedule": "cosine",
    },
)
#: The same from random weights, with Meso-4. ERM was given 600 steps once; its validation gained nothing after 400.
PHOTOGRAPHS_SCRATCH = replace(
    PHOTOGRAPHS,
    name="photographs, scratch",
    steps=400,
    hparams={"backbone": "meso4", "image_size": 64, "lr": 2e-3, "lr_schedule": "cosine"},
)
WEAK_TRACE = 0.4  # of the strength at which ERM finds the trace

AXIS = replace(BASE, methods=SHORT, selection_seeds=AXIS_SELECTION_SEEDS, test_seeds=AXIS_TEST_SEEDS)

#: In the order of the tables.
PARTS = (
    BASE,
    replace(
        BASE,
        name="digits, no noise",
        label_noise=0.0,
        methods=SHORT,
        selection_seeds=AXIS_SELECTION_SEEDS,
    ),
    replace(AXIS, name="digits, distant rotations", train_envs=(1, 3, 5), methods=WITH_RANDOM),
    replace(FAKES, name="fakes, weak trace", trace=WEAK_TRACE),
    replace(AXIS, name="digits, 600 a domain", size=600),
    PHOTOGRAPHS,
    PHOTOGRAPHS_SCRATCH,
    replace(AXIS, name="digits, 15 % noise", label_noise=0.15),
    replace(AXIS, name="digits, 5 domains", train_envs=(1, 2, 3, 4, 5)),
    replace(AXIS, name="digits, batches of 64", batch_size=64),
    replace(FAKES, name="fakes, 40 % noise", label_noise=0.4),
    replace(AXIS, name="digits, 50 a domain", size=50),
    replace(AXIS, name="digits, 2 domains", train_envs=(1, 3)),
    replace(AXIS, name="digits, batches of 8", batch_size=8),
    replace(AXIS, name="digits, 2400 steps", steps=2400),
    FAKES,
)

#: In the order in which they are run, the base condition in two parts; what the time does not reach is left out, and
#: the page says so.
RUN_ORDER = (replace(BASE, methods=WITH_RANDOM), *PARTS[1:7], BASE, *PARTS[7:])

# --- what is run -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """An algorithm with its hyper-parameters and its number of steps; methods may share one."""

    algorithm: str
    steps: int
    hparams: str  # JSON, sorted
    cost: float = field(default=0.0, compare=False)

    def hours(self, part: Part) -> float:
        """A rough estimate."""
        faces = 100 if part.hparams.get("weights") else 15
        relative = part.batch_size / 32 + 0.5 if part.dataset == "RotatedMNIST" else faces
        per_step = self.cost * relative / 1000
        return (self.steps * per_step + 1.5) / 3600


@dataclass(frozen=True)
class Run:
    """A setting in a part with a seed."""

    part: Part
    setting: Setting
    seed: int


def method(name: str) -> Method:
    return next(known for known in METHODS if known.name == name)


def values_of(part: Part, of: Method) -> tuple[float, ...]:
    """What is tried for the tuned hyper-parameter."""
    return part.rho if of.tuned == "rho" and of.values == RHO else of.values


def setting(part: Part, of: Method, value: float | None, start: float | None = None) -> Setting:
    """``of`` in ``part`` with ``value`` for what is tuned, and ``start`` for the ρ of the method it is like."""
    steps, hparams = of.steps * part.steps, dict(of.hparams)
    if of.tuned == "steps":
        steps = value * part.steps
    elif of.tuned:
        hparams[of.tuned] = value
    if of.like:
        hparams[method(of.like).tuned] = start
    return Setting(of.algorithm, round(steps), json.dumps(hparams, sort_keys=True), of.cost)


Results = Mapping[tuple[Setting, int], Mapping[str, Any]]


def chosen_value(part: Part, of: Method, results: Results) -> float | None:
    """The value with the best mean validation accuracy on the selection seeds, the smallest of equals.

    None if nothing is tuned.

    Raises:
        KeyError: a run of the selection seeds is missing.
    """
    if not of.tuned:
        return None
    start = chosen_value(part, method(of.like), results) if of.like else None
    means = [
        np.mean([results[setting(part, of, value, start), seed]["val"] for seed in part.selection_seeds])
        for value in values_of(part, of)
    ]
    return values_of(part, of)[int(np.argmax(means))]


def chosen(part: Part, of: Method, results: Results) -> Setting:
    """The setting of ``of`` that is measured on the test seeds."""
    start = chosen_value(part, method(of.like), results) if of.like else None
    return setting(part, of, chosen_value(part, of, results), start)


def due(part: Part, results: Results) -> list[Run]:
    """The runs that can be started now and have no result; empty when the part is complete."""
    runs: dict[tuple[Setting, int], Run] = {}
    for of in map(method, part.methods):
        try:
            start = chosen_value(part, method(of.like), results) if of.like else None
        except KeyError:
            continue  # its turn comes when the other method is chosen
        found = [setting(part, of, value, start) for value in values_of(part, of)]
        if of.name == "ERM":  # which the others are compared with on the selection seeds, too
            found = [setting(part, of, None)]
        wanted = [(tried, seed) for tried in found for seed in part.selection_seeds]
        with contextlib.suppress(KeyError):
            wanted += [(chosen(part, of, results), seed) for seed in part.test_seeds]
        runs |= {key: Run(part, *key) for key in wanted if key not in results}
    return list(runs.values())


def number_of_runs(part: Part) -> tuple[int, float]:
    """How many a complete part has at most, and their hours; some methods share runs."""
    count, hours = 0, 0.0
    for of in map(method, part.methods):
        tried = [setting(part, of, value, 0.1) for value in values_of(part, of) or (None,)]
        costs = [one.hours(part) for one in tried]
        count += len(tried) * len(part.selection_seeds) + len(part.test_seeds)
        hours += sum(costs) * len(part.selection_seeds) + max(costs) * len(part.test_seeds)
    return count, hours


# --- running ---------------------------------------------------------------------------------------------


def register_digits() -> str:
    """The name of the row of ``RotatedOnce``, which is added in each process."""
    if RotatedOnce.__name__ not in DATASETS:
        known = DATASETS.get("RotatedMNIST")
        target = f"{__name__}:{RotatedOnce.__name__}"
        DATASETS.add(replace(known, name=RotatedOnce.__name__, target=target, plugin=True))
    return RotatedOnce.__name__


class RotatedOnce(RotatedMNIST):
    """RotatedMNIST with finished images: the same numbers, and a run takes a quarter of the time."""

    def __init__(self, root: str, test_envs: Sequence[int], hparams: Mapping[str, Any]):
        super().__init__(root, test_envs, hparams)
        self.datasets = _finished(root, hparams["image_size"])


@functools.cache
def _finished(root: str, side: int) -> list[TensorEnvironment]:
    environments = RotatedMNIST(root, [], {"image_size": side})
    return [TensorEnvironment(torch.stack([x for x, _ in one]), one.labels) for one in environments]


def prepare(parts: Sequence[Part], data_dir: Path, idx: Path | None, photographs: Path | None) -> None:
    """Make what ``parts`` are trained on in ``data_dir``; photographs must be there."""
    wanted = any(part.dataset == "SelfBlend" for part in parts)
    if wanted and (photographs is None or not (photographs / "data" / "SelfBlend").is_dir()):
        raise SystemExit(
            "--photographs: give the folder with data/SelfBlend and lite0.pth (docs/selfblend.md)"
        )
    if not (data_dir / "MNIST" / "raw").is_dir() and any(part.dataset == "RotatedMNIST" for part in parts):
        if idx is None:
            raise SystemExit("--idx: give the folder with MNIST's four idx files")
        place(idx, data_dir, DIGITS)
    for trace in sorted({part.trace for part in parts if part.dataset == "SynthFake"}):
        generate(data_dir / f"trace-{trace:g}", strengths=Strengths(trace=trace))


def start_worker() -> None:
    torch.set_num_threads(1)


def execute(run: Run, data_dir: str, photographs: str) -> dict[str, Any]:
    """Train, and return the row of the store."""
    part = run.part
    digits = part.dataset == "RotatedMNIST"
    name = register_digits() if digits else part.dataset
    data = {
        "RotatedMNIST": data_dir,
        "SynthFake": f"{data_dir}/trace-{part.trace:g}",
        "SelfBlend": f"{photographs}/data",
    }
    n_envs = len(DATASETS.get(name).environments)
    held_out = [part.left_out] + [i for i in range(n_envs) if i not in (part.left_out, *part.train_envs)]
    hparams = {**part.hparams, "batch_size": part.batch_size, **json.loads(run.setting.hparams)}
    if hparams.get("weights"):
        hparams["weights"] = f"{photographs}/{hparams['weights']}"
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        config = TrainConfig(
            data_dir=data[part.dataset],
            dataset=name,
            algorithm=run.setting.algorithm,
            hparams=json.dumps(hparams),
            trial_seed=run.seed,
            seed=run.seed,
            steps=run.setting.steps,
            test_envs=held_out,
            output_dir=str(Path(folder, "run")),
            label_noise=part.label_noise,
            train_fraction=1.0 if part.size is None else part.size / TRAINING_PART,
            skip_model_save=True,
            checkpoint_every=0,
            n_workers=0,
            eval_every=10**6,  # the first step and the last
            eval_max_per_env=1,  # of the first
        )
        output = train(config)
        record = read_records(output / RECORDS).records[-1]
    trained = part.train_envs

    def mean(values: Sequence[float | None]) -> float:
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else math.nan

    return {
        "algorithm": run.setting.algorithm,
        "steps": run.setting.steps,
        "hparams": run.setting.hparams,
        "seed": run.seed,
        "val": mean([record[f"env{i}_out_acc"] for i in trained]),
        "train": mean([record[f"env{i}_in_acc"] for i in trained]),
        "test": record[f"env{part.left_out}_in_{part.metric}"],
        "test_acc": record[f"env{part.left_out}_in_acc"],
        "held_out": mean([record[f"env{i}_in_{part.metric}"] for i in held_out]),
        "loss": record.get("loss", math.nan),
        "grad_norm": record.get("grad_norm", math.nan),
        "cosine": record.get("cosine", math.nan),
        "alpha_ratio": mean([record.get(f"alpha_ratio_{i}") for i in range(len(trained))]),
        "cpu_s": time.process_time() - start,
    }


class Store:
    """The results of a part, in a small file of their own."""

    def __init__(self, folder: Path, part: Part):
        self.path = folder / part.file
        self.rows: list[dict[str, Any]] = []
        if self.path.exists():
            self.rows = pd.read_parquet(self.path).to_dict("records")

    @property
    def results(self) -> dict[tuple[Setting, int], dict[str, Any]]:
        """(setting, seed) → row."""
        return {
            (Setting(row["algorithm"], row["steps"], row["hparams"]), row["seed"]): row for row in self.rows
        }

    def add(self, row: dict[str, Any]) -> None:
        """Keep ``row``, also if the process is killed at once."""
        self.rows.append(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as path:
            pd.DataFrame(self.rows).to_parquet(path, index=False)


def run_parts(
    parts: Sequence[Part], folder: Path, data_dir: Path, photographs: Path | None, n_workers: int
) -> None:
    """Run what is missing of ``parts``, one part after the other."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_workers, mp_context=context, initializer=start_worker) as pool:
        for part in parts:
            store = Store(folder, part)
            while runs := due(part, store.results):
                futures = [pool.submit(execute, run, str(data_dir), str(photographs)) for run in runs]
                try:
                    for future in as_completed(futures):
                        store.add(future.result())
                finally:
                    for future in futures:
                        future.cancel()
                spent = sum(row["cpu_s"] for row in store.rows) / 60
                print(f"{part.name}: {len(store.rows)} runs, {spent:.1f} CPU minutes", flush=True)


# --- what came of it -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """Of two methods in a part, in percentage points, over the test seeds.

    Attributes:
        mean: of method − baseline.
        half: half width of the 95 % t interval.
        p: two-sided paired t test.
        wins: seeds on which the method is better.
        n: seeds.
    """

    mean: float
    half: float
    p: float
    wins: int
    n: int

    def __str__(self) -> str:
        return f"{self.mean:+.1f} ± {self.half:.1f}"


def difference(of: Sequence[float], baseline: Sequence[float]) -> Difference:
    """Paired, of fractions in [0, 1]."""
    gains = 100 * (np.asarray(of) - np.asarray(baseline))
    n = len(gains)
    half = stats.t.ppf(0.975, n - 1) * gains.std(ddof=1) / math.sqrt(n)
    p = float(stats.ttest_1samp(gains, 0).pvalue) if gains.any() else 1.0
    return Difference(float(gains.mean()), float(half), p, int((gains > 0).sum()), n)


def measured(part: Part, of: Method, results: Results, key: str = "test") -> np.ndarray | None:
    """(test seeds,) of the chosen setting; None if runs are missing."""
    try:
        return np.array([results[chosen(part, of, results), seed][key] for seed in part.test_seeds])
    except KeyError:
        return None


def rows(part: Part, results: Results) -> Iterator[dict[str, str]]:
    """The table of a part."""
    names = ("ERM", "ERM, twice the steps")
    erm, twice = (measured(part, method(name), results) for name in names)
    for of in map(method, part.methods):
        values = measured(part, of, results)
        if values is None or erm is None or twice is None:
            continue
        value = chosen_value(part, of, results)
        at_edge = of.tuned and value in (values_of(part, of)[0], values_of(part, of)[-1])
        mean, half = difference(values, np.zeros(len(values))).mean, difference(values, values * 0).half
        yield {
            "method": of.name,
            "chosen": f"{of.tuned} {value:g}{', at the edge' if at_edge else ''}" if of.tuned else "",
            "validation": f"{100 * measured(part, of, results, 'val').mean():.1f}",
            "left out": f"{mean:.1f} ± {half:.1f}",
            "− ERM": "" if of.name == names[0] else str(difference(values, erm)),
            "− ERM, twice the steps": "" if of.name in names else str(difference(values, twice)),
            "wins": "" if of.name == names[0] else "{0.wins} of {0.n}".format(difference(values, erm)),
        }


def markdown(table: Sequence[Mapping[str, str]]) -> str:
    titles = list(table[0])
    lines = [titles, ["---"] * len(titles), *([row[title] for title in titles] for row in table)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def primary(stores: Mapping[str, Results]) -> list[dict[str, str]]:
    """The comparisons that are tested, corrected together; one that has not been run counts as p = 1."""
    found = []
    for part_name, name, against in PRIMARY:
        part = next(part for part in PARTS if part.name == part_name)
        values = [measured(part, method(one), stores[part_name]) for one in (name, against)]
        if all(one is not None for one in values):
            found.append((part_name, f"{name} − {against}", difference(*values)))
    corrected = holm([one.p for *_, one in found] + [1.0] * (len(PRIMARY) - len(found)))[: len(found)]
    return [
        {
            "part": part_name,
            "comparison": title,
            "points": str(one),
            "wins": f"{one.wins} of {one.n}",
            "p": f"{one.p:.4f}",
            "p, corrected": f"{p:.4f}",
        }
        for (part_name, title, one), p in zip(found, corrected, strict=True)
    ]


def across(stores: Mapping[str, Results]) -> list[dict[str, str]]:
    """A row for each part: what the main methods gain, and how the domains' gradients lie to each other."""
    found = []
    pairs = (
        ("SAM", "ERM"),
        ("RoGA", "ERM"),
        ("RoGA", "ERM, twice the steps"),
        ("RoGA", "ERM, chosen steps"),
        ("RoGA", "ERM, chosen weight decay"),
        ("RoGA", "SAM"),
        ("RoGA", "RoGA, random parts"),
    )
    for part in PARTS:
        results = stores[part.name]
        erm = measured(part, method("ERM"), results)
        if erm is None or measured(part, method("RoGA"), results) is None:
            continue
        row = {"part": part.name, "ERM": f"{100 * erm.mean():.1f}"}
        for name, against in pairs:
            both = [measured(part, method(one), results) for one in (name, against)]
            known = {name, against} <= set(part.methods) and all(one is not None for one in both)
            row[f"{name} − {against}"] = str(difference(*both)) if known else ""
        row["cosine"] = f"{measured(part, method('RoGA'), results, 'cosine').mean():.2f}"
        found.append(row)
    return found


def over_rho(part: Part, results: Results) -> list[dict[str, str]]:
    """Gain over ERM at every value that was tried, on the selection seeds: how the methods' ρ compare."""
    found = []
    tuned = [method(name) for name in part.methods if method(name).tuned]
    for of in tuned:
        for value in values_of(part, of):
            gains = curve(part, of, value, results)
            if gains is not None:
                found.append(
                    {
                        "method": of.name,
                        "value": f"{of.tuned} {value:g}",
                        "validation − ERM": str(gains[0]),
                        "left out − ERM": str(gains[1]),
                        "alpha ratio": gains[2],
                    }
                )
    return found


def curve(
    part: Part, of: Method, value: float, results: Results
) -> tuple[Difference, Difference, str] | None:
    """Gains over ERM on validation and on the left-out environment, on the selection seeds; and ``alpha_ratio``."""
    try:
        start = chosen_value(part, method(of.like), results) if of.like else None
        own = [results[setting(part, of, value, start), seed] for seed in part.selection_seeds]
        erm = [results[setting(part, method("ERM"), None), seed] for seed in part.selection_seeds]
    except KeyError:
        return None
    ratio = np.mean([row["alpha_ratio"] for row in own])
    shown = "" if np.isnan(ratio) else f"{ratio:.3f}"
    val, test = (difference([r[key] for r in own], [r[key] for r in erm]) for key in ("val", "test"))
    return val, test, shown


def show(folder: Path, pictures: Path | None) -> None:
    """Print all tables; draw the figures into ``pictures``."""
    stores = {part.name: Store(folder, part).results for part in PARTS}
    print("## Tested\n\n" + markdown(primary(stores) or [{"none": "yet"}]))
    print("\n## All parts\n\n" + markdown(across(stores) or [{"none": "yet"}]))
    for part in PARTS:
        table = list(rows(part, stores[part.name]))
        if table:
            print(f"\n## {part.name}\n\n{markdown(table)}")
    for part in (BASE, PARTS[1]):
        table = over_rho(part, stores[part.name])
        if table:
            print(f"\n## {part.name}: every value, on the selection seeds\n\n{markdown(table)}")
    left = {part.name: len(due(part, stores[part.name])) for part in PARTS}
    print("\nIncomplete:", ", ".join(name for name, n in left.items() if n) or "nothing")
    if pictures is not None:
        draw(stores, pictures)


def draw(stores: Mapping[str, Results], pictures: Path) -> None:
    """Two figures: gains in every part, and gains over ρ in the base part."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    colours = {
        "SAM": "#0072b2",
        "RoGA": "#d55e00",
        "RoGA, random parts": "#cc79a7",
        "ERM, twice the steps": "#999999",
        "ERM, chosen steps": "#56b4e9",
        "ERM, chosen weight decay": "#009e73",
    }
    parts = [
        part
        for part in PARTS
        if measured(part, method("ERM"), stores[part.name]) is not None
        and measured(part, method("RoGA"), stores[part.name]) is not None
    ]
    pictures.mkdir(parents=True, exist_ok=True)
    if parts:
        figure, axes = plt.subplots(figsize=(8, 1.2 + 0.55 * len(parts)), layout="constrained")
        names = list(colours)
        for row, part in enumerate(parts):
            erm = measured(part, method("ERM"), stores[part.name])
            for k, name in enumerate(names):
                values = measured(part, method(name), stores[part.name]) if name in part.methods else None
                if values is not None:
                    one = difference(values, erm)
                    axes.errorbar(
                        one.mean,
                        row + (k - 2.5) * 0.13,
                        xerr=one.half,
                        fmt="o",
                        markersize=4,
                        color=colours[name],
                        label=name if part is BASE else None,
                    )
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(range(len(parts)), [part.name for part in parts])
        axes.set_ylim(len(parts) - 0.5, -0.5)
        axes.grid(axis="x", alpha=0.3)
        axes.set_xlabel("gain over ERM on the left-out environment, percentage points (95 % interval)")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
        figure.savefig(pictures / "when-it-helps.png", dpi=110)
        plt.close(figure)
    shown = ("SAM", "RoGA", "RoGA, random parts")
    figure, both = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for axes, part in zip(both, (BASE, PARTS[1]), strict=True):
        for shift, name in zip((0.96, 1, 1.04), shown, strict=True):  # side by side where they coincide
            found = [(rho, curve(part, method(name), rho, stores[part.name])) for rho in part.rho]
            found = [(rho, gains[1]) for rho, gains in found if gains is not None]
            if found:
                axes.errorbar(
                    [shift * rho for rho, _ in found],
                    [gain.mean for _, gain in found],
                    yerr=[gain.half for _, gain in found],
                    marker="o",
                    markersize=4,
                    capsize=2,
                    color=colours[name],
                    label=name,
                )
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_ylim(-6, 9)
        axes.set_xticks(part.rho, [f"{rho:g}" for rho in part.rho], minor=False)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.set_title(f"{part.name}{', 40 % noise' if part is BASE else ''}", fontsize=10)
        axes.set_xlabel("ρ (what lies below the frame failed to train)" if part is BASE else "ρ")
    both[0].set_ylabel("left-out gain over ERM, points")
    both[0].legend(frameon=False)
    figure.savefig(pictures / "when-it-helps-rho.png", dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    folder = Path(__file__).with_suffix("")
    parser.add_argument("command", choices=("run", "show"))
    parser.add_argument("--data_dir", type=Path)
    parser.add_argument("--idx", type=Path)
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--store", type=Path, default=folder, help="folder of results (default: beside this)")
    parser.add_argument("--part", nargs="+", choices=[part.name for part in PARTS], metavar="NAME")
    parser.add_argument("--n_workers", type=int, default=1, help="processes of one thread")
    parser.add_argument("--dry_run", action="store_true", help="say how many runs and hours there are")
    parser.add_argument("--pictures", type=Path, help="folder for the figures")
    args = parser.parse_args()
    parts = [part for part in RUN_ORDER if args.part is None or part.name in args.part]
    if args.command == "show":
        show(args.store, args.pictures)
        return
    if args.dry_run:
        total = 0.0
        for part in parts:
            (count, hours), done = number_of_runs(part), len(Store(args.store, part).rows)
            total += hours if part is not RUN_ORDER[0] else 0.0
            print(f"{part.name}: {count} runs at most, {done} done; about {hours:.2f} hours of one core")
        print(f"all: about {total:.1f} hours of one core")
        return
    if args.data_dir is None:
        parser.error("--data_dir is needed to run")
    prepare(parts, args.data_dir, args.idx, args.photographs)
    run_parts(parts, args.store, args.data_dir, args.photographs, args.n_workers)


if __name__ == "__main__":
    main()
