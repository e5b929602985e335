"""Group distributionally robust optimization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

from roga_domainbed.catalog.hparams import HParam, log_uniform
from roga_domainbed.engine.algorithms._minibatches import number
from roga_domainbed.engine.algorithms.erm import ERM
from roga_domainbed.engine.lib.misc import Minibatch


class GroupDRO(ERM):
    """Group DRO (Sagawa, Koh, Hashimoto and Liang, arXiv:1911.08731, algorithm 1).

    Attributes:
        q: (num_domains,) weights of the environments' losses, which sum to 1. Uniform at first, so that a saved
            model can be loaded into a new one; DomainBed's is empty until the first step.
    """

    HPARAMS = (
        HParam(
            "groupdro_eta",
            1e-2,
            log_uniform(10, -3, -1),
            "step size of the environments' weights",
            at_least=0,
        ),
    )

    def __init__(
        self, input_shape: tuple[int, ...], num_classes: int, num_domains: int, hparams: dict[str, Any]
    ):
        super().__init__(input_shape, num_classes, num_domains, hparams)
        self.register_buffer("q", torch.full((num_domains,), 1 / num_domains))

    def update(
        self, minibatches: list[Minibatch], unlabeled: list[torch.Tensor] | None = None
    ) -> dict[str, float]:
        """Move q towards the environments with the largest loss, then take one step on the loss weighted by q."""
        losses = torch.stack([F.cross_entropy(self.predict(x), y) for x, y in minibatches])
        # As a softmax of logarithms, large losses do not overflow.
        self.q = (self.q.log() + self.hparams["groupdro_eta"] * losses.detach()).softmax(0)
        loss = losses @ self.q
        self.descend(loss)
        return {"loss": number(loss)}

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load as any module does; the empty q of an untrained DomainBed model becomes the uniform one."""
        if "q" in state_dict and not len(state_dict["q"]):
            state_dict = {**state_dict, "q": torch.full_like(self.q, 1 / len(self.q))}
        return super().load_state_dict(state_dict, *args, **kwargs)
