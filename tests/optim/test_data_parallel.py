"""A step that ranks take together is the step of one process on their minibatches side by side."""

import copy
from pathlib import Path

import optim_problems as P
import pytest
import torch
from ranks import results_of
from replica_cases import METHODS, K, alone, minibatches, part, take_step

from roga_domainbed.optim import SAM, RoGA

SCRIPT = Path(__file__).with_name("replica_cases.py")
CASES = [
    (name, n, k)
    for name, (_, per_domain) in METHODS.items()
    for n in (2, 3)
    for k in (K if per_domain else (3,))
]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each of three ranks found."""
    return results_of(SCRIPT, 3, tmp_path_factory.mktemp("ranks"))


def close(one, other, **tolerance):
    return torch.allclose(one, other, rtol=0, **(tolerance or {"atol": 1e-10}))


@pytest.mark.parametrize(("name", "n", "k"), CASES)
def test_ten_steps_with_adam_and_weight_decay_are_those_of_one_process(found, name, n, k):
    expected = alone(name, k, n)
    for rank in range(n):
        assert close(found[rank][name, n, k]["weights"], expected["weights"])
        assert torch.equal(found[rank][name, n, k]["weights"], found[0][name, n, k]["weights"])
        assert close(found[rank][name, n, k]["losses"], expected["losses"])


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("name", ["SAM", "RoGA"])
def test_a_group_does_what_a_wrapped_model_does_and_the_first_ranks_weights_count(found, name, n):
    # Here the ranks began with other weights, of which the first one's are those of ``alone``.
    expected = alone(name, 3, n)["weights"]
    assert all(close(found[rank]["by group", name, n]["weights"], expected) for rank in range(n))


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("name", ["SAM", "RoGA"])
def test_batch_norm_buffers_are_the_same_bits_on_all_ranks(found, name, n):
    states = [found[rank]["batch norm", name, n]["state"] for rank in range(n)]
    assert all(torch.equal(state, states[0]) for state in states)


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("name", ["SAM", "RoGA"])
def test_with_a_local_ascent_the_direction_is_the_mean_of_the_ranks_own(found, name, n):
    # By hand: every rank's own direction at the weights that all have, from a plain optimizer on its part alone.
    make, per_domain = METHODS[name]
    net = P.make_net()
    adam = torch.optim.Adam(net.parameters(), lr=0.01, weight_decay=0.1)
    for step in range(10):
        directions = []
        for rank in range(n):
            twin = copy.deepcopy(net)
            own = make(twin.parameters(), torch.optim.SGD, lr=0.0)
            take_step(own, per_domain, twin, [part(batch, rank) for batch in minibatches(step, 3, n)])
            directions.append([p.grad for p in twin.parameters()])
        for p, *grads in zip(net.parameters(), *directions, strict=True):
            p.grad = sum(grads) / n
        adam.step()
    for rank in range(n):
        assert close(found[rank]["local", name, n]["weights"], P.weights(net))
    assert not close(found[0]["local", name, n]["weights"], found[0][name, n, 3]["weights"], atol=1e-5)


def test_a_domain_counts_where_it_has_samples_and_with_weights_each_sample_alike(found):
    def one_process(weights):
        net = P.make_net()
        optimizer = RoGA(net.parameters(), lr=0.1, rho=0.2)
        take_step(optimizer, True, net, P.make_domains(3, n=8)[:2], weights=weights)
        return P.weights(net)

    # Both domains have eight samples; the second one's are three on one rank and five on the other.
    weighted, plain = found[0]["unequal, weighted"], found[0]["unequal"]
    assert close(weighted, one_process([8, 8]))
    assert close(weighted, one_process(None))
    assert not close(plain, weighted, atol=1e-6)  # the mean of the two ranks' means
    for name in ("unequal", "unequal, weighted"):
        assert torch.equal(found[0][name], found[1][name])


def test_what_cannot_be_is_refused_with_the_way_out(found):
    for rank in (0, 1):
        said = found[rank]["refusals"]
        assert (
            "3 processes that SAM does not know: their weights would part. Pass model="
            in said["unknown ranks"]
        )
        assert said["PCGrad"].startswith("PCGrad takes its steps in one process")
        assert "choose 'first_order'" in said["exact"]
        assert "cannot share its domains" in said["share"]
        assert f"the ranks came with 2 to 3 closures, this one with {2 + rank}" in said["closures"]


class DTensor(torch.nn.Parameter):
    """As FSDP's are called."""


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (lambda net: {"params": [DTensor(torch.zeros(2))]}, "FSDP"),
        (
            lambda net: {"params": list(net.parameters()), "model": _named("FullyShardedDataParallel", net)},
            "FSDP",
        ),
        (
            lambda net: {"params": list(net.parameters()), "model": _named("DeepSpeedEngine", net)},
            "DeepSpeed",
        ),
    ],
)
def test_models_that_are_split_over_ranks_are_refused(made, name):
    with pytest.raises(ValueError, match=f"split over ranks by {name}: .* Use DistributedDataParallel"):
        SAM(**made(P.make_net()), lr=0.1)


def _named(name, net):
    wrapper = type(name, (torch.nn.Module,), {})()
    wrapper.inner = net
    return wrapper
