"""The engine's algorithms beside those of an unmodified DomainBed: equal weights, data and seeds, five steps.

On vectors in float64: Adam divides by the gradient's size, so that in float32 two roundings of a gradient near
zero become two different steps. On images, whose convolutions are slow in float64, in float32 and by plain gradient
descent, which has no such division, where the algorithm's optimizer can be replaced.
"""

import copy
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from roga_domainbed.engine import algorithms as engine
from roga_domainbed.engine.hparams_registry import default_hparams, random_hparams

pytestmark = pytest.mark.upstream

ZOO = [
    *"IRM GroupDRO Mixup MLDG CORAL MMD VREx RSC SD DANN CDANN Fish ANDMask SelfReg ERM".split(),
    *"Fishr TRM CAD CondCAD Transfer CausIRL_CORAL CausIRL_MMD EQRM RDM ADRMX".split(),
    *"MTL SagNet ARM SANDMask IGA IB_ERM IB_IRM URM ERMPlusPlus".split(),
]
SEEDS = (None, 1, 2, 7)  # None: the defaults
N_STEPS = 5
N_BEFORE = 597  # steps of ERM++ before the first one here
VECTOR = (12,)
IMAGE = (3, 28, 28)
MLP = {"mlp_width": 16, "mlp_depth": 3, "mlp_dropout": 0.0}
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
#: What DomainBed reports is the last environment's value alone; ours is the mean over them.
REPORTED_OTHERWISE = {("VREx", "nll"), ("Fish", "loss"), ("ADRMX", "loss_remixed")}
#: What it reports there is the whole loss, which ours calls loss.
REPORTED_OTHERWISE |= {("IB_ERM", "nll"), ("IB_IRM", "nll")}
#: What begins after some steps begins within the five. What is defective in DomainBed is left out, and tested below.
SETTINGS = {
    "Fishr": {"penalty_anneal_iters": 2},
    "TRM": {"iters": 2, "groupdro_eta": 0.0},
    "Transfer": {"gda": False},
    "EQRM": {"eqrm_burnin_iters": 2},
    "RDM": {"rdm_penalty_anneal_iters": 2},
    "ADRMX": {"rmxd_lambda": 0.0},
}


@pytest.fixture(scope="module")
def upstream():
    """DomainBed, with what keeps three of its algorithms from running here, or from their rule, put right in memory."""
    from roga_domainbed.upstream import bridge

    host = bridge.register()
    fishr, trm = map(host.algorithms.get_algorithm_class, ("Fishr", "TRM"))
    host.neumann_series_as_it_is = trm.neum
    with pytest.MonkeyPatch.context() as patch:
        for cls in (torch.nn.Module, torch.Tensor):
            patch.setattr(cls, "cuda", lambda self: self)  # TRM and RDM call it whatever the device
        patch.setattr(fishr, "_get_grads", gradients_one_by_one)
        patch.setattr(trm, "neum", staticmethod(neumann_series))
        yield host


def gradients_one_by_one(fishr, logits, y):
    """What backpack gave: a row for each sample, of each weight of the classifier."""
    named = dict(fishr.classifier.named_parameters())
    rows = [
        torch.autograd.grad(F.cross_entropy(z[None], label[None]), named.values(), create_graph=True)
        for z, label in zip(logits, y, strict=True)
    ]
    columns = zip(*rows, strict=True)
    return OrderedDict(
        (name, torch.stack([gradient.flatten() for gradient in column]))
        for name, column in zip(named, columns, strict=True)
    )


def neumann_series(v, head, batch):
    """The sum of (I − H)^k v for k from 0 to 10, or until an entry is above 10."""
    total = v = v.detach()
    for _ in range(10):
        loss = F.cross_entropy(head(batch[0].detach()), batch[1])
        (slope,) = torch.autograd.grad(loss, head.weight, create_graph=True)
        v = v - torch.autograd.grad(slope.flatten() @ v, head.weight)[0].flatten()
        total = total + v
        if total.abs().max() > 10:
            break
    return total


