"""Features in the plane: the features are the featurizer's, silhouette and t-SNE are scikit-learn's."""

import json

import numpy as np
import pytest
import torch
from explained_runs import Detector, run_of
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score
from torch import nn

from datasets_ext.synthfake.generate import generate
from roga_domainbed.errors import Failed, RogaError
from roga_domainbed.inference.explain.embedding import drawn_samples, embed, silhouette
from roga_domainbed.inference.explain.features import features
from roga_domainbed.inference.explain.runs import load_runs
from roga_domainbed.inference.explain.test_data import DataOptions, open_test_data, read
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.run import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of five steps, and its test images."""
    data, folder = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("runs") / "run"
    generate(data, n_identities=6, n_frames=2)
    options = {"hparams": json.dumps({"batch_size": 4}), "steps": 5, "n_workers": 0, "test_envs": [3]}
    train(TrainConfig(str(data), "SynthFake", output_dir=str(folder), **options))
    runs = load_runs([str(folder)])
    return runs, open_test_data(runs, DataOptions())


def by_hand(run, data, samples):
    """Features and probabilities of the samples, one by one, by the network's own parts."""
    rows, fake = [], []
    with torch.no_grad():
        for sample in samples:
            x, _ = data.set_of(sample).environment[sample.index]
            rows.append(run.algorithm.featurizer(x[None])[0])
            fake.append(torch.softmax(run.algorithm.classifier(rows[-1]), 0)[1].item())
    return torch.stack(rows).numpy(), np.array(fake)


def test_coordinates_and_silhouette_are_scikit_learns_on_the_features(trained):
    runs, data = trained
    samples = drawn_samples(data, 5000, seed=0)
    (found,) = embed(runs, data, samples, seed=7).runs
    x, fake = by_hand(runs["ERM"], data, samples)
    labels = [sample.label for sample in samples]
    assert found.silhouette == pytest.approx(silhouette_score(x, labels), abs=1e-5)
    np.testing.assert_allclose(found.fake, fake, atol=1e-5)
    # t-SNE makes much of last digits, so that it gets the features of the same batches
    with features(runs["ERM"]) as compute:
        x = torch.cat([compute(batch)[0] for batch in read(runs["ERM"], data.opened[0], samples)])
    assert len(samples) < 91, "of more, the perplexity would be scikit-learn's 30"
    expected = TSNE(2, perplexity=(len(samples) - 1) / 3, init="pca", random_state=7).fit_transform(x.numpy())
    np.testing.assert_allclose(found.xy, expected, atol=1e-5)


def test_a_seed_gives_the_same_picture_and_another_seed_another_one(trained):
    runs, data = trained
    samples = drawn_samples(data, 12, seed=1)
    assert samples == drawn_samples(data, 12, seed=1)
    assert samples != drawn_samples(data, 12, seed=2)
    first, again = (embed(runs, data, samples, seed=1).runs[0].xy for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_samples_are_drawn_without_repetition_in_the_order_of_the_data(trained):
    _, data = trained
    samples = drawn_samples(data, 12, seed=0)
    places = [data.samples.index(sample) for sample in samples]
    assert len(samples) == 12
    assert places == sorted(set(places))
    assert drawn_samples(data, len(data.samples), seed=0) == data.samples


def test_the_table_has_a_row_a_run_and_sample(trained):
    runs, data = trained
    samples = drawn_samples(data, 5000, seed=0)
    found = embed(runs, data, samples, seed=0)
    table = found.coordinates()
    assert list(table) == "run env_name index video path label score x y".split()
    assert len(table) == len(samples)
    assert table["path"].is_unique
    assert set(table["env_name"]) == {"DF", "F2F", "FS", "NT"}
    np.testing.assert_array_equal(table[["x", "y"]], found.runs[0].xy)
    in_path = table["path"].str.contains("1_fake").astype(int)
    assert (table["label"] == in_path).all()


def test_few_images_tell_nothing(trained):
    _, data = trained
    with pytest.raises(
        RogaError, match=r"at least 10 images; SynthFake has \d+ test images and --n_samples is 9"
    ):
        drawn_samples(data, 9, seed=0)


def test_silhouette_of_two_pairs_by_hand_and_of_one_class():
    # each point: own distance a = 1, mean distance to the others b; (b - a) / b = 1 - 1/b
    x = np.array([[0.0], [1.0], [10.0], [11.0]])
    expected = np.mean([1 - 1 / 10.5, 1 - 1 / 9.5, 1 - 1 / 9.5, 1 - 1 / 10.5])
    assert silhouette(x, np.array([0, 0, 1, 1])) == pytest.approx(expected)
    assert silhouette(x, np.zeros(4, int)) is None


def test_without_a_featurizer_the_features_are_what_the_last_linear_layer_gets():
    class Inside(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))

        def predict(self, x):
            return self.network(x)

    run, x = run_of(Inside(), (1, 2, 2)), torch.randn(5, 1, 2, 2)
    with features(run) as compute:
        found, logits = compute(x)
    with torch.no_grad():
        torch.testing.assert_close(found, run.algorithm.network[:3](x))
        torch.testing.assert_close(logits, run.algorithm.network(x))


def test_a_featurizer_that_predict_does_not_run_has_none_of_the_features():
    class Averaged(Detector):
        """As ERM++, whose averaged network predicts."""

        def __init__(self):
            super().__init__(nn.Flatten(), nn.Linear(4, 2))
            self.average = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 2))

        def predict(self, x):
            return self.average(x)

    run, x = run_of(Averaged(), (1, 2, 2)), torch.randn(5, 1, 2, 2)
    with features(run) as compute, torch.no_grad():
        torch.testing.assert_close(compute(x)[0], run.algorithm.average[:2](x))


def test_a_head_of_several_layers_belongs_to_the_classifier():
    head = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    run, x = run_of(Detector(nn.Flatten(), head), (1, 2, 2)), torch.randn(5, 1, 2, 2)
    with features(run) as compute:
        torch.testing.assert_close(compute(x)[0], x.flatten(1))


def test_a_network_without_linear_layers_has_no_features():
    class Mean(nn.Module):
        def predict(self, x):
            return x.mean((1, 2, 3))[:, None]

    run = run_of(Mean(), (1, 2, 2))
    with features(run) as compute, pytest.raises(RogaError, match="ERM has no features"):
        compute(torch.zeros(3, 1, 2, 2))


@pytest.mark.parametrize(
    ("value", "message"), [(float("nan"), "are NaN or infinite"), (0.0, "the same features")]
)
def test_features_that_cannot_be_drawn_are_an_error(trained, monkeypatch, value, message):
    runs, data = trained
    monkeypatch.setattr(
        runs["ERM"].algorithm.featurizer.activation, "forward", lambda x: torch.full_like(x, value)
    )
    with pytest.raises(Failed, match=message):
        embed(runs, data, drawn_samples(data, 5000, seed=0), seed=0)
