"""What a model is familiar with: descriptions by hand, distances of scikit-learn, the limit on validation images."""

import json

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf
from small_runs import run
from torch import nn

from datasets_ext.synthfake.generate import generate
from roga_domainbed.inference.evaluation_sets import open_images, own_sets
from roga_domainbed.inference.saved_run import load_run
from roga_domainbed.inference.unlike import distances
from roga_domainbed.trainer.familiarity import Familiarity, described, gaussian


class Network(nn.Module):
    """Two convolutions, the second of which runs first."""

    def __init__(self, channels=(2, 3)):
        super().__init__()
        self.late = nn.Conv2d(channels[0], channels[1], 1)
        self.early = nn.Conv2d(3, channels[0], 3)

    def predict(self, x):
        return self.late(torch.relu(self.early(x))).mean((2, 3))[:, :2]


def test_an_image_is_described_by_its_layout_and_its_channels_in_the_order_of_the_convolutions():
    torch.manual_seed(0)
    network, x = Network(), torch.randn(5, 3, 8, 8)
    with torch.inference_mode(), described(network) as (names, found):
        logits = network.predict(x)
        network.predict(x[:2])
    assert names == ["early", "late"]
    with torch.no_grad():
        first = network.early(x)
        maps = [first, network.late(torch.relu(first))]
        expected = [
            part for m in maps for part in (m.mean((2, 3)), (m.std((2, 3), correction=0) + 1e-4).log())
        ]
        grey = x.mean(1).flatten(1)  # of 8 x 8 pixels, each its own field
        layout = (grey - grey.mean(1, keepdim=True)) / (grey.std(1, keepdim=True, correction=0) + 0.04)
        torch.testing.assert_close(found[0], torch.cat([layout, *expected], 1))
        torch.testing.assert_close(found[1], found[0][:2])
        torch.testing.assert_close(network.predict(x), logits)
    assert "predict" not in vars(network), "nothing is left behind that a checkpoint would have to hold"
    assert not network.early._forward_hooks


@pytest.mark.parametrize(
    ("channels", "names"), [((100, 156), ["early", "late"]), ((100, 157), ["early"]), ((300, 2), ["early"])]
)
def test_convolutions_are_taken_up_to_256_channels_and_one_in_any_case(channels, names):
    network = Network(channels)
    with torch.inference_mode(), described(network) as (chosen, found):
        network.predict(torch.randn(2, 3, 8, 8))
    assert chosen == names
    assert found[0].shape == (2, 64 + 2 * sum(channels[: len(names)]))


def test_layout_is_what_is_where_whatever_the_light():
    x = torch.rand(2, 1, 8, 8).repeat_interleave(4, 2).repeat_interleave(4, 3).expand(2, 3, 32, 32)
    _, found = _descriptions(torch.cat([x, 0.5 * x + 0.3, x.flip(3)]))
    layout = found[:, :64]
    # the least contrast weighs on half the contrast twice as much
    torch.testing.assert_close(layout[:2], layout[2:4], atol=0.03, rtol=0.2)
    fields = layout[:2].reshape(2, 8, 8)
    torch.testing.assert_close(layout[4:].reshape(2, 8, 8), fields.flip(2))
    assert not torch.allclose(fields, fields.flip(2), atol=0.3)


def _descriptions(x):
    network = Network()
    with torch.inference_mode(), described(network) as (names, found):
        network.predict(x)
    return names, found[0]


def test_a_network_without_convolutions_describes_nothing():
    network = nn.Linear(4, 2)
    network.predict = network.forward
    with torch.inference_mode(), described(network) as (names, found):
        network.predict(torch.randn(2, 4))
    assert (names, found) == ([], [])
    assert network.predict == network.forward


def test_convolutions_that_see_parts_of_a_minibatch_describe_nothing():
    network = Network()
    whole = network.predict
    network.predict = lambda x: torch.cat([whole(x[:1]), whole(x[1:])])
    with torch.inference_mode(), described(network) as (_, found):
        network.predict(torch.randn(3, 3, 8, 8))
    assert found == []


def test_code_that_was_compiled_in_place_is_passed_by_as_it_calls_no_hook():
    network, x = Network(), torch.randn(2, 3, 8, 8)

    def compiled(*args):
        raise AssertionError("was called")

    network.late._compiled_call_impl = compiled  # what nn.Module.compile sets
    with torch.inference_mode(), described(network) as (names, _):
        network.predict(x)
    assert names == ["early", "late"]
    with pytest.raises(AssertionError, match="was called"):
        network.predict(x)


def test_the_distance_is_that_of_scikit_learns_covariance():
    rng = np.random.RandomState(0)
    training = rng.randn(60, 7) @ rng.randn(7, 7) * [1, 10, 1, 1, 0.01, 1, 1] + 5
    others = rng.randn(20, 7) * 3 + 5
    mean, whitening = gaussian(torch.from_numpy(training))
    found = Familiarity((), mean, whitening, 1.0, 60).distances(torch.from_numpy(others).float())
    scale = training.std(0)
    theirs = LedoitWolf().fit(training / scale).mahalanobis(others / scale)
    np.testing.assert_allclose(found, np.sqrt(theirs), rtol=1e-4)


def test_a_channel_that_never_changes_is_no_trouble():
    values = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    values[:, 1] = 2.0
    mean, whitening = gaussian(values)
    known = Familiarity((), mean, whitening, 1.0, 30)
    assert np.isfinite(known.distances(values)).all()
    assert known.distances(torch.tensor([[0.0, 9.0, 0.0]])) > known.distances(values).max()


def test_at_most_one_in_a_hundred_validation_images_is_unlike_what_was_trained_on(tmp_path):
    generate(tmp_path, n_identities=24, n_frames=8)
    hparams = json.dumps({"batch_size": 4, "image_size": 32})
    options = {
        "dataset": "SynthFake",
        "data_dir": str(tmp_path),
        "test_envs": [3],
        "hparams": hparams,
        "steps": 2,
    }
    run(tmp_path / "run", algorithm="ERM", **options)
    model = load_run(tmp_path / "run", torch.device("cpu"))
    parts = [entry for entry in own_sets(model, None).sets if entry.part == "out" and entry.env != 3]
    reader = open_images(model, "SynthFake", [entry.environment for entry in parts], 0)
    with torch.inference_mode(), distances(model) as taken:
        for _, x, _ in reader.evaluation([(place, entry.indices) for place, entry in enumerate(parts)]):
            model.algorithm.predict(x)
        found = np.sort(taken())
        model.algorithm.predict(torch.rand(50, 3, 32, 32) * 2 - 1)
        noise = taken()
    n_above = int(len(found) * 0.01)
    assert n_above == 1, "enough images for one"
    # in another batch the last digits are others
    assert found[-n_above] > model.familiarity.limit
    assert found[-n_above - 1] == pytest.approx(model.familiarity.limit, rel=1e-4)
    assert (noise > model.familiarity.limit).all()