@pytest.fixture(autouse=True)
def float64(request):
    name = request.node.name
    if "images" not in name or "Mask" in name:  # rounding decides the signs of the smallest gradients
        torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def hparams_of(name, seed):
    hparams = default_hparams(name, "Debug28") if seed is None else random_hparams(name, "Debug28", seed)
    if name in ("IRM", "VREx"):
        # The jump of the penalty's weight happens within the five steps.
        hparams[f"{name.lower()}_penalty_anneal_iters"] = 2
    if name in ("IB_ERM", "IB_IRM"):
        hparams |= {"irm_penalty_anneal_iters": 2, "ib_penalty_anneal_iters": 3}
    if name == "SANDMask" and seed is None:
        hparams["tau"] = 0.5  # upstream moves no weight at its default, see below
    if name == "ERMPlusPlus":
        hparams["linear_steps"] = N_BEFORE + 2
    if name == "ARM":
        hparams["batch_size"] = rows_of(name)  # upstream does not know which images are of one environment
    return {**hparams, **SETTINGS.get(name, {}), **MLP}


def shape_of(name):
    return IMAGE if name == "ARM" else VECTOR


def rows_of(name):
    return 2 if name == "ARM" else 9


def prepare(name, algorithm, is_upstreams):
    """Begin ERM++ shortly before its average does. Repair upstream's class where ours differs."""
    if name == "ERMPlusPlus":
        setattr(algorithm, "global_iter" if is_upstreams else "update_count", N_BEFORE)
    if is_upstreams and name == "MTL":
        embedding = algorithm.update_embeddings_
        # ``normal_`` is what overwrites the embedding with noise.
        algorithm.update_embeddings_ = lambda *args: SimpleNamespace(normal_=lambda: embedding(*args))
    if is_upstreams and name == "ARM":
        algorithm.optimizer.add_param_group({"params": algorithm.context_net.parameters()})


def batches(n_domains, n_classes, rows=9, shape=VECTOR):
    generator = torch.Generator().manual_seed(5)
    for _ in range(N_STEPS):
        yield [
            (torch.randn(rows, *shape, generator=generator), torch.arange(rows) % n_classes)
            for _ in range(n_domains)
        ]


def seed_everything(seed):
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


def side_by_side(upstream, name, hparams, n_domains, n_classes, shape=None, adjust=lambda algorithm: None):
    """Train both; return the results of each step and the two models."""
    shape = shape or shape_of(name)
    theirs = upstream.algorithms.get_algorithm_class(name)(shape, n_classes, n_domains, dict(hparams))
    ours = engine.get_algorithm_class(name)(shape, n_classes, n_domains, dict(hparams))
    ours.load_state_dict(theirs.state_dict())
    if name == "TRM":
        share_heads(theirs, ours)
    for algorithm in (theirs, ours):
        prepare(name, algorithm, algorithm is theirs)
        adjust(algorithm)
    results = []
    for step, minibatches in enumerate(batches(n_domains, n_classes, rows_of(name), shape)):
        step_results = []
        for algorithm in (theirs, ours):
            seed_everything(step)
            step_results.append(algorithm.update([(x.clone(), y.clone()) for x, y in minibatches]))
        results.append(step_results)
    return results, theirs, ours


def share_heads(theirs, ours):
    """The heads of TRM are in no state_dict; upstream has one more than there are environments, and does not use it."""
    heads = theirs.clist[: len(ours.head_weights)]
    ours.head_weights = torch.stack([head.weight.detach() for head in heads])
    ours.head_biases = torch.stack([head.bias.detach() for head in heads])


def assert_equal_runs(name, results, theirs, ours):
    for expected, got in results:
        assert list(got) == list(expected)
        for key, value in expected.items():
            assert type(got[key]) is float
            if (name, key) not in REPORTED_OTHERWISE:
                assert got[key] == pytest.approx(value, rel=1e-5, abs=1e-5), key
    weights = {k: v for k, v in theirs.state_dict().items() if not k.startswith("network_inner.")}
    torch.testing.assert_close(ours.state_dict(), weights, **TOLERANCE)


