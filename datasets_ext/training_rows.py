"""Reducing the training part as ``TrainingOptions`` say: pure functions of manifest columns and indices.

Validation and test parts are never touched, so runs with and without these options stay comparable.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from datasets_ext.groups import group_keys
from datasets_ext.manifest import FAKE, REAL
from datasets_ext.splits import Split
from datasets_ext.training_options import TrainingOptions
from roga_domainbed.errors import RogaError
from roga_domainbed.seeds import seed_hash


def keep(
    splits: Sequence[Split],
    environments: Sequence[pd.DataFrame],
    names: Sequence[str],
    trial_seed: int,
    test_envs: Collection[int],
    options: TrainingOptions,
) -> list[Split]:
    """The splits, with the in-splits of training environments reduced as ``options`` say.

    Args:
        splits: the (in, out) indices of each environment.
        environments: the manifest rows that the indices refer to.
        names: the environments' names, for messages.
        trial_seed: decides which environment gets which rows, and which videos stay.
        test_envs: indices of the held-out environments.
        options: ``strict`` is not applied here but in the split.
    """
    kept = list(splits)
    trained = [index for index in range(len(kept)) if index not in test_envs]
    if options.reals == "partitioned":
        chosen = {i: environments[i].iloc[kept[i][0]] for i in trained}
        for i, mine in partition(chosen, names, trial_seed).items():
            kept[i] = (_those(kept[i][0], mine), kept[i][1])
    if options.ratio is not None:
        for i in trained:
            rows = environments[i].iloc[kept[i][0]]
            kept[i] = (_those(kept[i][0], balance(rows, options.ratio, trial_seed, i)), kept[i][1])
    return kept


def partition(rows: dict[int, pd.DataFrame], names: Sequence[str], trial_seed: int) -> dict[int, np.ndarray]:
    """Divide the recordings and people that environments share among them.

    Rows that share a recording or a person form a group: in FaceForensics++ a pair of the official lists, with two
    reals and two fakes. The groups of several environments are shuffled and assigned to them in turn; a group's fakes
    go where its reals go. So no real and no person is in two environments, and each fake is beside its real.

    Args:
        rows: environment index → the manifest rows it trains on.
        names: the environments' names.
        trial_seed: shuffles the groups.

    Returns:
        Environment index → (N,) bool, the rows that it keeps.

    Raises:
        RogaError: no two environments share anything, or one would be left without a class.
    """
    columns = pd.concat([part[["recording", "identities"]] for part in rows.values()], ignore_index=True)
    ends = np.cumsum([len(part) for part in rows.values()])
    keys = dict(zip(rows, np.split(group_keys(columns).to_numpy(dtype=object), ends[:-1]), strict=True))
    owners: dict[str, list[int]] = {}
    for index, key in keys.items():
        for name in pd.unique(key):
            owners.setdefault(name, []).append(index)
    shared = sorted(name for name, indices in owners.items() if len(indices) > 1)
    if not shared:
        raise RogaError(
            "--reals partitioned: no two training environments share a recording or a person, so there is nothing to "
            "divide; leave it out"
        )
    np.random.RandomState(seed_hash(trial_seed, "reals")).shuffle(shared)
    n_dealt = dict.fromkeys(rows, 0)
    for name in shared:
        owner = min(owners[name], key=lambda index: (n_dealt[index], index))
        n_dealt[owner] += 1
        owners[name] = [owner]
    kept = {
        index: pd.Series(key)
        .map({name: index in owners[name] for name in pd.unique(key)})
        .to_numpy(dtype=bool)
        for index, key in keys.items()
    }
    lacking = [names[i] for i, mine in kept.items() if set(rows[i]["label"][mine]) != {REAL, FAKE}]
    if lacking:
        raise RogaError(
            f"--reals partitioned: {len(shared)} groups that share no recording and no person are too few for "
            f"{len(rows)} training environments: {', '.join(map(repr, lacking))} would be left without a class"
        )
    return kept


def balance(rows: pd.DataFrame, ratio: tuple[int, int], trial_seed: int, environment: int) -> np.ndarray:
    """Which rows stay so that real and fake videos are in ``ratio``: whole videos of one class are left out.

    Args:
        rows: the manifest rows that one environment trains on.
        ratio: (real, fake), both above 0.
        trial_seed: chooses the videos, with the environment's index.
        environment: that index.

    Returns:
        (N,) bool. The other class is complete, and at least one video of each stays.
    """
    videos = [sorted(rows["video"][rows["label"] == label].unique()) for label in (REAL, FAKE)]
    wanted = [
        min(len(own), max(1, round(len(other) * own_share / other_share)))
        for own, other, own_share, other_share in (
            (videos[REAL], videos[FAKE], ratio[0], ratio[1]),
            (videos[FAKE], videos[REAL], ratio[1], ratio[0]),
        )
    ]
    stays = np.ones(len(rows), dtype=bool)
    for label, names in enumerate(videos):
        if wanted[label] < len(names):
            np.random.RandomState(seed_hash(trial_seed, "balance", environment)).shuffle(names)
            dropped = rows["video"].isin(names[wanted[label] :]) & (rows["label"] == label)
            stays &= ~dropped.to_numpy()
    return stays


def _those(indices: list[int], mask: np.ndarray) -> list[int]:
    return np.asarray(indices)[mask].tolist()
