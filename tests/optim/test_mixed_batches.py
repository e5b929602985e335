"""One batch that mixes domains: its closures, and the sampler that makes such batches."""

from collections import Counter

import optim_problems as P
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from roga_domainbed.optim import DomainBatchSampler, RoGA, by_domain


@pytest.mark.parametrize("form", [tuple, dict])
def test_the_closures_of_a_mixed_batch_are_those_of_its_domains(form):
    domains = P.make_domains(3, n=6)
    order = torch.randperm(18)
    x, y = (torch.cat([batch[part] for batch in domains])[order] for part in (0, 1))
    ids = torch.arange(3).repeat_interleave(6)[order] * 10  # domains 0, 10 and 20
    nets = P.twins(P.make_net())
    batch = (x, y) if form is tuple else {"x": x, "y": y}

    def loss(part):
        parts = part if form is tuple else (part["x"], part["y"])
        return F.cross_entropy(nets[1](parts[0]), parts[1])

    RoGA(nets[0].parameters(), lr=0.1).step(P.closures(nets[0], domains))
    closures = by_domain(loss, batch, ids)
    assert closures.sizes == [6, 6, 6]
    RoGA(nets[1].parameters(), lr=0.1).step(closures)
    assert torch.allclose(P.weights(nets[0]), P.weights(nets[1]), rtol=0, atol=1e-14)


def test_absent_domains_are_left_out_or_none():
    x, ids = torch.arange(5, dtype=torch.float64), torch.tensor([3, 1, 3, 3, 1])
    present = by_domain(torch.mean, x, ids)
    assert [closure().item() for closure in present] == [2.5, 5 / 3]
    assert present.sizes == [2, 3]
    placed = by_domain(torch.mean, x, ids, n_domains=4)
    assert [closure and closure().item() for closure in placed] == [None, 2.5, None, 5 / 3]
    assert placed.sizes == [0, 2, 0, 3]


@pytest.mark.parametrize(
    ("batch", "ids", "n_domains", "message"),
    [
        (torch.zeros(3), torch.tensor([0, 1]), None, "3 samples, and domain 2"),
        (torch.zeros(2), torch.tensor([0.0, 1.0]), None, "one integer a sample; got torch.float32"),
        (torch.zeros(2), torch.tensor([0, 2]), 2, r"below n_domains, 2; got 0 to 2"),
        (torch.zeros(2), torch.tensor([-1, 2]), None, "at least 0; got -1 to 2"),
        ([torch.zeros(2), ["a", "b"]], torch.tensor([0, 2]), None, "sequence or mapping of tensors"),
        (torch.zeros(0), torch.zeros(0, dtype=torch.long), None, "one integer a sample"),
    ],
)
def test_what_does_not_fit_is_refused(batch, ids, n_domains, message):
    with pytest.raises(ValueError, match=message):
        by_domain(torch.mean, batch, ids, n_domains)


def test_every_batch_has_as_many_of_each_domain_and_an_epoch_has_the_largest_once():
    ids = torch.tensor([0] * 5 + [7] * 12 + [2] * 3)
    sampler = DomainBatchSampler(ids, per_domain=2, seed=1)
    loader = DataLoader(TensorDataset(torch.arange(20), ids), batch_sampler=sampler)
    epochs = [list(loader) for _ in range(2)]
    for batches in epochs:
        assert len(batches) == len(sampler) == 6
        assert all(Counter(d.tolist()) == {0: 2, 2: 2, 7: 2} for _, d in batches)
        seen = Counter(int(i) for index, _ in batches for i in index)
        assert all(seen[i] == 1 for i in range(5, 17))
        assert {seen[i] for i in range(5)} <= {2, 3}  # 12 draws of 5
        assert all(seen[i] == 4 for i in range(17, 20))
    assert [i.tolist() for i, _ in epochs[0]] != [i.tolist() for i, _ in epochs[1]]
    sampler.set_epoch(1)
    assert [i.tolist() for i, _ in loader] == [i.tolist() for i, _ in epochs[1]]


def test_ranks_divide_each_step_of_one_order():
    ids = [0] * 8 + [1] * 8
    whole = list(DomainBatchSampler(ids, per_domain=4))
    ranks = [list(DomainBatchSampler(ids, per_domain=2, num_replicas=2, rank=rank)) for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*ranks, strict=True)] == [sorted(batch) for batch in whole]


@pytest.mark.parametrize(
    ("ids", "kwargs"),
    [([], {"per_domain": 1}), ([0], {"per_domain": 0}), ([0], {"per_domain": 1, "rank": 1})],
)
def test_numbers_that_do_not_fit_are_refused(ids, kwargs):
    with pytest.raises(ValueError, match=r"domains is empty|per_domain must be at least 1"):
        DomainBatchSampler(ids, **kwargs)