@pytest.mark.parametrize(
    ("name", "seed", "n_domains", "n_classes"),
    [
        (name, *case)
        for name in ZOO
        for case in (*((seed, 3, 2) for seed in SEEDS), (3, 4, 3))
        # ARM's convolutions are slow in float64, and it has no hyper-parameters of its own.
        if name != "ARM" or case[0] is None
    ],
)
def test_five_steps_are_upstreams(upstream, name, seed, n_domains, n_classes):
    run = side_by_side(upstream, name, hparams_of(name, seed), n_domains, n_classes)
    assert_equal_runs(name, *run)


@pytest.mark.parametrize("name", sorted(set(ZOO) - {"Fish", "Transfer", "ARM"}))
def test_dropout_draws_in_upstreams_order(upstream, name):
    # Fish is left out: upstream draws a whole network's weights in each step, where ours copies one. Transfer, too:
    # upstream makes new features for each step of the head. ARM takes no vectors, and its network for images has no
    # dropout.
    hparams = hparams_of(name, 4) | {"mlp_dropout": 0.1}
    assert_equal_runs(name, *side_by_side(upstream, name, hparams, n_domains=3, n_classes=2))


def with_gradient_descent(algorithm):
    optimizers = [name for name, value in vars(algorithm).items() if isinstance(value, torch.optim.Optimizer)]
    for name in optimizers:
        groups = getattr(algorithm, name).param_groups
        params = [parameter for group in groups for parameter in group["params"]]
        setattr(algorithm, name, torch.optim.SGD(params, lr=0.01))


# Fish and MLDG make an Adam in each step; MMD's widest γ magnifies float32's rounding of small distances.
@pytest.mark.parametrize("name", sorted(set(ZOO) - {"Fish", "MLDG", "MMD", "CausIRL_MMD"}))
def test_five_steps_on_images_are_upstreams(upstream, name):
    hparams = hparams_of(name, None)
    for key in hparams:
        if key.endswith(("penalty_anneal_iters", "burnin_iters")):
            hparams[key] = 500  # upstream makes a new Adam at that step
    if name == "IGA":
        hparams["penalty"] = 1.0  # a step of gradient descent down the default's would be too large
    run = side_by_side(
        upstream, name, hparams, n_domains=3, n_classes=2, shape=IMAGE, adjust=with_gradient_descent
    )
    assert_equal_runs(name, *run)


@pytest.mark.parametrize("name", ZOO)
def test_a_fresh_model_has_upstreams_names_and_shapes(upstream, name):
    args = IMAGE, 2, 3, hparams_of(name, None)
    theirs = upstream.algorithms.get_algorithm_class(name)(*args).state_dict()
    ours = engine.get_algorithm_class(name)(*args).state_dict()
    assert list(ours) == list(theirs)
    if name == "GroupDRO":  # upstream's q is empty until the first step, which is why it cannot load it
        assert theirs.pop("q").shape == (0,)
        assert ours.pop("q").tolist() == [1 / 3] * 3
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


@pytest.mark.parametrize("name", ZOO)
def test_a_trained_checkpoint_of_upstream_predicts_the_same_in_the_engine(upstream, name):
    hparams = hparams_of(name, None)
    _, theirs, _ = side_by_side(upstream, name, hparams, n_domains=3, n_classes=2)
    ours = engine.get_algorithm_class(name)(shape_of(name), 2, 3, hparams)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(4, *shape_of(name))
    for algorithm in (theirs, ours):
        algorithm.eval()  # TRM's returns nothing
    torch.testing.assert_close(ours.predict(x), theirs.predict(x), **TOLERANCE)


