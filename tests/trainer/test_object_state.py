"""State captured from an algorithm and restored into a new one: it continues as the old one would have, bit for bit."""

import functools
import io

import numpy as np
import pytest
import torch
from torch import nn

from roga_domainbed import catalog
from roga_domainbed.input.minibatches import seed_everything
from roga_domainbed.trainer import object_state
from roga_domainbed.trainer.object_state import CannotRestore, ObjectState
from roga_domainbed.upstream import bridge
from roga_domainbed.upstream.defects import MADE_ANEW

N_STEPS = 6
ENGINE = [info.name for info in catalog.ALGORITHMS if info.target is not None]
UPSTREAM = catalog.ALGORITHMS.names()
NEED_IMAGES = ("ARM", "SagNet", "CORE", "ForensicTransfer")
# What test_every_algorithm.py says of these: no GPU, no usable backpack.
CANNOT_TRAIN_HERE = ("TRM", "RDM", "Fishr")
#: So that what happens after a burn-in happens within the test, before and after the checkpoint.
SMALL = {
    "batch_size": 4, "mlp_width": 8, "mlp_depth": 3, "mlp_dropout": 0.3, "resnet_dropout": 0.3, "n_meta_test": 1,
    "irm_penalty_anneal_iters": 3, "vrex_penalty_anneal_iters": 3, "ib_penalty_anneal_iters": 3,
    "eqrm_burnin_iters": 3, "linear_steps": 2, "tau": 0.5, "penalty": 1.0,
    "penalty_anneal_iters": 3, "iters": 3, "rdm_penalty_anneal_iters": 3,
}  # fmt: skip


def build(name, **overrides):
    host = bridge.register()
    hparams = host.hparams_registry.default_hparams(name, "Debug28")
    hparams.update(SMALL, **overrides)
    shape = (3, 28, 28) if name in NEED_IMAGES else (8,)
    seed_everything(1)
    algorithm = host.algorithms.get_algorithm_class(name)(shape, 2, 3, hparams)
    return algorithm, ObjectState(algorithm, MADE_ANEW.get(name, ()) if host.name == "upstream" else ())


def update(algorithm, step):
    shape = (3, 28, 28) if type(algorithm).__name__ in NEED_IMAGES else (8,)
    seed_everything(1000 + step)
    batches = [(torch.randn(4, *shape), torch.randint(0, 2, (4,))) for _ in range(3)]
    return algorithm.update(batches, None)


