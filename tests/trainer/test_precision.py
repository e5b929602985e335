"""How a step computes: the layout and the fused optimizer change the last digits alone, and no one else's algorithm."""

import copy

import pytest
import torch

from roga_domainbed.engine.algorithms.erm import ERM
from roga_domainbed.errors import RogaError
from roga_domainbed.trainer.precision import prepare
from roga_domainbed.upstream import bridge

CPU = torch.device("cpu")
SHAPE = (3, 32, 32)


def algorithm(name, cls=None):
    host = bridge.register()
    hparams = host.hparams_registry.default_hparams(name, "Debug28")
    hparams |= {"backbone": "resnet10t", "pretrained": False, "optimizer": "sgd"}
    torch.manual_seed(0)
    return (cls or host.algorithms.get_algorithm_class(name))(SHAPE, 2, 2, hparams)


def minibatches(dtype=torch.float32):
    rng = torch.Generator().manual_seed(1)
    return [
        (torch.randn(4, *SHAPE, generator=rng, dtype=dtype), torch.tensor([0, 1, 0, 1])) for _ in range(2)
    ]


def kernel(algorithm):
    return next(p for p in algorithm.parameters() if p.dim() == 4 and min(p.shape) > 1)


@pytest.mark.parametrize("name", ["ERM", "SAGM", "RoGA"])
def test_a_prepared_algorithm_steps_as_one_that_is_not(name):
    plain = algorithm(name).double()
    prepared = copy.deepcopy(plain)
    prepare(prepared, "fp32", CPU, compiled=False)
    assert kernel(prepared).is_contiguous(memory_format=torch.channels_last)
    assert not kernel(plain).is_contiguous(memory_format=torch.channels_last)
    for each in (plain, prepared):
        each.update(minibatches(torch.float64))
    for one, other in zip(plain.parameters(), prepared.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


class Flattening(ERM):
    """An algorithm of somebody else's, which looks at gradients as rows."""

    def update(self, minibatches, unlabeled=None):
        loss = super().update(minibatches)
        return {**loss, "norm": sum(p.grad.view(-1).norm().item() for p in self.network.parameters())}


def test_somebody_elses_algorithm_keeps_its_layout_and_may_flatten_it():
    theirs = algorithm("ERM", Flattening)
    prepare(theirs, "fp32", CPU, compiled=False)
    assert kernel(theirs).is_contiguous()
    assert theirs.update(minibatches())["norm"] > 0


def test_compiling_without_a_compiler_is_one_sentence(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RogaError, match=r"--compile needs a C\+\+ compiler .* no 'no-such-compiler' here"):
        prepare(algorithm("ERM"), "fp32", CPU, compiled=True)
