"""Anybody's dataset, adapted once: what it offers is used, and what it does not offer has a default."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from roga_domainbed.engine.datasets.tensors import TensorEnvironment
from roga_domainbed.input.augmentation.spec import Recipe
from roga_domainbed.input.environment import Environment, OpenDataset, environment_of
from roga_domainbed.input.image_files import UnreadableImage, read_image
from roga_domainbed.input.images import images_of
from roga_domainbed.input.minibatches import IndexSampler, TrainingSamples
from roga_domainbed.input.relabelled import Relabelled


class Foreign:
    """What docs/speed.md says a dataset of one's own may offer."""

    labels = [1, 0, 1]
    videos = ["a", "b", "b"]
    folder, relative_paths = "data", ["a/0.png", "b/0.png", "b/1.png"]
    recipe = Recipe(4)

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return torch.zeros(3, 4, 4), self.labels[index]

    def pixels(self, index):
        return np.full((4, 4, 3), index, np.uint8)


class FlippedElsewhere(Foreign):
    def __getitem__(self, index):
        return torch.ones(3, 4, 4), self.labels[index]


def test_everything_that_a_foreign_environment_offers_is_used():
    environment = environment_of(Foreign())
    images = images_of(environment)
    assert environment.labels.tolist() == images.labels.tolist() == [1, 0, 1]
    assert environment.labels_of([2, 1]).tolist() == [1, 0]
    assert (environment.videos, environment.file(2)) == (Foreign.videos, "data/b/1.png")
    assert environment.evaluation is environment
    assert images.recipe == Foreign.recipe
    assert images.read(2).tolist() == Foreign().pixels(2).tolist()
    assert environment_of(environment) is environment


def test_what_is_not_offered_has_a_default():
    class Bare:
        __len__, __getitem__ = Foreign.__len__, Foreign.__getitem__
        labels = Foreign.labels

    environment = environment_of(Bare())
    assert (environment.videos, environment.relative_paths, environment.recipe) == (None, None, None)
    assert images_of(environment) is None
    # pixels of a class whose subclass has other samples are not used
    assert images_of(environment_of(FlippedElsewhere())) is None


def test_labels_that_are_not_known_are_read_only_when_asked_for():
    environment = environment_of(TensorDataset(torch.zeros(3, 2), torch.tensor([4, 5, 6])))
    assert environment.labels is None
    assert environment.labels_of([0, 2]).tolist() == [4, 6]


def test_an_evaluation_view_is_adapted_too():
    environment = Foreign()
    environment.evaluation = FlippedElsewhere()
    view = environment_of(environment).evaluation
    assert view[0][0].sum() == 48
    assert view.evaluation is view


def test_a_dataset_that_does_not_split_itself_has_domainbeds_split():
    class Set:
        N_STEPS, CHECKPOINT_FREQ, N_WORKERS = 5001, 300, 8
        input_shape, num_classes = [3, 4, 4], 2

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return Foreign()

    dataset = OpenDataset(Set())
    assert (dataset.name, dataset.input_shape, len(dataset[0])) == ("Set", (3, 4, 4), 3)
    assert (dataset.split_modes, dataset.split_indices, dataset.rows) == (("frame",), None, None)


def test_an_unreadable_image_is_one_in_every_process(tmp_path):
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(UnreadableImage) as caught:
        read_image(tmp_path / "x.png")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy), copy.path) == (UnreadableImage, str(caught.value), str(tmp_path / "x.png"))


def test_class_names_are_those_of_the_dataset_or_of_all_its_environments():
    class Set(list):
        N_STEPS, CHECKPOINT_FREQ, N_WORKERS, num_classes, input_shape = 1, 1, 0, 2, (3, 4, 4)

    def environment(classes):
        found = TensorDataset(torch.zeros(1, 3, 4, 4), torch.zeros(1))
        found.classes = classes
        return found

    alike = Set([environment(["fake", "real"]), environment(["fake", "real"])])
    assert OpenDataset(alike).class_names == ["fake", "real"]  # as torchvision's folders are numbered
    alike.classes = ("a", "b")
    assert OpenDataset(alike).class_names == ["a", "b"]
    alike.classes = ("a", "b", "c")
    assert OpenDataset(alike).class_names is None, "there are two classes"
    assert OpenDataset(Set([environment(["a", "b"]), environment(["b", "a"])])).class_names is None


class Drawing(Environment):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.rand(2), index % 2


@pytest.mark.parametrize("relabelled", [False, True])
def test_only_what_may_draw_is_seeded(relabelled):
    """A seed for each sample costs more than reading a tensor; where reading draws, the seed decides what."""

    def minibatch(environment, state):
        environment = Relabelled(environment, np.zeros(8, np.int64)) if relabelled else environment
        torch.manual_seed(state)
        samples = TrainingSamples([environment], [IndexSampler(range(8), 4)], seed=3, purpose="minibatch")
        return samples(5)[0][0], torch.initial_seed()

    first, other = (minibatch(Drawing(), state)[0] for state in (1, 2))
    assert torch.equal(first, other)
    images = torch.arange(16.0).view(8, 2)
    x, seeded = minibatch(TensorEnvironment(images, np.zeros(8)), 1)
    assert seeded == 1
    assert torch.equal(x, images[IndexSampler(range(8), 4).at(3, "minibatch", 5, 0)])