@pytest.mark.parametrize("dataset", ["Debug28", "RotatedMNIST", "PACS", "DomainNet", "SynthFake"])
@pytest.mark.parametrize("name", ZOO)
def test_hyper_parameters_are_upstreams_in_value_and_order(upstream, name, dataset):
    registry = upstream.hparams_registry
    assert list(default_hparams(name, dataset).items()) == list(
        registry.default_hparams(name, dataset).items()
    )
    for seed in (1, 2, 785910682):
        expected = registry.random_hparams(name, dataset, seed)
        assert list(random_hparams(name, dataset, seed).items()) == list(expected.items())


def test_mldg_on_two_environments_learns_where_upstream_does_not(upstream):
    hparams = hparams_of("MLDG", None)
    with pytest.warns(UserWarning, match="leaves none for meta-training; 1 held out instead"):
        results, _, ours = side_by_side(upstream, "MLDG", hparams, n_domains=2, n_classes=2)
    assert [expected for expected, _ in results] == [{"loss": 0.0}] * N_STEPS
    assert all(got["loss"] > 0 for _, got in results)
    # With one environment held out, as the paper's rule has it, both are the same again.
    run = side_by_side(upstream, "MLDG", hparams | {"n_meta_test": 1}, n_domains=2, n_classes=2)
    assert_equal_runs("MLDG", *run)
    assert ours.num_meta_test == 1


# With that lr, the inner network of Fish stays where it is.
@pytest.mark.parametrize(("name", "key", "settings"), [("VREx", "nll", {}), ("Fish", "loss", {"lr": 1e-12})])
def test_the_value_that_upstream_reports_is_the_last_environments_and_ours_the_mean(
    upstream, name, key, settings
):
    args = VECTOR, 2, 3, hparams_of(name, None) | settings
    theirs = upstream.algorithms.get_algorithm_class(name)(*args)
    ours = engine.get_algorithm_class(name)(*args)
    ours.load_state_dict(theirs.state_dict())
    minibatches = next(batches(3, 2))
    with torch.no_grad():
        risks = [F.cross_entropy(ours.predict(x), y).item() for x, y in minibatches]
    assert theirs.update(minibatches)[key] == pytest.approx(risks[-1])
    assert ours.update(minibatches)[key] == pytest.approx(np.mean(risks))


@pytest.mark.parametrize("name", ["GroupDRO", "Fish"])
def test_upstream_cannot_load_what_it_saved_and_the_engine_can(upstream, name):
    hparams = hparams_of(name, None)
    _, theirs, ours = side_by_side(upstream, name, hparams, n_domains=3, n_classes=2)
    args = VECTOR, 2, 3, hparams
    with pytest.raises(RuntimeError, match=r"Error.* in loading state_dict"):
        upstream.algorithms.get_algorithm_class(name)(*args).load_state_dict(theirs.state_dict())
    engine.get_algorithm_class(name)(*args).load_state_dict(ours.state_dict())


def test_selfreg_leaves_its_projection_untrained_as_upstream_does(upstream):
    _, theirs, ours = side_by_side(upstream, "SelfReg", hparams_of("SelfReg", None), n_domains=3, n_classes=2)
    for algorithm in (theirs, ours):
        trained = {id(p) for group in algorithm.optimizer.param_groups for p in group["params"]}
        assert not trained & {id(p) for p in algorithm.cdpl.parameters()}


def test_trms_neumann_series_lacks_its_first_term_in_upstream_and_has_the_second_twice(upstream):
    torch.manual_seed(0)
    head, x, y = torch.nn.Linear(5, 3), torch.randn(7, 5), torch.arange(7) % 3
    v = torch.randn(15) / 100
    head.weight.grad = torch.zeros_like(head.weight)  # upstream multiplies it by 0
    theirs = upstream.neumann_series_as_it_is(v.clone(), head, (x, y))
    hessian = torch.autograd.functional.hessian(
        lambda w: F.cross_entropy(F.linear(x, w.reshape(3, 5), head.bias), y), head.weight.detach().flatten()
    )
    second = v - hessian @ v
    torch.testing.assert_close(theirs, neumann_series(v, head, (x, y)) - v + second)


