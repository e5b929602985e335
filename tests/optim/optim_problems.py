"""Small problems in float64 whose gradients and curvatures are known by hand."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

torch_double = torch.float64


def quadratic(matrix, theta):
    """A closure for L(θ) = ½ θᵀ A θ: gradient A θ, curvature A."""
    return lambda: 0.5 * theta @ matrix @ theta


def spd(n, seed):
    """A symmetric positive definite (n, n) matrix."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(n, n, generator=generator, dtype=torch_double)
    return root @ root.T / n + 0.5 * torch.eye(n, dtype=torch_double)


def vector(n, seed):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch_double)


class SmoothNet(nn.Module):
    """Smooth activations, so that second derivatives exist everywhere; batch norm and dropout on request."""

    def __init__(self, batch_norm=False, dropout=0.0):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(5, 7),
            nn.BatchNorm1d(7) if batch_norm else nn.Identity(),
            nn.Tanh(),
            nn.Dropout(dropout),
            nn.Linear(7, 2),
        )

    def forward(self, x):
        return self.layers(x)


def make_net(seed=0, **kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SmoothNet(**kwargs).double()


def make_domains(k, n=12, seed=0):
    """K minibatches ``(x, y)``, each from another distribution."""
    generator = torch.Generator().manual_seed(100 + seed)
    return [
        (
            torch.randn(n, 5, generator=generator, dtype=torch_double) * (1 + 0.3 * i) + 0.2 * i,
            torch.randint(0, 2, (n,), generator=generator),
        )
        for i in range(k)
    ]


def closures(net, domains):
    return [lambda x=x, y=y: F.cross_entropy(net(x), y) for x, y in domains]


def pooled_closure(net, domains):
    """The mean of the domain losses as one closure."""
    return lambda: sum(closure() for closure in closures(net, domains)) / len(domains)


def weights(net):
    return torch.cat([p.detach().flatten().clone() for p in net.parameters()])


def twins(net, n=2):
    return [copy.deepcopy(net) for _ in range(n)]


def flat_gradient(loss, net):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])
