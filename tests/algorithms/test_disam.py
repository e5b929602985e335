"""DISAM's ascent against Eq. 8 of its paper, and its limits."""

import numpy as np
import pytest
import torch
from test_algorithms import build, minibatches
from torch import nn


def weights(algorithm):
    return torch.cat([p.detach().flatten() for p in algorithm.network.parameters()])


def stepped(name, batches, seed=0, **hparams):
    algorithm = build(name, seed=seed, optimizer="sgd", momentum=0.0, lr=0.1, **hparams).double()
    report = algorithm.update([(x.double(), y) for x, y in batches])
    return weights(algorithm), report


def unequal():
    return [(x[:n], y[:n]) for (x, y), n in zip(minibatches(), (8, 3, 5), strict=True)]


@pytest.mark.parametrize(
    ("batches", "disam_lambda"),
    [
        (unequal(), 0.0),  # no variance
        (unequal()[:1], 0.5),  # one domain
        ([minibatches()[0]] * 3, 0.5),  # identical domains
    ],
)
def test_where_the_variance_is_zero_or_does_not_count_it_is_sam(batches, disam_lambda):
    ours, report = stepped("DISAM", batches, rho=0.3, disam_lambda=disam_lambda)
    sam, its = stepped("SAM", batches, rho=0.3)
    assert torch.allclose(ours, sam, rtol=0, atol=1e-12)
    assert report == pytest.approx(its, abs=1e-12)


def test_the_order_of_the_domains_does_not_matter():
    batches = unequal()
    ours, _ = stepped("DISAM", batches, rho=0.3, disam_lambda=0.5)
    permuted, _ = stepped("DISAM", [batches[i] for i in (2, 0, 1)], rho=0.3, disam_lambda=0.5)
    assert torch.allclose(ours, permuted, rtol=0, atol=1e-12)


def test_a_step_follows_equation_8():
    # A linear network on two features, written out in numpy: softmax regression with K = 3 unequal domains.
    rng = np.random.RandomState(0)
    domains = [(rng.randn(n, 2), rng.randint(0, 2, n)) for n in (6, 2, 4)]
    rho, lam, lr = 0.4, 0.7, 0.1
    theta = rng.randn(2, 2)

    def loss_and_gradient(w, x, y):
        logits = x @ w.T
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        rows = np.arange(len(y))
        loss = -np.log(p[rows, y]).mean()
        p[rows, y] -= 1
        return loss, p.T @ x / len(y)

    losses, gradients = zip(*(loss_and_gradient(theta, x, y) for x, y in domains), strict=True)
    n = np.array([len(y) for _, y in domains])
    beta = n / n.sum() - 2 * lam / 3 * (np.array(losses) - np.mean(losses))  # Eq. 8
    ascent = sum(b * g for b, g in zip(beta, gradients, strict=True))
    pooled = np.concatenate([x for x, _ in domains]), np.concatenate([y for _, y in domains])
    perturbed, h = loss_and_gradient(theta + rho * ascent / np.linalg.norm(ascent), *pooled)

    network = nn.Linear(2, 2, bias=False).double()
    algorithm = build("DISAM", optimizer="sgd", momentum=0.0, lr=lr, rho=rho, disam_lambda=lam)
    algorithm.network = network
    algorithm.optimizer = algorithm.make_optimizer(
        network.parameters(), torch.optim.SGD, lr=lr, model=network
    )
    with torch.no_grad():
        network.weight.copy_(torch.from_numpy(theta))
    report = algorithm.update([(torch.from_numpy(x), torch.from_numpy(y)) for x, y in domains])
    np.testing.assert_allclose(network.weight.detach().numpy(), theta - lr * h, rtol=0, atol=1e-10)
    assert report["loss"] == pytest.approx(np.dot(n / n.sum(), losses), abs=1e-12)
    assert report["perturbed_loss"] == pytest.approx(perturbed, abs=1e-12)
    assert report["grad_norm"] == pytest.approx(np.linalg.norm(ascent), abs=1e-12)
