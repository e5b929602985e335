"""The in-split and out-split of each environment: pure functions of manifest columns.

They mean what they mean in DomainBed: a training environment is trained on *in* and validated on *out*; a test
environment's *in* gives the score in the tables, its *out* serves selection only.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from datasets_ext.groups import group_keys
from roga_domainbed.errors import Problems, RogaError, unknown_name
from roga_domainbed.seeds import seed_hash, shuffled

MODES = ("official", "group", "frame")

Split = tuple[list[int], list[int]]


def split_indices(
    mode: str,
    environments: Sequence[pd.DataFrame],
    names: Sequence[str],
    trial_seed: int,
    holdout_fraction: float,
    test_envs: Collection[int],
    same_source: Collection[Collection[str]] = (),
    families: Sequence[str] = (),
) -> list[Split]:
    """The in- and out-indices of every environment.

    Args:
        mode: ``official``: the parts that the dataset's authors published; ``group``: parts that share no recording
            and no person; ``frame``: DomainBed's own, which puts frames of one video on both sides.
        environments: manifest rows of each environment; indices count from 0 in their order.
        names: the environments' names, for messages.
        trial_seed: DomainBed's ``--trial_seed``; ``official`` uses it only to cut a missing validation part.
        holdout_fraction: share of frames to hold out, in (0, 1).
        test_envs: indices of the held-out environments.
        same_source: sets of recordings of one source video. ``group`` keeps a set together; ``official`` trains on
            none of a set that is also in val or test; ``frame`` ignores them.
        families: of each environment, for ``group_by_family``; by default those of ``families_of``.

    Returns:
        A pair (in, out) for each environment.

    Raises:
        RogaError: unknown mode, no official split, too few groups.
    """
    if mode == "frame":
        return frame([len(rows) for rows in environments], trial_seed, holdout_fraction)
    if mode == "official":
        parts = official(environments, names, trial_seed, holdout_fraction)
        parts = without_straddlers(parts, environments, same_source)
    elif mode == "group":
        families = families or families_of(environments, names, same_source)
        parts = group_by_family(environments, families, trial_seed, holdout_fraction, test_envs, same_source)
    else:
        raise RogaError(unknown_name("split", mode, MODES))
    return expand(parts, names, test_envs)


def expand(parts: Sequence[np.ndarray], names: Sequence[str], test_envs: Collection[int]) -> list[Split]:
    """Parts to indices: train and val in a training environment, test and val in a test environment.

    If a test environment has no val part, *out* is its test part again: the reported score must cover the whole
    published part, and *out* of a test environment serves only oracle selection, which is labelled as such.

    Args:
        parts: ``train``, ``val``, ``test`` or empty for each row of each environment; rows with an empty part are
            left out.
        names: the environments' names.
        test_envs: indices of the held-out environments.

    Raises:
        RogaError: an environment has no rows where it needs some.
    """
    problems, splits = Problems(), []
    for index, (part, name) in enumerate(zip(parts, names, strict=True)):
        is_test = index in test_envs
        needed = ("test",) if is_test else ("train", "val")
        for wanted in needed:
            if not (part == wanted).any():
                role = "test" if is_test else "training"
                problems.add(
                    f"environment {name!r} has no {wanted} rows in this split and is a {role} environment"
                )
        chosen = _where(part, needed[0])
        splits.append((chosen, _where(part, "val") or chosen))
    problems.check()
    return splits


def official(
    environments: Sequence[pd.DataFrame], names: Sequence[str], trial_seed: int, holdout_fraction: float
) -> list[np.ndarray]:
    """The published parts; if a dataset has no validation part, it is cut from train by recording.

    All such environments are cut together, because they may share recordings.
    """
    problems = Problems()
    for rows, name in zip(environments, names, strict=True):
        if not (rows["split"] != "").any():
            problems.add(
                f"environment {name!r} has no official split: prepare it with the dataset's split lists, or use "
                "--split group"
            )
    problems.check()
    parts = [rows["split"].to_numpy(dtype=object) for rows in environments]
    lacking = [index for index, part in enumerate(parts) if "train" in part and "val" not in part]
    if lacking:
        train = pd.concat([environments[i].loc[parts[i] == "train", ["recording"]] for i in lacking])
        frames = train["recording"].value_counts()
        order = sorted(frames.index)
        np.random.RandomState(seed_hash(trial_seed, "val")).shuffle(order)
        held = set(_take(order, frames, holdout_fraction * len(train)))
        for i in lacking:
            cut = (parts[i] == "train") & environments[i]["recording"].isin(held).to_numpy()
            parts[i] = np.where(cut, "val", parts[i])
    return parts


def without_straddlers(
    parts: Sequence[np.ndarray],
    environments: Sequence[pd.DataFrame],
    same_source: Collection[Collection[str]],
) -> list[np.ndarray]:
    """Parts without the train rows whose source video also gave recordings to val or test.

    All train rows linked to such a recording go too: its fakes, and the other half of its pair.

    Args:
        parts: ``train``, ``val``, ``test`` or empty for each row of each environment.
        environments: the manifest rows.
        same_source: sets of recordings of one source video.
    """
    parts = list(parts)
    if not same_source:
        return parts
    parts_of: dict[str, set[str]] = {}
    for rows, part in zip(environments, parts, strict=True):
        pairs = pd.DataFrame({"recording": rows["recording"].to_numpy(), "part": part}).drop_duplicates()
        for recording, name in pairs.itertuples(index=False, name=None):
            parts_of.setdefault(recording, set()).add(name)
    straddling = set()
    for recordings in same_source:
        reached = set().union(*(parts_of.get(recording, ()) for recording in recordings))
        if "train" in reached and reached & {"val", "test"}:
            straddling.update(recordings)
    columns = [
        rows.loc[part == "train", ["recording", "identities"]]
        for rows, part in zip(environments, parts, strict=True)
    ]
    train = pd.concat(columns, ignore_index=True)
    keys = group_keys(train)
    dropped = keys.isin(set(keys[train["recording"].isin(straddling)])).to_numpy()
    ends = np.cumsum([len(part) for part in columns])
    for index, mine in enumerate(np.split(dropped, ends[:-1])):
        parts[index] = parts[index].copy()
        parts[index][np.flatnonzero(parts[index] == "train")[mine]] = ""
    return parts


def group(
    environments: Sequence[pd.DataFrame],
    trial_seed: int,
    holdout_fraction: float,
    held_out: Sequence[str] = ("val", "test"),
    same_source: Collection[Collection[str]] = (),
) -> list[np.ndarray]:
    """Parts that share no recording and no person, over all environments.

    Rows that share a recording, a person or a source video form a group. Groups are shuffled and assigned to the parts
    ``held_out``, in their order, until each has ``holdout_fraction`` of the frames; the rest is train.

    Raises:
        RogaError: too few groups, or too large ones, to fill all parts.
    """
    columns = pd.concat([rows[["recording", "identities"]] for rows in environments], ignore_index=True)
    keys = group_keys(columns, same_source)
    frames = keys.value_counts()
    order = sorted(frames.index)
    np.random.RandomState(seed_hash(trial_seed, "group")).shuffle(order)
    part_of = dict.fromkeys(order, "train")
    n_dealt = 0
    for part in held_out:
        taken = _take(order[n_dealt:], frames, holdout_fraction * len(columns))
        n_dealt += len(taken)
        part_of |= dict.fromkeys(taken, part)
    if n_dealt >= len(order):
        raise RogaError(
            f"--split group: {len(order)} groups that share no recording and no person are too few for the parts "
            f"train, {', '.join(held_out)} with a holdout fraction of {holdout_fraction}; use a smaller one, or "
            "--split official"
        )
    parts = keys.map(part_of).to_numpy(dtype=object)
    ends = np.cumsum([len(rows) for rows in environments])
    return np.split(parts, ends[:-1])


def families_of(
    environments: Sequence[pd.DataFrame], names: Sequence[str], same_source: Collection[Collection[str]]
) -> list[str]:
    """The family of each environment: those that share a recording or a person, directly or by a chain, are of one.

    A family is named by its members.
    """
    # As a person whom every row of it shows, an environment is in one group with all that it shares somebody with.
    columns = [
        rows[["recording"]].assign(identities=rows["identities"] + f"+environment {env}")
        for env, rows in enumerate(environments)
    ]
    keys = group_keys(pd.concat(columns, ignore_index=True), same_source)
    ends = np.cumsum([len(rows) for rows in environments])[:-1]
    groups = [set(part) or {env} for env, part in enumerate(np.split(keys.to_numpy(), ends))]
    return [
        " + ".join(name for name, other in zip(names, groups, strict=True) if other == own) for own in groups
    ]


def group_by_family(
    environments: Sequence[pd.DataFrame],
    families: Sequence[str],
    trial_seed: int,
    holdout_fraction: float,
    test_envs: Collection[int],
    same_source: Collection[Collection[str]],
) -> list[np.ndarray]:
    """``group`` for each family: all test if it is only tested on, without a test part if it is only trained on.

    Raises:
        RogaError: as ``group``; of several families, it names the one.
    """
    parts: list[np.ndarray] = [np.empty(0, dtype=object)] * len(families)
    for family in dict.fromkeys(families):
        members = [index for index, name in enumerate(families) if name == family]
        rows = [environments[index] for index in members]
        tested = {index in test_envs for index in members}
        if tested == {True}:
            cut = [np.full(len(part), "test", dtype=object) for part in rows]
        else:
            held_out = ("val",) if tested == {False} else ("val", "test")
            try:
                cut = group(rows, trial_seed, holdout_fraction, held_out, same_source)
            except RogaError as error:
                where = f"{family}: " if len(set(families)) > 1 else ""
                raise RogaError(f"{where}{error}") from None
        for index, part in zip(members, cut, strict=True):
            parts[index] = part
    return parts


def frame(lengths: Sequence[int], trial_seed: int, holdout_fraction: float) -> list[Split]:
    """DomainBed's rule, bit for bit: shuffle each environment's frames and hold out the first ones."""
    splits = []
    for index, length in enumerate(lengths):
        keys = shuffled(length, seed_hash(trial_seed, index))
        n_out = int(length * holdout_fraction)
        splits.append((keys[n_out:], keys[:n_out]))
    return splits


def _where(part: np.ndarray, wanted: str) -> list[int]:
    return np.flatnonzero(part == wanted).tolist()


def _take(order: Sequence[str], frames: pd.Series, wanted: float) -> list[str]:
    """The first keys of ``order`` that together have at least ``wanted`` frames; at least one."""
    taken, total = [], 0
    for key in order:
        taken.append(key)
        total += frames[key]
        if total >= wanted:
            break
    return taken
