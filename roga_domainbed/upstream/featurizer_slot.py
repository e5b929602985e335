"""DomainBed's URM with featurizers that are not DomainBed's."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any


def any_featurizer(networks: ModuleType) -> Callable[[Any], Any]:
    """Make the wrapper for ``URM._modify_generator_output``.

    The method sets ``featurizer.activation`` after asserting that the featurizer is one of four classes. Ours have
    the slot as well; for them the method works on an empty stand-in of such a class, whose slot is then taken over.
    """

    def wrapper(original: Any) -> Any:
        def _modify_generator_output(self: Any) -> None:
            featurizer = self.featurizer
            if not type(featurizer).__module__.startswith("roga_domainbed."):
                original(self)
                return
            from torch import nn

            stand_in = networks.ResNet.__new__(networks.ResNet)  # its constructor would fetch weights
            nn.Module.__init__(stand_in)
            self.featurizer = stand_in
            try:
                original(self)
            finally:
                self.featurizer = featurizer
            featurizer.activation = stand_in.activation

        return _modify_generator_output

    return wrapper
