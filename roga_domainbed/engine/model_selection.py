"""Upstream's model-selection classes, over the rules of ``roga_domainbed.results.selection`` in compat mode."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from roga_domainbed.engine.lib.query import Q
from roga_domainbed.results.records import Record
from roga_domainbed.results.selection import RULES, UPSTREAM, choose, held_out, rank_runs


def get_test_records(records: Iterable[Record]) -> Q:
    """The records with exactly one test environment."""
    return Q([record for record in records if len(record["args"]["test_envs"]) == 1])


class SelectionMethod:
    """Chooses among the records of one (dataset, algorithm, trial, test environment); never instantiated."""

    rule: str
    name: str

    def __init__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is used as a class: call its methods without an instance")

    @classmethod
    def run_acc(cls, run_records: Iterable[Record]) -> dict[str, float] | None:
        """``val_acc`` and ``test_acc`` of what is chosen in one run, or None."""
        run = list(run_records)
        alone = get_test_records(run)
        if not len(alone):
            return None
        choice = choose(run, RULES.get(cls.rule), held_out(alone[0])[0], compat=UPSTREAM)
        return None if choice is None else {"val_acc": choice.val, "test_acc": choice.test}

    @classmethod
    def hparams_accs(cls, records: Iterable[Record]) -> Q:
        """(``run_acc``, records) of every ``hparams_seed``, best first."""
        records = list(records)
        alone = get_test_records(records)
        if not len(alone):
            return Q([])
        ranked = rank_runs(records, RULES.get(cls.rule), held_out(alone[0])[0], compat=UPSTREAM)
        return Q(
            [
                ({"val_acc": run.choice.val, "test_acc": run.choice.test}, Q(list(run.records)))
                for run in ranked
            ]
        )

    @classmethod
    def sweep_acc(cls, records: Iterable[Record]) -> float | None:
        """``test_acc`` of the best hparams, or None."""
        ranked = cls.hparams_accs(records)
        return ranked[0][0]["test_acc"] if len(ranked) else None


class IIDAccuracySelectionMethod(SelectionMethod):
    """Best mean accuracy on the out-splits of the training environments."""

    rule = "iid"
    name = RULES.get("iid").title


class LeaveOneOutSelectionMethod(SelectionMethod):
    """Best mean accuracy over the runs that held out one more environment."""

    rule = "loo"
    name = RULES.get("loo").title


class OracleSelectionMethod(SelectionMethod):
    """Last step, best accuracy on the out-split of the test environment."""

    rule = "oracle"
    name = RULES.get("oracle").title


class IIDAutoLRAccuracySelectionMethod(SelectionMethod):
    """As ``IIDAccuracySelectionMethod``, tested on the second stage of ``train_autolr``."""

    rule = "auto_lr"
    name = RULES.get("auto_lr").title

    @classmethod
    def run_acc(cls, run_records: Iterable[Record]) -> dict[str, float] | None:
        """As the base class; ``KeyError`` if a record has no second stage, as upstream."""
        run = list(run_records)
        _require_second_stage(run)
        return super().run_acc(run)

    @classmethod
    def hparams_accs(cls, records: Iterable[Record]) -> Q:
        """As the base class; ``KeyError`` if a record has no second stage, as upstream."""
        records = list(records)
        _require_second_stage(records)
        return super().hparams_accs(records)


def _require_second_stage(records: Iterable[Record]) -> None:
    for record in get_test_records(records):
        key = f"fd_env{held_out(record)[0]}_in_acc"
        if key not in record:
            raise KeyError(key)
