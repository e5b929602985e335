"""Loaders whose batches mix domains: one closure a domain from such a batch, and a sampler that draws them evenly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Sampler

from roga_domainbed.optim.passes import Closure
from roga_domainbed.seeds import generator


class DomainClosures(list):
    """What ``by_domain`` makes: closures, and None for domains without a sample.

    Attributes:
        sizes: the number of samples behind each; as ``weights`` of a step they make every sample count alike.
    """

    def __init__(self, closures: Sequence[Closure | None], sizes: Sequence[int]):
        super().__init__(closures)
        self.sizes = list(sizes)


def by_domain(
    loss: Callable[[Any], Tensor], batch: Any, domain: Tensor, n_domains: int | None = None
) -> DomainClosures:
    """Closures for the step of a method that tells domains apart, from one batch that mixes them.

    >>> closures = by_domain(lambda part: F.cross_entropy(model(part[0]), part[1]), (x, y), domain)
    >>> optimizer.step(closures)

    Args:
        loss: the mean loss of a part of the batch, which has the batch's form.
        batch: tensors of B samples: one, a sequence or a mapping of them.
        domain: (B,) integers: the domain of each sample.
        n_domains: with it, there are so many closures, None for a domain that is absent, which ranks that take the step
            together need. Without it, absent domains are left out.

    Raises:
        ValueError: the lengths or the domains do not fit.
    """
    for tensor in _tensors(batch):
        if len(tensor) != len(domain):
            raise ValueError(
                f"the batch has {len(tensor)} samples, and domain {len(domain)}: one each is needed"
            )
    if domain.dim() != 1 or domain.is_floating_point() or not len(domain):
        raise ValueError(
            f"domain must be one integer a sample; got {domain.dtype} of shape {tuple(domain.shape)}"
        )
    there = domain.unique().tolist()
    if there[0] < 0 or (n_domains is not None and there[-1] >= n_domains):
        allowed = "at least 0" + (f" and below n_domains, {n_domains}" if n_domains is not None else "")
        raise ValueError(f"domains must be {allowed}; got {there[0]} to {there[-1]}")
    closures: list[Closure | None] = []
    sizes = []
    for index in there if n_domains is None else range(n_domains):
        chosen = (domain == index).nonzero()[:, 0]
        part = _part(batch, chosen) if len(chosen) else None
        closures.append(None if part is None else lambda part=part: loss(part))
        sizes.append(len(chosen))
    return DomainClosures(closures, sizes)


class DomainBatchSampler(Sampler):
    """Batches with as many samples of each domain, for ``DataLoader(dataset, batch_sampler=…)``.

    In an epoch every sample of the largest domain comes once, and smaller ones begin anew, in another order. Every
    iteration is another epoch; ``set_epoch`` says which, to resume.

    Args:
        domains: the domain of each sample of the dataset.
        per_domain: samples of each domain in a batch.
        seed: of the orders.
        num_replicas: ranks that share every step, as in ``DistributedSampler``; each gets batches of its own.
        rank: which of them this is.

    Raises:
        ValueError: no sample, or numbers that do not fit.
    """

    def __init__(
        self, domains: Sequence[int], per_domain: int, *, seed: int = 0, num_replicas: int = 1, rank: int = 0
    ):
        ids = np.asarray(domains)
        if not len(ids):
            raise ValueError("domains is empty: one a sample is needed")
        if per_domain < 1 or not 0 <= rank < num_replicas:
            raise ValueError(
                f"per_domain must be at least 1 and rank below num_replicas; got {per_domain}, {rank}, {num_replicas}"
            )
        self.members = [np.flatnonzero(ids == domain) for domain in np.unique(ids)]
        self.per_domain, self.seed, self.num_replicas, self.rank = per_domain, seed, num_replicas, rank
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is that of ``epoch``."""
        self.epoch = epoch

    def __len__(self) -> int:
        most = max(map(len, self.members))
        return -(-most // (self.per_domain * self.num_replicas))

    def __iter__(self) -> Iterator[list[int]]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        in_a_step = self.per_domain * self.num_replicas
        drawn = []
        for domain, members in enumerate(self.members):
            rng = generator(self.seed, "batches", epoch, domain)
            n_passes = -(-len(self) * in_a_step // len(members))
            drawn.append(np.concatenate([rng.permutation(members) for _ in range(n_passes)]))
        for step in range(len(self)):
            start = step * in_a_step + self.rank * self.per_domain
            yield [int(i) for order in drawn for i in order[start : start + self.per_domain]]


def _tensors(batch: Any) -> list[Tensor]:
    if isinstance(batch, Tensor):
        return [batch]
    found = list(batch.values() if isinstance(batch, Mapping) else batch)
    if not all(isinstance(value, Tensor) for value in found):
        raise ValueError("the batch must be a tensor, or a sequence or mapping of tensors")
    return found


def _part(batch: Any, chosen: Tensor) -> Any:
    if isinstance(batch, Tensor):
        return batch[chosen.to(batch.device)]
    if isinstance(batch, Mapping):
        return {name: value[chosen.to(value.device)] for name, value in batch.items()}
    return tuple(value[chosen.to(value.device)] for value in batch)
