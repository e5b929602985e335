"""Domain-adversarial neural networks."""

from __future__ import annotations

from roga_domainbed.engine.algorithms._adversarial import DomainAdversarial


class DANN(DomainAdversarial):
    """Domain-adversarial training (Ganin et al., arXiv:1505.07818), alternating instead of with gradient reversal."""

    CONDITIONAL = False
