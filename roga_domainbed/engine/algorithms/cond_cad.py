"""Class-conditional contrastive adversarial domain bottleneck."""

from __future__ import annotations

from roga_domainbed.engine.algorithms._contrastive_bottleneck import ContrastiveBottleneck


class CondCAD(ContrastiveBottleneck):
    """Features that hide the environment within each class, by contrast with its samples alone (arXiv:2201.00057)."""

    CONDITIONAL = True
