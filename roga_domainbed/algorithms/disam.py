"""DISAM: SAM whose ascent goes by the domains' losses, so that the domains converge together.

    L = Σ_i α_i L_i        L_DI = L − λ Var_i(L_i)        ε = ρ ∇L_DI(θ) / ‖∇L_DI(θ)‖        direction: ∇L(θ + ε)

so domain i's gradient has the weight α_i − 2λ/K (L_i − mean L) in the ascent. Zhang et al., ICLR 2024
(arXiv:2405.18861), Eq. 3 and 6 to 8 and Algorithm 1, from the paper's text. α_i is domain i's part of the samples, so L
is the loss of the pooled minibatch, as SAM's; Var is over the K domains, each counted once, and divides by K.

The paper gives ρ = 0.5 for most of its datasets in appendix C.1, and 0.05 in the command of its code, as SAM; here it
is 0.05. In that code the variance acts in SAM alone; so it does here.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from roga_domainbed.algorithms._sharpness import Minibatches
from roga_domainbed.algorithms.sam import SAM
from roga_domainbed.catalog.hparams import HParam, uniform
from roga_domainbed.engine.algorithms._minibatches import number, pool, unpool


class DISAM(SAM):
    """Domain-inspired sharpness-aware minimization (arXiv:2405.18861)."""

    HPARAMS = (
        SAM.HPARAMS[0],
        HParam(
            "disam_lambda",
            0.1,
            uniform(0.0, 0.7),
            "weight of the variance of the domains' losses in the ascent",
            at_least=0,
        ),
        *SAM.HPARAMS[1:],
    )

    def update(
        self, minibatches: Minibatches, unlabeled: list[Tensor] | None = None
    ) -> dict[str, float | Tensor]:
        """One step on the pooled minibatches.

        Args:
            minibatches: one (x, y) a training environment, on the device of the network.
            unlabeled: ignored, as by DomainBed's ERM.

        Returns:
            ``loss``, L at θ; ``perturbed_loss``, L at the second point; ``grad_norm``, ‖∇L_DI‖ at θ; 0-dim tensors on a
            GPU.
        """
        x, y = pool(minibatches)
        seen = {}

        def ascent() -> Tensor:
            each = F.cross_entropy(self.predict(x), y, reduction="none")
            domains = torch.stack([part.mean() for part in unpool(each, minibatches)])
            seen["loss"] = number(each.mean())
            return each.mean() - self.hparams["disam_lambda"] * domains.var(correction=0)

        self.optimizer.step(lambda: F.cross_entropy(self.predict(x), y), ascent_closure=ascent)
        return {**self.optimizer.report, **seen}
