"""How long a training is that is not told: its dataset says."""

from __future__ import annotations

from roga_domainbed.host.backend import host
from roga_domainbed.upstream import bridge


def default_length(dataset: str) -> tuple[int, int]:
    """The steps of a run on a registered dataset, and its steps between records."""
    bridge.register()
    found = host().datasets.get_dataset_class(dataset)
    return found.N_STEPS, found.CHECKPOINT_FREQ