def through_a_file(captured):
    file = io.BytesIO()
    torch.save(captured, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def check_goes_on(name, **overrides):
    unbroken, _ = build(name, **overrides)
    reported = [update(unbroken, step) for step in range(N_STEPS)]
    for stopped_after in (0, 1, 4):
        stopped, state = build(name, **overrides)
        for step in range(stopped_after):
            update(stopped, step)
        captured = through_a_file(state.capture())
        assert state.problems == []
        resumed, state = build(name, **overrides)
        state.restore(captured)
        assert [update(resumed, step) for step in range(stopped_after, N_STEPS)] == reported[stopped_after:]
        expected, found = unbroken.state_dict(), resumed.state_dict()
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("name", ENGINE)
def test_every_algorithm_goes_on_as_if_it_had_not_stopped(name, optimizer):
    # A large rate, so that the momentum that a resumed run lacked would show.
    check_goes_on(name, **({} if optimizer == "adam" else {"optimizer": optimizer, "lr": 0.05}))


@pytest.mark.upstream
@pytest.mark.parametrize("name", [name for name in UPSTREAM if name not in CANNOT_TRAIN_HERE])
def test_every_algorithm_of_a_checkout_goes_on_as_if_it_had_not_stopped(name):
    check_goes_on(name)


class Odd(nn.Module):
    """State in every place that a state_dict does not see."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("hidden", torch.zeros(2), persistent=False)
        self.optimizer = torch.optim.SGD(self.layer.parameters(), lr=0.1, momentum=0.9)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, 2)
        self.queue = [torch.zeros(1), {"count": 0}]
        self.average, self.counts = None, np.zeros(2)
        self.draw, self.generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
        self.alias = self.queue
        self.activation = functools.partial(torch.clamp, min=0)

    def update(self):
        self.optimizer.step()
        self.schedule.step()
        self.hidden = self.hidden + 1
        self.queue.append(torch.rand(3, generator=self.generator))
        self.queue[1]["count"] += 1
        self.average = (self.layer.weight.detach().clone(), self.draw.random())
        self.counts[1] += self.draw.random()
        self.layer.weight.grad = self.queue[-1][:2].repeat(2, 1)
        self.layer.train(not self.layer.training)


def test_gradients_queues_generators_schedules_and_modes_come_back():
    unbroken, stopped, resumed = Odd(), Odd(), Odd()
    resumed.load_state_dict(stopped.state_dict())
    unbroken.load_state_dict(stopped.state_dict())
    state = ObjectState(stopped)
    for _ in range(3):
        unbroken.update()
        stopped.update()
    ObjectState(resumed).restore(through_a_file(state.capture()))
    assert state.problems == []
    unbroken.update()
    resumed.update()
    assert torch.equal(unbroken.layer.weight, resumed.layer.weight)
    assert torch.equal(unbroken.hidden, resumed.hidden)
    assert torch.equal(unbroken.average[0], resumed.average[0])
    assert unbroken.average[1] == resumed.average[1]
    assert unbroken.counts.tolist() == resumed.counts.tolist()
    assert all(torch.equal(a, b) for a, b in zip(unbroken.queue[2:], resumed.queue[2:], strict=True))
    assert resumed.queue[1] == {"count": 4}
    assert resumed.alias is resumed.queue
    assert resumed.optimizer.param_groups[0]["lr"] == unbroken.optimizer.param_groups[0]["lr"] != 0.1
    assert resumed.optimizer.param_groups[0]["params"][0] is resumed.layer.weight
    assert resumed.layer.training is unbroken.layer.training
    assert resumed.activation(torch.tensor(-1.0)) == 0


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda odd: setattr(odd, "late", nn.Linear(1, 1)),
            "late is a torch.nn.modules.linear.Linear that the",
        ),
        (
            lambda odd: setattr(odd, "activation", len),
            "activation is a builtin_function_or_method len that the",
        ),
        (
            lambda odd: odd.queue.append(iter([])),
            r"queue\[2\] is a list_iterator, which cannot be looked into",
        ),
    ],
)
def test_what_a_new_object_would_not_have_is_named(change, problem):
    odd = Odd()
    state = ObjectState(odd)
    assert state.problems == []
    change(odd)
    state.capture()
    with pytest.raises(AssertionError, match=problem):
        raise AssertionError(state.problems)


def test_the_state_of_another_class_is_refused():
    captured = through_a_file(ObjectState(Odd()).capture())
    with pytest.raises(
        CannotRestore, match=r"the algorithm was a .*Odd and is torch.nn.modules.linear.Linear here"
    ):
        ObjectState(nn.Linear(2, 2)).restore(captured)


def test_shared_parts_stay_shared_and_separate_ones_separate():
    odd = Odd()
    odd.first = odd.second = torch.ones(2)
    new = Odd()
    new.first, new.second = torch.zeros(2), torch.zeros(2)
    ObjectState(new).restore(through_a_file(ObjectState(odd).capture()))
    assert new.first is new.second
    odd.second = torch.full((2,), 5.0)
    new.second = new.first
    ObjectState(new).restore(through_a_file(ObjectState(odd).capture()))
    assert (new.first.tolist(), new.second.tolist()) == ([1, 1], [5, 5])


@pytest.mark.parametrize(
    "captured",
    [
        ("object",),
        ("again", 5),
        ("tensor", 0, "x", True, True, None),
        ("object", 0, "x", {}),
        ("nonsense", 0, []),
        (),
        ("tuple", [("list", 1, 7)]),
    ],
)
def test_a_state_of_another_form_is_refused_and_not_followed(captured):
    with pytest.raises(CannotRestore):
        ObjectState(nn.Linear(2, 2)).restore(captured)


def test_a_parameter_of_another_shape_is_refused():
    captured = ObjectState(nn.Linear(3, 2)).capture()
    with pytest.raises(CannotRestore, match=r"a parameter of shape \(2, 2\) was \(2, 3\)"):
        ObjectState(nn.Linear(2, 2)).restore(captured)


def test_a_state_that_repeats_itself_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(object_state, "_MOST_VALUES", 1000)
    captured = ("tuple", [1])
    for _ in range(50):
        captured = ("tuple", [captured] * 10)
    with pytest.raises(CannotRestore, match="it has more than 1,000 values"):
        ObjectState(nn.Linear(2, 2)).restore(captured)