def test_the_weights_of_trms_risks_move_as_upstreams(upstream):
    # A single step: in upstream the loss has the weights before it and the gradient those after it.
    args = VECTOR, 2, 3, hparams_of("TRM", None) | {"iters": 0, "groupdro_eta": 0.1}
    theirs = upstream.algorithms.get_algorithm_class("TRM")(*args)
    ours = engine.get_algorithm_class("TRM")(*args)
    ours.load_state_dict(theirs.state_dict())
    share_heads(theirs, ours)
    minibatches = next(batches(3, 2))
    expected, got = theirs.update(minibatches), ours.update(minibatches)
    assert got == pytest.approx(expected)
    torch.testing.assert_close(ours.alpha, theirs.alpha)
    assert ours.alpha.sum(1).tolist() != pytest.approx([1.0] * 3, abs=1e-3)


def test_adrmx_remixes_within_a_class_and_across_environments_and_upstream_whatever_comes_first(upstream):
    # No class is in two environments, so there is nothing to remix.
    minibatches = [(torch.randn(4, *VECTOR), torch.full((4,), label)) for label in (0, 1)]
    args = VECTOR, 2, 2, hparams_of("ADRMX", None) | {"d_steps_per_g_step": 1}
    theirs, ours = (
        cls(*args).update(minibatches)["loss_remixed"]
        for cls in (upstream.algorithms.get_algorithm_class("ADRMX"), engine.get_algorithm_class("ADRMX"))
    )
    assert theirs > 0
    assert ours == 0


def test_rdm_takes_minibatches_of_unequal_sizes_where_upstream_fails(upstream):
    minibatches = [(torch.randn(rows, *VECTOR), torch.arange(rows) % 2) for rows in (4, 5)]
    args = VECTOR, 2, 2, hparams_of("RDM", None)
    with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        upstream.algorithms.get_algorithm_class("RDM")(*args).update(minibatches)
    assert engine.get_algorithm_class("RDM")(*args).update(minibatches)["total_loss"] > 0


def test_transfer_with_gda_trains_the_network_where_upstream_trains_its_head_alone(upstream):
    hparams = hparams_of("Transfer", None) | {"gda": True, "lr": 0.1}
    start = None

    def keep(algorithm):
        nonlocal start
        start = {k: v.clone() for k, v in algorithm.state_dict().items()}

    _, theirs, ours = side_by_side(upstream, "Transfer", hparams, n_domains=3, n_classes=2, adjust=keep)
    for key, value in start.items():
        if key.startswith(("featurizer", "classifier")):
            assert torch.equal(theirs.state_dict()[key], value)
            assert not torch.equal(ours.state_dict()[key], value)


def test_eqrm_restarts_after_a_burn_in_that_is_no_whole_number_and_upstream_does_not(upstream):
    hparams = hparams_of("EQRM", None) | {"eqrm_burnin_iters": 1.5}
    _, theirs, ours = side_by_side(upstream, "EQRM", hparams, n_domains=3, n_classes=2)
    assert [theirs.optimizer.param_groups[0]["lr"], ours.optimizer.param_groups[0]["lr"]] == [1e-3, 1e-6]
    # At the next whole step it is upstream's.
    whole = hparams_of("EQRM", None)
    assert whole["eqrm_burnin_iters"] == 2
    _, _, same = side_by_side(upstream, "EQRM", whole, n_domains=3, n_classes=2)
    torch.testing.assert_close(same.state_dict(), ours.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["CAD", "CondCAD"])
def test_a_projection_is_trained_where_upstream_has_an_undefined_name(upstream, name):
    args = VECTOR, 2, 3, hparams_of(name, None) | {"is_project": True}
    with pytest.raises(NameError, match="feature_dim"):
        upstream.algorithms.get_algorithm_class(name)(*args)
    ours = engine.get_algorithm_class(name)(*args)
    before = ours.project[0].weight.clone()
    ours.update(next(batches(3, 2)))
    assert not torch.equal(ours.project[0].weight, before)


