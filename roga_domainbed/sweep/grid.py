"""The grid of a sweep: one dict of train arguments a job, in upstream's order and with upstream's seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from roga_domainbed.catalog import DATASETS
from roga_domainbed.errors import RogaError
from roga_domainbed.seeds import seed_hash


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


def make_args_list(
    n_trials: int,
    dataset_names: Iterable[str],
    algorithms: Sequence[str],
    n_hparams_from: int,
    n_hparams: int,
    steps: int | None,
    data_dir: str | None,
    task: str,
    holdout_fraction: float,
    single_test_envs: bool,
    hparams: str | None,
    *,
    test_envs: list[int] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """The train arguments of every job; trial is the outermost loop, then dataset, algorithm, test envs, hparams.

    The positional arguments are upstream's. What is not given does not enter the dicts: the folder of a job is
    a hash of its dict, and upstream's arguments must give upstream's folders.

    Args:
        n_trials: trial seeds 0 … n_trials-1.
        dataset_names: registered names.
        algorithms: registered names.
        n_hparams_from: first hparams_seed; 0 is the defaults.
        n_hparams: one past the last hparams_seed.
        steps: of every job; None for the dataset's own.
        data_dir: passed on.
        task: passed on.
        holdout_fraction: passed on.
        single_test_envs: each environment alone; otherwise also every pair, for leave-one-domain-out.
        hparams: JSON text, passed on as it is; None for none.
        test_envs: hold out these together in every job, instead of a combination each.
        extra: further train arguments by name; those that are None are left out.
    """
    jobs = []
    for trial_seed in range(n_trials):
        for dataset in dataset_names:
            for algorithm in algorithms:
                for envs in _held_out(dataset, single_test_envs, test_envs):
                    for hparams_seed in range(n_hparams_from, n_hparams):
                        args = {
                            "dataset": dataset,
                            "algorithm": algorithm,
                            "test_envs": envs,
                            "holdout_fraction": holdout_fraction,
                            "hparams_seed": hparams_seed,
                            "data_dir": data_dir,
                            "task": task,
                            "trial_seed": trial_seed,
                            "seed": seed_hash(dataset, algorithm, envs, hparams_seed, trial_seed),
                        }
                        optional = {"steps": steps, "hparams": hparams, **(extra or {})}
                        args.update({name: value for name, value in optional.items() if value is not None})
                        jobs.append(args)
    return jobs


def _held_out(dataset: str, single: bool, test_envs: list[int] | None) -> list[list[int]]:
    if test_envs is not None:
        return [list(test_envs)]
    n = len(DATASETS.get(dataset).environments)
    return [[i] for i in range(n)] if single else all_test_env_combinations(n)
