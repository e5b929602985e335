import pytest
import torch

from roga_domainbed import catalog
from roga_domainbed.engine import datasets
from roga_domainbed.errors import RogaError


@pytest.mark.parametrize(
    "attribute", ["ENVIRONMENTS", "N_STEPS", "CHECKPOINT_FREQ", "N_WORKERS", "INPUT_SHAPE"]
)
def test_class_attributes_are_upstreams(oracle, attribute):
    expected = oracle("lists")[attribute]
    for name in datasets.DATASETS:
        if name in expected:
            value = getattr(datasets.get_dataset_class(name), attribute)
            assert (list(value) if isinstance(value, tuple) else value) == expected[name], name


def test_the_catalog_lists_upstreams_datasets_first_and_in_its_order(oracle):
    expected = oracle("lists")
    names = catalog.DATASETS.names()
    assert names[: len(expected["DATASETS"])] == expected["DATASETS"]
    for name in expected["DATASETS"]:
        assert list(catalog.DATASETS.get(name).environments) == expected["ENVIRONMENTS"][name]
        assert datasets.num_environments(name) == len(expected["ENVIRONMENTS"][name])


def test_the_engine_has_the_first_ten_of_upstreams_datasets_and_the_plugins(oracle):
    assert datasets.DATASETS[:10] == oracle("lists")["DATASETS"][:10]
    assert "SynthFake" in datasets.DATASETS
    assert "WILDSCamelyon" not in datasets.DATASETS


def test_a_dataset_of_upstream_alone_is_refused_with_the_way_to_get_it():
    with pytest.raises(
        RogaError, match=r"'WILDSFMoW' is DomainBed's own: set DOMAINBED_HOME.*the engine has: Debug28"
    ) as caught:
        datasets.get_dataset_class("WILDSFMoW")
    assert isinstance(caught.value, NotImplementedError)


@pytest.mark.parametrize("look_up", [datasets.get_dataset_class, datasets.num_environments])
def test_an_unknown_dataset_is_refused_with_the_nearest_name(look_up):
    with pytest.raises(
        NotImplementedError, match=r"unknown dataset 'pacs' \(did you mean 'PACS'\?\); known: "
    ):
        look_up("pacs")


@pytest.mark.parametrize(("name", "shape"), [("Debug28", (3, 28, 28)), ("Debug224", (3, 224, 224))])
def test_debug_data_has_three_environments_of_16_images(name, shape):
    dataset = datasets.get_dataset_class(name)(None, [0], {})
    assert (len(dataset), dataset.input_shape, dataset.num_classes) == (3, shape, 2)
    for environment in dataset:
        assert len(environment) == 16
        image, label = environment[15]
        assert (image.shape, image.dtype) == (shape, torch.float32)
        assert type(label) is int
        assert set(environment.labels) == {0, 1}
        assert label == environment.labels[15]
        assert environment.evaluation is environment
    with pytest.raises(IndexError):
        dataset[0][16]


def test_debug_images_are_standard_normal():
    images = torch.stack(
        [image for environment in datasets.Debug28(None, [0], {}) for image, _ in environment]
    )
    # 112 896 numbers: the standard error of their mean is 0.003
    assert images.mean().item() == pytest.approx(0, abs=0.015)
    assert images.std().item() == pytest.approx(1, abs=0.015)


def test_debug_data_does_not_depend_on_torchs_random_state_nor_change_it():
    torch.manual_seed(0)
    first = datasets.Debug28(None, [0], {})
    after = torch.rand(1)
    torch.manual_seed(1)
    second = datasets.Debug28(None, [1], {})
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), after)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.images, other.images)
        assert (one.labels == other.labels).all()
    assert not torch.equal(first[0].images, first[1].images)


@pytest.mark.parametrize("name", ["PACS", "ColoredMNIST", "RotatedMNIST"])
def test_a_dataset_on_disk_without_a_data_dir_is_refused(name):
    expected = f"{name} lies on disk: give the folder that holds it with --data_dir"
    with pytest.raises(RogaError, match=expected) as caught:
        datasets.get_dataset_class(name)(None, [0], {"data_augmentation": True})
    assert isinstance(caught.value, ValueError)
