"""The hyper-parameter that gives RoGA random parts of the pooled minibatch for domains."""

import pytest
import torch
from test_algorithms import build, minibatches

from roga_domainbed.algorithms.roga import dealt
from roga_domainbed.errors import RogaError

SGD = {"optimizer": "sgd", "momentum": 0.0, "lr": 0.1, "rho": 0.2}


def weights(algorithm):
    return torch.cat([p.detach().flatten() for p in algorithm.network.parameters()])


def test_parts_are_a_permutation_of_the_pool_in_the_minibatches_sizes():
    # Sample n is labelled n, and so is its one pixel.
    labels = torch.arange(15).split([3, 5, 7])
    pool = [(y.float().view(-1, 1, 1, 1), y) for y in labels]
    torch.manual_seed(0)
    parts, others = dealt(pool), dealt(pool)
    assert [len(y) for _, y in parts] == [3, 5, 7]
    assert all(torch.equal(x.flatten(), y.float()) for x, y in parts)
    y = torch.cat([y for _, y in parts])
    assert sorted(y.tolist()) == list(range(15))
    assert y.tolist() != list(range(15))
    assert y.tolist() != torch.cat([y for _, y in others]).tolist()


def test_every_sample_comes_to_each_part_equally_often():
    pool = [(torch.zeros(4, 1), torch.full((4,), domain)) for domain in range(3)]
    torch.manual_seed(0)
    counts = sum(torch.bincount(dealt(pool)[0][1], minlength=3) for _ in range(600)) / 2400
    # The standard error of a share of 1/3 in 2400 draws is 0.01.
    torch.testing.assert_close(counts, torch.full((3,), 1 / 3), rtol=0, atol=0.04)


@pytest.mark.parametrize(("k", "alpha", "equal"), [(1, 0.0, True), (3, 0.0, False), (3, 0.03, False)])
def test_of_one_domain_they_change_nothing_and_of_several_they_do(k, alpha, equal):
    batches = [(x.double(), y) for x, y in minibatches(k=k)]
    trained = {}
    for parts in ("domains", "random"):
        algorithm = build("RoGA", roga_parts=parts, alpha=alpha, **SGD).double()
        algorithm.update(batches)
        trained[parts] = weights(algorithm)
    assert torch.allclose(trained["domains"], trained["random"], rtol=0, atol=1e-12) == equal


def test_the_step_is_that_of_domains_on_the_parts():
    batches = [(x.double(), y) for x, y in minibatches()]
    random, domains = (build("RoGA", roga_parts=parts, **SGD).double() for parts in ("random", "domains"))
    torch.manual_seed(3)
    random.update(batches)
    torch.manual_seed(3)
    domains.update(dealt(batches))
    assert torch.equal(weights(random), weights(domains))


def test_processes_that_share_domains_are_refused():
    with pytest.raises(RogaError, match="'roga_parts' random deals the minibatches of all environments"):
        build("RoGA", roga_parts="random").share_domains()
