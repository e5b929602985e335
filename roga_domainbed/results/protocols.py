"""Protocols: which runs of a dataset stand in one table, because what they train on and are tested on is comparable.

*Leave one out*: each run holds out one environment, and is the number of its column. Runs with pairs of these
environments are its validation runs, for leave-one-domain-out selection. *A training set*: runs that train on the same
environments and hold out all others together, as in single-source studies; each training set has a table of its own.
A sweep, or a folder of several, may have both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from roga_domainbed.catalog import DATASETS
from roga_domainbed.results.runs import Run
from roga_domainbed.results.selection import environments_in, held_out_with

#: What ``--by`` may be.
TEST_ENVS, TRAIN_ENVS = "test_envs", "train_envs"

Sets = Mapping[str, set[tuple[int, ...]]]


@dataclass(frozen=True)
class Planned:
    """What the plans of sweeps say is held out: dataset → sets of environments, each in ascending order.

    Attributes:
        one_by_one: of plans that hold out single environments, and pairs to select by.
        by_training_set: of plans that name what is trained on, or hold out several environments in every run.
        is_complete: whether the plan of every folder is known.
    """

    one_by_one: Sets = field(default_factory=dict)
    by_training_set: Sets = field(default_factory=dict)
    is_complete: bool = False

    def test_envs(self, dataset: str) -> frozenset[int] | None:
        """The environments that are held out one by one; None if no plan tells."""
        sets = self.one_by_one.get(dataset)
        return frozenset(env for envs in sets for env in envs) if self.is_complete and sets else None


@dataclass(frozen=True)
class Protocol:
    """Runs of one dataset whose numbers stand in one table.

    Attributes:
        dataset: its name.
        runs: those of the protocol.
        trained_on: the names of the training environments, where all runs have the same; else empty.
        held_out: all other environments, where all runs train on the same; else empty.
        one_by_one: whether only runs that hold out an environment alone give its number.
        planned: the environments that the plan holds out; None if it is not known.
    """

    dataset: str
    runs: tuple[Run, ...] = field(repr=False)
    trained_on: str = ""
    held_out: tuple[int, ...] = ()
    one_by_one: bool = False
    planned: frozenset[int] | None = None

    @property
    def name(self) -> str:
        """The name of its table."""
        return table_name(self.dataset, self.trained_on)

    def sets(self, env: int) -> tuple[tuple[int, ...], ...]:
        """The sets of environments that the runs which count for ``env`` hold out; see ``held_out_with``."""
        if self.held_out or self.one_by_one:
            return (self.held_out or (env,),)
        if env not in self._sets:
            self._sets[env] = held_out_with(self.runs, env)
        return self._sets[env]

    @cached_property
    def _sets(self) -> dict[int, tuple[tuple[int, ...], ...]]:
        return {}


@dataclass(frozen=True)
class Group:
    """Protocols whose numbers may be averaged, and whose rows are compared over all of them.

    Attributes:
        protocols: with a table each.
        training_sets_of: the dataset, where the protocols are several training sets of it; else empty.
    """

    protocols: tuple[Protocol, ...]
    training_sets_of: str = ""

    @cached_property
    def runs(self) -> list[Run]:
        """Those of all its protocols."""
        return [run for protocol in self.protocols for run in protocol.runs]


def table_name(dataset: str, trained_on: str) -> str:
    """``SynthFake``, or ``SynthFake, trained on DF`` where a table is of one training set."""
    return f"{dataset}, trained on {trained_on}" if trained_on else dataset


def environment_name(dataset: str, env: int) -> str:
    """The name of an environment, as the tables' columns have it: the catalog's, else ``env<index>``."""
    names = DATASETS.get(dataset).environments if dataset in DATASETS else ()
    return names[env] if env < len(names) else f"env{env}"


def environments_of(dataset: str, runs: Iterable[Run]) -> list[int]:
    """The environments of a dataset: those that the catalog knows, and those that its ``runs`` have a metric of."""
    n_known = len(DATASETS.get(dataset).environments) if dataset in DATASETS else 0
    return sorted(environments_in(runs).union(range(n_known)))


def by_test_env(runs: Iterable[Run]) -> list[Group]:
    """One table a dataset, with a column for each test environment, whatever the runs train on; as one group."""
    return [Group(tuple(Protocol(dataset, tuple(own)) for dataset, own in _by_dataset(runs).items()))]


def grouped(runs: Iterable[Run], by: str | None = None, planned: Planned | None = None) -> list[Group]:
    """The protocols of all ``runs``, in groups.

    The first group has the datasets with one protocol alone, and those that are left out one by one. Then comes a group
    for each dataset and size of its training sets.

    Args:
        runs: of a sweep.
        by: ``test_envs`` for one table a dataset, of the runs that leave one out, or of all if there are none;
            ``train_envs`` for a table of each training set; None for both, each for the runs that are made for it:
            pairs of environments that are also held out alone are validation runs of leave-one-domain-out, unless a
            plan says otherwise.
        planned: what the plans say.
    """
    planned = planned or Planned()
    first: list[Protocol] = []
    others: dict[tuple[str, int], list[Protocol]] = {}
    for dataset, own in _by_dataset(runs).items():
        found = _protocols(dataset, own, planned, by)
        if by == TEST_ENVS:
            found = [protocol for protocol in found if not protocol.held_out] or [
                Protocol(dataset, tuple(own))
            ]
        for protocol in found:
            if len(found) == 1 or not protocol.held_out:
                first.append(protocol)
            else:
                others.setdefault((dataset, len(protocol.held_out)), []).append(protocol)
    groups = [Group(tuple(first))] if first else []
    return groups + [Group(tuple(own), dataset) for (dataset, _), own in others.items()]


def _protocols(dataset: str, runs: Sequence[Run], planned: Planned, by: str | None) -> list[Protocol]:
    by_training_set, one_by_one = _sorted_out({run.held_out for run in runs}, dataset, planned)
    if by == TRAIN_ENVS:
        by_training_set, one_by_one = by_training_set | one_by_one, set()
    found = []
    if one_by_one:
        own = tuple(run for run in runs if run.held_out in one_by_one)
        found.append(Protocol(dataset, own, one_by_one=True, planned=planned.test_envs(dataset)))
    every = environments_of(dataset, runs)
    # small training sets first, those of one size in the order of their environments
    for envs in sorted(by_training_set, key=lambda envs: (len(envs), envs), reverse=True):
        own = tuple(run for run in runs if run.held_out == envs)
        names = " + ".join(environment_name(dataset, env) for env in every if env not in envs)
        found.append(Protocol(dataset, own, names or "nothing", envs))
    return found


def _sorted_out(
    sets: set[tuple[int, ...]], dataset: str, planned: Planned
) -> tuple[set[tuple[int, ...]], set[tuple[int, ...]]]:
    """Those of ``sets`` that are held out by training set, and those that are held out one by one, or to select by."""
    by_training_set = sets & planned.by_training_set.get(dataset, set())
    one_by_one = sets & planned.one_by_one.get(dataset, set())
    unknown = sets - by_training_set - one_by_one
    one_by_one |= {envs for envs in unknown if len(envs) == 1}
    alone = {envs[0] for envs in one_by_one if len(envs) == 1}
    one_by_one |= {envs for envs in unknown if len(envs) == 2 and not alone.isdisjoint(envs)}
    return by_training_set | (unknown - one_by_one), one_by_one


def _by_dataset(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Dataset → its runs that are tested on anything."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        if run.held_out:
            found.setdefault(run.args["dataset"], []).append(run)
    return found
