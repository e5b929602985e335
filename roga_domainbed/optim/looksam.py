"""LookSAM: SAM whose second pass is taken in one of k steps; the others reuse what it changed.

    steps 0, k, 2k, …    h = ∇L(θ + ρ g/‖g‖)        direction: h        keep v = h − ⟨h, g⟩/‖g‖² g
    the others           direction: g + α ‖g‖ v/‖v‖

Liu et al., CVPR 2022 (arXiv:2203.02714), Algorithm 1. The paper's text was not at hand; its abstract and several
descriptions of the algorithm agree on this rule. Norms and inner products are over all parameters together, as the
equations read (a public implementation takes them tensor by tensor). The layer-wise form for very large minibatches
is left out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from roga_domainbed.optim.gsam import orthogonal
from roga_domainbed.optim.sam import SAM
from roga_domainbed.optim.two_pass import TwoPass
from roga_domainbed.optim.vectors import add_scaled_, global_norm


class LookSAM(TwoPass):
    """SAM at 1 + 1/k of ERM's cost. Peak memory beyond ERM's: four copies of the parameters, v/‖v‖ among them.

    Args:
        params: parameters or groups of them.
        base_optimizer: class of the optimizer that makes the step.
        rho: radius of the neighbourhood, as in SAM, ≥ 0.
        alpha: length of the reused part, in norms of the gradient, ≥ 0.
        every: k; take the second pass in one of so many steps, ≥ 1. With 1 it is SAM.
        **kwargs: what every ``SharpnessOptimizer`` takes, ``model`` and ``lr`` among them.
    """

    def __init__(
        self,
        params: Any,
        base_optimizer: type[torch.optim.Optimizer] = torch.optim.SGD,
        *,
        rho: float = 0.05,
        alpha: float = 0.7,
        every: int = 5,
        **kwargs: Any,
    ):
        super().__init__(params, base_optimizer, {"rho": rho, "alpha": alpha}, **kwargs)
        if every < 1 or every != int(every):
            raise ValueError(f"every must be a whole number of at least 1; got {every!r}")
        self.every = int(every)
        self._kept: list[Tensor] = []  # v/‖v‖
        self._kept_of: list[int] = []  # where the parameters stand that it is of

    _ascent_point = SAM._ascent_point

    def _takes_second_pass(self) -> bool:
        fits = bool(self._kept) and self._kept_of == self._places()
        return self.steps_taken % self.every == 0 or not fits

    def _direction(self, grads: list[Tensor], perturbed: list[Tensor]) -> list[Tensor]:
        if self.every > 1:
            self._kept, self._kept_of = orthogonal(perturbed, grads), self._places()
            norm = global_norm(self._kept)
            # Where h and g are parallel, the rest is rounding: nothing to look along.
            rounding = torch.finfo(norm.dtype).eps ** 0.5 * global_norm(perturbed)
            torch._foreach_mul_(self._kept, torch.where(norm > rounding, 1 / norm, torch.zeros_like(norm)))
        return perturbed

    def _direction_without_second_pass(self, grads: list[Tensor], norm: Tensor) -> list[Tensor]:
        for group, g, v in self._grouped(grads, self._kept):
            add_scaled_(g, v, group["alpha"] * norm)
        return grads

    def state_dict(self) -> dict:
        """As of every sharpness optimizer, with v/‖v‖."""
        return {**super().state_dict(), "kept": self._kept}

    def load_state_dict(self, state_dict: dict) -> None:
        """Load what ``state_dict`` gave; without v the next step takes the second pass."""
        state_dict = dict(state_dict)
        saved = state_dict.pop("kept", [])
        super().load_state_dict(state_dict)
        self._kept = self._copied(saved, "parts of the gradient") if saved else []
        self._kept_of = self._places()
