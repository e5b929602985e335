"""Contrastive adversarial domain bottleneck."""

from __future__ import annotations

from roga_domainbed.engine.algorithms._contrastive_bottleneck import ContrastiveBottleneck


class CAD(ContrastiveBottleneck):
    """Features that hide the environment, by contrast with all samples (arXiv:2201.00057)."""

    CONDITIONAL = False
