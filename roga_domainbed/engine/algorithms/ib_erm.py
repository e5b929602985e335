"""Empirical risk minimization with an information bottleneck."""

from __future__ import annotations

from roga_domainbed.engine.algorithms._annealed import penalty_hparams
from roga_domainbed.engine.algorithms._variance_bottleneck import InformationBottleneck


class IB_ERM(InformationBottleneck):
    """Information bottleneck on ERM (Ahuja et al., arXiv:2106.06607): features of small variance.

    The penalty counts nothing in the first ``ib_penalty_anneal_iters`` steps.
    """

    EARLY_WEIGHTS = {"IB": 0.0}
    HPARAMS = penalty_hparams("ib", 1e2, "weight of the variance of the features")
