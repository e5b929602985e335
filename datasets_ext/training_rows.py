"""The training data as ``TrainingOptions`` say: pure functions of manifest columns, labels and indices.

Test environments are never touched, and of validation parts only the labels, by ``--label_noise``: runs with and
without these options stay comparable. ``training_data`` has the order in which they are applied.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from datasets_ext.groups import group_keys
from datasets_ext.manifest import FAKE, REAL, video_keys
from datasets_ext.splits import Split, frame
from datasets_ext.training_options import TrainingOptions
from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.seeds import generator, seed_hash

if TYPE_CHECKING:
    from roga_domainbed.input.environment import OpenDataset


def training_data(
    dataset: OpenDataset,
    mode: str,
    trial_seed: int,
    holdout_fraction: float,
    test_envs: Collection[int],
    options: TrainingOptions,
) -> tuple[list[Split], dict[int, np.ndarray]]:
    """The parts of every environment, and the labels of those in which some are drawn again.

    Somebody who collects data cuts and chooses by the labels there are. So the order is: the split, with ``strict``,
    which asks for no label; ``label_noise``; then, by the labels that this left, ``reals``, ``balance`` and
    ``train_fraction``. Nothing else but the split and ``strict`` changes which labels are drawn again.

    Args:
        dataset: its own ``split_indices`` carries out the mode; without it there is DomainBed's ``frame`` alone.
        mode: one that the dataset has.
        trial_seed: decides everything, with the environment's index.
        holdout_fraction: share of the out-split.
        test_envs: indices of the held-out environments.
        options: what of the training part is trained on, and with which labels.

    Returns:
        The (in, out) indices of each environment; environment → (N,) int64, its classes with label noise. Of the
        second, only training environments, and none without ``label_noise``.

    Raises:
        RogaError: options that need a manifest, without one; a training part of one class; see ``partition``.
    """
    trained = [index for index in range(len(dataset)) if index not in test_envs]
    by_label = options.label_noise > 0 and dataset.rows is not None
    if dataset.split_indices is not None:
        first = TrainingOptions(strict=options.strict) if by_label else options.of_manifest
        pairs = list(dataset.split_indices(mode, trial_seed, holdout_fraction, test_envs, **first.keyword()))
    elif options.of_manifest.given():
        flags = ", ".join(f"--{name}" for name in options.of_manifest.given())
        raise RogaError(f"{flags}: these need a manifest, which {dataset.name} does not have")
    else:
        pairs = frame([len(environment) for environment in dataset], trial_seed, holdout_fraction)
    noisy: dict[int, np.ndarray] = {}
    true = {i: _labels(dataset, i) for i in trained if options.label_noise > 0 or options.train_fraction < 1}
    whole = [in_split for in_split, _ in pairs]
    if options.label_noise > 0:
        for i in trained:
            noisy[i] = true[i].copy()
            labelled = np.array(sorted({*pairs[i][0], *pairs[i][1]}), dtype=np.int64)
            rng = generator(trial_seed, "label noise", i)
            units = _units(dataset[i].videos, labelled)
            noisy[i][labelled] = drawn_again(
                true[i][labelled], units, options.label_noise, dataset.num_classes, rng
            )
    if by_label:
        rows = [
            part.assign(label=noisy[i], video=video_keys("", part)) if i in noisy else part
            for i, part in enumerate(dataset.rows)
        ]
        pairs = keep(pairs, rows, dataset.names, trial_seed, test_envs, options)
    if options.train_fraction < 1:
        for i in trained:
            own = np.asarray(pairs[i][0], dtype=np.int64)
            rng = generator(trial_seed, "training fraction", i)
            units = _units(dataset[i].videos, own)
            stays = fraction(noisy.get(i, true[i])[own], units, options.train_fraction, rng)
            pairs[i] = (_those(pairs[i][0], stays), pairs[i][1])
    problems = Problems()
    for i, labels in noisy.items():
        if len(set(labels[pairs[i][0]])) < 2 <= len(set(true[i][whole[i]])):
            problems.add(
                f"--label_noise {options.label_noise:g}: with labels drawn again, the training part of environment "
                f"{dataset.names[i]!r} has one class; give a smaller share, more data or another --trial_seed"
            )
    problems.check()
    return pairs, noisy


def drawn_again(
    labels: np.ndarray, units: np.ndarray, share: float, n_classes: int, rng: np.random.Generator
) -> np.ndarray:
    """``labels``, with those of a share of the units drawn again, uniformly over all classes.

    A larger share draws the units of a smaller one again too, and gives them the same labels.

    Args:
        labels: (N,) classes.
        units: (N,) the unit of each sample, from 0; the samples of a unit get one label.
        share: of the units, in [0, 1]; of U units it is round(share · U).
        n_classes: how many classes there are. A label that is drawn again is the true one with probability
            1 / n_classes.
        rng: draws units and labels.
    """
    n_units = int(units.max(initial=-1)) + 1
    order, classes = rng.permutation(n_units), rng.integers(n_classes, size=n_units)
    n_drawn = round(share * n_units)
    drawn = np.full(n_units, -1)
    drawn[order[:n_drawn]] = classes[:n_drawn]
    return np.where(drawn[units] < 0, labels, drawn[units])


def fraction(labels: np.ndarray, units: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Which samples stay so that of each class a share of its units does.

    A larger share keeps the units of a smaller one.

    Args:
        labels: (N,) classes, equal within a unit.
        units: (N,) the unit of each sample, from 0.
        share: of the units of a class, in (0, 1]; of U units max(1, round(share · U)) stay.
        rng: chooses them.

    Returns:
        (N,) bool.
    """
    stays = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        own = np.unique(units[labels == label])
        kept = rng.permutation(own)[: max(1, round(share * len(own)))]
        stays |= (labels == label) & np.isin(units, kept)
    return stays


def _labels(dataset: OpenDataset, index: int) -> np.ndarray:
    environment = dataset[index]
    return environment.labels_of(list(range(len(environment)))).astype(np.int64)


def _units(videos: Sequence[str] | None, indices: np.ndarray) -> np.ndarray:
    """The unit of each of ``indices``, from 0: its video, in the order of their keys, or else itself."""
    if videos is None:
        return np.arange(len(indices))
    # Images of no known video are units of their own.
    keys = [str(i) if videos[i] is None else f"video {videos[i]}" for i in indices]
    return np.unique(keys, return_inverse=True)[1]


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
