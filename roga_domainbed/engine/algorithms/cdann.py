"""Class-conditional domain-adversarial networks."""

from __future__ import annotations

from roga_domainbed.engine.algorithms._adversarial import DomainAdversarial


class CDANN(DomainAdversarial):
    """Conditional adversarial networks (Li et al., "Conditional invariant adversarial networks", ECCV 2018).

    One discriminator serves all classes: it sees the label as an embedding, and each class has the same weight.
    """

    CONDITIONAL = True