# CAD that is not flipped is left out: upstream's sample can choose itself there.
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("CAD", {"is_normalized": True}),
        ("CondCAD", {"is_normalized": True}),
        ("CondCAD", {"is_flipped": False}),
    ],
)
def test_other_forms_of_the_bottleneck_are_upstreams(upstream, name, settings):
    hparams = hparams_of(name, None) | settings
    assert_equal_runs(name, *side_by_side(upstream, name, hparams, n_domains=3, n_classes=2))


@pytest.mark.parametrize("name", ["IB_ERM", "IB_IRM"])
def test_the_nll_that_upstream_reports_is_the_loss_and_ours_the_risk(upstream, name):
    # five steps are three before and two with the full weight of the variance
    results, _, _ = side_by_side(upstream, name, hparams_of(name, None), n_domains=3, n_classes=2)
    for step, (expected, got) in enumerate(results):
        assert expected["nll"] == expected["loss"] == pytest.approx(got["loss"])
        penalties = (100.0 if step >= 3 else 0.0) * got["IB_penalty"]
        if name == "IB_IRM":
            penalties += (100.0 if step >= 2 else 1.0) * got["IRM_penalty"]
        assert got["nll"] == pytest.approx(got["loss"] - penalties)


def moved(name, before, after):
    """Whether any weight under ``name`` differs."""
    return any(not torch.equal(after[key], value) for key, value in before.items() if key.startswith(name))


@pytest.mark.parametrize(
    ("name", "network", "settings"), [("SANDMask", "featurizer", {"tau": 1.0}), ("ARM", "context_net", {})]
)
def test_what_upstream_leaves_as_it_was_drawn_learns_in_the_engine(upstream, name, network, settings):
    args = shape_of(name), 2, 3, hparams_of(name, None) | settings
    learns = []
    for algorithm in (
        upstream.algorithms.get_algorithm_class(name)(*args),
        engine.get_algorithm_class(name)(*args),
    ):
        names = {name for name, _ in algorithm.named_parameters()}
        before = {key: value.clone() for key, value in algorithm.state_dict().items() if key in names}
        for minibatches in batches(3, 2, rows_of(name), shape_of(name)):
            algorithm.update(minibatches)
        learns.append(moved(network, before, algorithm.state_dict()))
    assert learns == [False, True]


def test_mtl_predicts_the_same_twice_where_upstream_draws_noise(upstream):
    args = VECTOR, 2, 3, hparams_of("MTL", None)
    x = torch.randn(4, *VECTOR)
    same = []
    for algorithm in (
        upstream.algorithms.get_algorithm_class("MTL")(*args).eval(),
        engine.get_algorithm_class("MTL")(*args).eval(),
    ):
        same.append(torch.equal(algorithm.predict(x), algorithm.predict(x)))
    assert same == [False, True]


def test_lars_is_upstreams_which_its_erm_plus_plus_cannot_build(upstream):
    hparams = hparams_of("ERMPlusPlus", None) | {"lars": True, "lr": 0.1, "weight_decay": 0.01}
    with pytest.raises(TypeError, match="foreach"):
        upstream.algorithms.get_algorithm_class("ERMPlusPlus")(VECTOR, 2, 3, hparams)
    ours = engine.get_algorithm_class("ERMPlusPlus")(VECTOR, 2, 3, hparams)
    theirs = copy.deepcopy(ours.network)
    lars = upstream.misc.LARS(theirs.parameters(), lr=0.1, weight_decay=0.01)
    ours.update_count = hparams["linear_steps"] + 1
    for minibatches in batches(3, 2):
        ours.update(minibatches)
        x, y = (torch.cat(parts) for parts in zip(*minibatches, strict=True))
        lars.zero_grad()
        F.cross_entropy(theirs(x), y).backward()
        lars.step()
    torch.testing.assert_close(ours.network.state_dict(), theirs.state_dict(), **TOLERANCE)
