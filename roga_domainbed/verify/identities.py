"""What metrics and update rules must satisfy, whoever wrote them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn import metrics as sk
from torch import nn

from roga_domainbed.metrics import METRICS, macro_auc
from roga_domainbed.optim import SAM, RoGA
from roga_domainbed.verify.checks import Options, expect

_ROUNDING = 1e-12  # of sums in float64 whose order differs
_N_CASES = 50

_SCIKIT_LEARN = {
    "acc": lambda y, p: sk.accuracy_score(y, p > 0.5),
    "balanced_acc": lambda y, p: sk.balanced_accuracy_score(y, p > 0.5),
    "auc": sk.roc_auc_score,
    "ap": sk.average_precision_score,
    "log_loss": sk.log_loss,
}


def metrics(options: Options) -> str:
    """Metrics against scikit-learn, with ties and a single fake among the cases."""
    for seed in range(_N_CASES):
        rng = np.random.RandomState(seed)
        labels = np.r_[1, np.zeros(29, int)] if seed % 5 == 0 else np.r_[0, 1, rng.randint(0, 2, 28)]
        scores = np.round(rng.rand(30) * 8) / 8 if seed % 2 else rng.rand(30)
        for name, theirs in _SCIKIT_LEARN.items():
            got, wanted = METRICS.get(name).function(scores, labels), theirs(labels, scores)
            expect(abs(got - wanted) < 1e-9, f"{name} is {got}, scikit-learn says {wanted}")
        classes, table = rng.permutation(30) % 3, rng.dirichlet(np.ones(3), 30)
        wanted = sk.roc_auc_score(classes, table, multi_class="ovr", average="macro")
        got = macro_auc(table, classes)
        expect(abs(got - wanted) < 1e-9, f"macro_auc is {got}, scikit-learn says {wanted}")
    return f"{len(_SCIKIT_LEARN) + 1} metrics equal scikit-learn's on {_N_CASES} cases each"


def update_rules(options: Options) -> str:
    """RoGA's limit cases, in float64 on a small network with three domains."""
    domains = _domains()
    plain = _change(lambda params: torch.optim.SGD(params, lr=1.0), _backward, domains)
    resting = _change(lambda params: RoGA(params, rho=0.0, alpha=0.0, lr=1.0), _closures, domains)
    _close(resting, plain, "RoGA with rho and alpha 0 is the base optimizer")
    one = domains[:1]
    sam = _change(lambda params: SAM(params, rho=0.1, lr=1.0), _pooled, one)
    single = _change(lambda params: RoGA(params, rho=0.1, alpha=0.0, lr=1.0), _closures, one)
    _close(single, sam, "RoGA with alpha 0 on one domain is SAM")
    triple = _change(lambda params: RoGA(params, rho=0.1, alpha=0.0, lr=1.0), _closures, one * 3)
    _close(triple, sam, "RoGA with alpha 0 on equal domains is SAM")

    def full(params: Any) -> RoGA:
        return RoGA(params, rho=0.1, alpha=0.05, lr=1.0)

    _close(
        _change(full, _closures, domains[::-1]),
        _change(full, _closures, domains),
        "the order of the domains does not matter to RoGA",
    )
    return "4 identities of RoGA, SAM and the base optimizer hold"


_Domains = list[tuple[torch.Tensor, torch.Tensor]]


def _domains() -> _Domains:
    draw = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(12, 5, generator=draw, dtype=torch.float64) + 0.2 * i,
            torch.randint(0, 2, (12,), generator=draw),
        )
        for i in range(3)
    ]


def _change(make: Callable[[Any], Any], step: Callable[..., None], domains: _Domains) -> torch.Tensor:
    """How one step moves the weights of a network that is always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2)).double()
    before = copy.deepcopy(list(network.parameters()))
    step(make(network.parameters()), network, domains)
    return torch.cat([(a - b).flatten() for a, b in zip(network.parameters(), before, strict=True)]).detach()


def _loss(network: nn.Module, domains: _Domains) -> torch.Tensor:
    return torch.stack([F.cross_entropy(network(x), y) for x, y in domains]).mean()


def _backward(optimizer: Any, network: nn.Module, domains: _Domains) -> None:
    _loss(network, domains).backward()
    optimizer.step()


def _pooled(optimizer: Any, network: nn.Module, domains: _Domains) -> None:
    optimizer.step(lambda: _loss(network, domains))


def _closures(optimizer: Any, network: nn.Module, domains: _Domains) -> None:
    optimizer.step([lambda domain=domain: _loss(network, [domain]) for domain in domains])


def _close(got: torch.Tensor, wanted: torch.Tensor, what: str) -> None:
    distance = float((got - wanted).abs().max())
    expect(distance < _ROUNDING, f"{what}: not so, the steps differ by {distance:.1e}")
