import pytest
import torch
import torch.nn.functional as F

from roga_domainbed import catalog
from roga_domainbed.engine import algorithms, lookup
from roga_domainbed.engine.hparams_registry import default_hparams
from roga_domainbed.errors import RogaError


def erm(**overrides):
    hparams = default_hparams("ERM", "Debug28") | overrides
    return algorithms.ERM((3, 28, 28), 2, 2, hparams)


def minibatches(n_domains=2, rows=4):
    return [(torch.randn(rows, 3, 28, 28), torch.tensor([0, 1] * (rows // 2))) for _ in range(n_domains)]


def test_state_dict_of_erm_has_upstreams_names_and_shapes(oracle):
    shapes = {name: list(tensor.shape) for name, tensor in erm().state_dict().items()}
    assert shapes == oracle("erm_debug28_shapes")


def test_erm_takes_the_first_adam_step_on_the_mean_cross_entropy_of_all_domains():
    torch.manual_seed(0)
    algorithm = erm(lr=0.01).double()
    batches = [(x.double(), y) for x, y in minibatches()]
    x, y = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
    loss = F.cross_entropy(algorithm.predict(x), y)
    weight = algorithm.classifier.weight
    (gradient,) = torch.autograd.grad(loss, weight)
    before = weight.detach().clone()

    result = algorithm.update(batches)

    assert result == {"loss": pytest.approx(loss.item())}
    # Adam's first step: both moments are bias-corrected to the gradient itself.
    expected = before - 0.01 * gradient / (gradient.abs() + 1e-8)
    torch.testing.assert_close(weight.detach(), expected)


def test_erm_passes_weight_decay_to_its_optimizer():
    assert erm(weight_decay=0.125).optimizer.param_groups[0]["weight_decay"] == 0.125


def test_erm_learns_a_separable_problem():
    torch.manual_seed(0)
    algorithm = erm()
    x = torch.randn(16, 3, 28, 28)
    y = (torch.arange(16) % 2).long()
    x[y == 1] += 1
    losses = [algorithm.update([(x[:8], y[:8]), (x[8:], y[8:])])["loss"] for _ in range(10)]
    assert losses[-1] < losses[0] / 2


def test_algorithms_are_those_of_the_catalog_with_a_target():
    assert algorithms.ALGORITHMS[0] == "ERM"
    assert "RoGA" in algorithms.ALGORITHMS
    with catalog.ALGORITHMS.temporarily(catalog.AlgorithmInfo("UpstreamsOwn")) as entry:
        assert entry.name not in lookup.names(catalog.ALGORITHMS)


def test_get_algorithm_class_finds_erm():
    assert algorithms.get_algorithm_class("ERM") is algorithms.ERM


def test_get_algorithm_class_finds_entries_that_are_registered_later():
    entry = catalog.AlgorithmInfo("Mine", target="roga_domainbed.engine.algorithms.erm:ERM")
    with catalog.ALGORITHMS.temporarily(entry):
        assert algorithms.get_algorithm_class("Mine") is algorithms.ERM


@pytest.mark.parametrize("kind", [RogaError, NotImplementedError])
def test_an_algorithm_of_upstream_alone_is_refused_with_the_way_to_get_it(kind):
    said = r"'UpstreamsOwn' is DomainBed's own: set DOMAINBED_HOME.*the engine has: ERM, "
    entry = catalog.AlgorithmInfo("UpstreamsOwn")
    with catalog.ALGORITHMS.temporarily(entry), pytest.raises(kind, match=said):
        algorithms.get_algorithm_class("UpstreamsOwn")


@pytest.mark.parametrize("kind", [RogaError, NotImplementedError])
def test_an_unknown_algorithm_is_refused_with_the_nearest_name(kind):
    with pytest.raises(kind, match=r"unknown algorithm 'Erm' \(did you mean 'ERM'\?\); known: ERM, "):
        algorithms.get_algorithm_class("Erm")


def test_names_that_are_no_algorithms_are_refused():
    # Upstream looks names up in its module, so "torch" or "Algorithm" give it something that is not one.
    for name in ("torch", "Algorithm"):
        with pytest.raises(RogaError, match="unknown algorithm"):
            algorithms.get_algorithm_class(name)


def test_the_base_class_leaves_update_and_predict_to_its_children():
    base = algorithms.Algorithm((3, 28, 28), 2, 2, {"lr": 1.0})
    assert base.hparams == {"lr": 1.0}
    assert base.HPARAMS == ()
    with pytest.raises(NotImplementedError):
        base.update([])
    with pytest.raises(NotImplementedError):
        base.predict(torch.zeros(1))
