import itertools

import pytest
import torch

from roga_domainbed.engine.datasets.tensors import TensorEnvironment
from roga_domainbed.engine.lib.fast_data_loader import (
    FastDataLoader,
    InfiniteDataLoader,
    InfiniteDataLoaderWithoutReplacement,
)
from roga_domainbed.errors import RogaError

INFINITE = [InfiniteDataLoader, InfiniteDataLoaderWithoutReplacement]


def numbers(n):
    """Sample i is the number i with label 0."""
    return TensorEnvironment(torch.arange(n).float(), [0] * n)


def draw(loader, n):
    return [x.int().tolist() for x, _ in itertools.islice(loader, n)]


@pytest.mark.parametrize("kind", INFINITE)
@pytest.mark.parametrize("weights", [None, torch.ones(3)])
def test_an_environment_smaller_than_the_batch_yields_full_batches(kind, weights):
    got = draw(kind(numbers(3), weights, 8, 0), 5)
    assert [len(batch) for batch in got] == [8] * 5
    assert set(itertools.chain(*got)) == {0, 1, 2}


@pytest.mark.parametrize("kind", INFINITE)
def test_batches_never_end_and_are_always_full(kind):
    got = draw(kind(numbers(10), None, 4, 0), 20)
    assert [len(batch) for batch in got] == [4] * 20
    assert set(itertools.chain(*got)) == set(range(10))


def test_drawing_with_replacement_repeats_samples_inside_a_batch():
    torch.manual_seed(0)
    assert any(len(set(batch)) < 4 for batch in draw(InfiniteDataLoader(numbers(4), None, 4, 0), 5))


def test_without_replacement_an_epoch_has_no_sample_twice_and_drops_the_partial_batch():
    torch.manual_seed(0)
    got = draw(InfiniteDataLoaderWithoutReplacement(numbers(10), None, 4, 0), 20)
    epochs = [got[i] + got[i + 1] for i in range(0, 20, 2)]
    assert all(len(set(epoch)) == 8 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


@pytest.mark.parametrize("kind", INFINITE)
def test_weights_decide_what_is_drawn(kind):
    weights = torch.tensor([0.0, 1.0, 0.0, 3.0])
    drawn = list(itertools.chain(*draw(kind(numbers(4), weights, 1, 0), 400)))
    assert set(drawn) == {1, 3}
    assert drawn.count(3) / 400 == pytest.approx(0.75, abs=0.1)  # 4.6 standard deviations


def test_weighted_drawing_without_replacement_repeats_nothing_inside_a_batch():
    loader = InfiniteDataLoaderWithoutReplacement(numbers(4), torch.tensor([1.0, 9, 9, 9]), 4, 0)
    assert all(sorted(batch) == [0, 1, 2, 3] for batch in draw(loader, 5))


def test_an_infinite_loader_follows_torchs_seed_and_nothing_drawn_later():
    def order(disturbance):
        torch.manual_seed(7)
        loader = InfiniteDataLoader(numbers(50), None, 4, 0)
        torch.rand(disturbance)
        return draw(loader, 3)

    assert order(0) == order(10)


def test_an_infinite_loader_has_no_length():
    with pytest.raises(ValueError, match="no length"):
        len(InfiniteDataLoader(numbers(3), None, 1, 0))


def test_iterating_again_continues():
    loader = InfiniteDataLoaderWithoutReplacement(numbers(6), None, 3, 0)
    assert sorted(draw(loader, 1)[0] + draw(loader, 1)[0]) == list(range(6))


def test_a_fast_loader_passes_over_everything_once_in_a_new_order():
    torch.manual_seed(0)
    loader = FastDataLoader(numbers(10), 4, 0)
    first, second = draw(loader, None), draw(loader, None)
    assert len(loader) == 3
    assert [len(batch) for batch in first] == [4, 4, 2]
    assert sorted(itertools.chain(*first)) == sorted(itertools.chain(*second)) == list(range(10))
    assert first != second


@pytest.mark.parametrize("kind", INFINITE)
def test_an_empty_split_is_refused_by_infinite_loaders(kind):
    with pytest.raises(RogaError, match="a split has no samples to load"):
        kind(numbers(0), None, 4, 0)


def test_an_empty_split_is_refused_by_the_fast_loader():
    with pytest.raises(RogaError, match="a split has no samples to load"):
        FastDataLoader(numbers(0), 64, 0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_processes_deliver_the_same_batches():
    torch.manual_seed(3)
    expected = draw(InfiniteDataLoader(numbers(20), None, 4, 0), 5)
    torch.manual_seed(3)
    assert draw(InfiniteDataLoader(numbers(20), None, 4, 2), 5) == expected
