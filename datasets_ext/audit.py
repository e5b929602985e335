"""What trains, what selects and what is tested on: which videos, recordings and people do they have in common?

A leak is

- a video, recording or person of what is tested on that a model was trained with, or selected by;
- a video or recording on both sides of training and selection: the score that selects is then one of remembering.

People alone may be on both sides of training and selection: data sets that publish no validation part have few people,
and the number that is reported does not come from there. That is said, and is no leak.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pandas as pd

from roga_domainbed.errors import RogaError

#: Role → the word for it. In-splits of training environments train and their out-splits select; in-splits of test
#: environments are tested on. A test environment's out-split serves oracle selection alone, which says so itself.
ROLES = {"train": "training", "select": "selection", "test": "test"}
KINDS = ("videos", "recordings", "identities")

_N_SHOWN = 3
_Keys = dict[str, dict[str, str]]  # kind → key → how it is shown


@dataclass(frozen=True)
class Overlap:
    """What two roles have in common.

    Attributes:
        kind: one of ``KINDS``.
        first: a role.
        second: another role.
        names: everything they have in common, sorted.
        is_leak: False if it is only worth saying.
    """

    kind: str
    first: str
    second: str
    names: tuple[str, ...]
    is_leak: bool

    def __str__(self) -> str:
        shown = ", ".join(self.names[:_N_SHOWN]) + (", …" if len(self.names) > _N_SHOWN else "")
        kind = self.kind if len(self.names) > 1 else {"identities": "identity"}.get(self.kind, self.kind[:-1])
        return f"{ROLES[self.first]} and {ROLES[self.second]} share {len(self.names)} {kind}: {shown}"


@dataclass(frozen=True)
class Audit:
    """The result of ``audit``.

    Attributes:
        counts: role → ``frames`` and each of ``KINDS`` → how many.
        overlaps: what any two roles have in common, leaks first.
        n_unknown: role → videos of which nobody has said who is in them; no leak of people can be seen there.
    """

    counts: dict[str, dict[str, int]]
    overlaps: tuple[Overlap, ...]
    n_unknown: dict[str, int]

    @property
    def leaks(self) -> tuple[Overlap, ...]:
        """The overlaps that spoil a result."""
        return tuple(overlap for overlap in self.overlaps if overlap.is_leak)

    def check(self) -> None:
        """Raise ``RogaError`` if anything leaks: how much of what, and three names of each."""
        if self.leaks:
            lines = "".join(f"\n  {overlap}" for overlap in self.leaks)
            raise RogaError(
                f"{len(self.leaks)} leaks between training, selection and test:{lines}\n{_ADVICE}"
            )

    def __str__(self) -> str:
        lines = ["", f"  {'':<10}" + "".join(f"{kind:>12}" for kind in ("frames", *KINDS))]
        lines += [
            f"  {ROLES[role]:<10}" + "".join(f"{counts[kind]:12d}" for kind in ("frames", *KINDS))
            for role, counts in self.counts.items()
        ]
        lines += [f"  {'leak' if overlap.is_leak else 'note'}: {overlap}" for overlap in self.overlaps]
        lines += [
            f"  note: nobody has published who is in {number} of the {self.counts[role]['videos']} {ROLES[role]} videos"
            for role, number in self.n_unknown.items()
            if number
        ]
        if not self.leaks:
            lines.append("  no leak")
        return "\n".join(lines[1:])


_ADVICE = (
    "Use --split official or group, and do not train on one version of a data set and test on another; a frame "
    "split always leaks"
)


def audit(
    splits: Sequence[tuple[Sequence[int], Sequence[int]]],
    rows: Sequence[pd.DataFrame],
    test_envs: Collection[int],
) -> Audit:
    """Compare what trains, what selects and what is tested on.

    Two rows are of one video if data set, method, recording and video agree, in whatever environment they are: that is
    what FaceForensics++'s manipulations have of their common reals. Recordings and people are compared as text; where
    data sets are combined, their rows' keys must tell them apart (``datasets_ext.combined``). Empty keys are of nobody.

    Args:
        splits: the (in, out) indices of each environment.
        rows: the manifest rows of each environment, that the indices count.
        test_envs: indices of the environments that are not trained on.
    """
    chosen: dict[str, list[pd.DataFrame]] = {role: [] for role in ROLES}
    for index, ((in_split, out_split), env_rows) in enumerate(zip(splits, rows, strict=True)):
        if index in test_envs:
            chosen["test"].append(env_rows.iloc[list(in_split)])
        else:
            chosen["train"].append(env_rows.iloc[list(in_split)])
            chosen["select"].append(env_rows.iloc[list(out_split)])
    keys = {role: _keys(parts) for role, parts in chosen.items()}
    n_unknown = {
        role: len(_keys([part[part["identities"] == ""] for part in parts])["videos"])
        for role, parts in chosen.items()
    }
    counts = {
        role: {"frames": sum(map(len, chosen[role]))} | {kind: len(keys[role][kind]) for kind in KINDS}
        for role in ROLES
    }
    overlaps = []
    for first, second in (("train", "test"), ("select", "test"), ("train", "select")):
        for kind in KINDS:
            common = keys[first][kind].keys() & keys[second][kind].keys()
            if common:
                names = tuple(sorted(keys[first][kind][key] for key in common))
                is_leak = second == "test" or kind != "identities"
                overlaps.append(Overlap(kind, first, second, names, is_leak))
    return Audit(counts, tuple(sorted(overlaps, key=lambda overlap: not overlap.is_leak)), n_unknown)


def _keys(parts: Sequence[pd.DataFrame]) -> _Keys:
    found: _Keys = {kind: {} for kind in KINDS}
    for rows in parts:
        columns = ["dataset", "method", "recording", "video"]
        for values in rows[columns].drop_duplicates().itertuples(index=False, name=None):
            dataset, method, recording, video = values
            found["videos"]["\0".join(values)] = f"{dataset}/{method}/{video}"
            if recording:
                found["recordings"][recording] = recording
        for people in rows["identities"].unique():
            found["identities"].update((person, person) for person in people.split("+") if person)
    return found
