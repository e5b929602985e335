import pytest
from prepared_trees import ffpp_videos, write_tree

from datasets_ext.folder import ManifestDataset
from datasets_ext.prepare.ffpp_layout import COMPRESSIONS, FFPP
from roga_domainbed.catalog import DATASETS
from roga_domainbed.catalog.registry import load
from roga_domainbed.errors import RogaError

HPARAMS = {"data_augmentation": False, "image_size": 16}
NAMES = ("FFPP", "FFPP_c40", "FFPP_raw")


def test_preparation_makes_exactly_the_registered_datasets():
    assert tuple(FFPP.tree(compression) for compression in COMPRESSIONS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_compression_is_read_from_its_own_folder(tmp_path, name):
    write_tree(tmp_path, name, ffpp_videos())
    found = load(DATASETS.get(name).target)
    assert issubclass(found, ManifestDataset)
    assert name == found.NAME
    assert list(found.ENVIRONMENTS) == ["DF", "F2F", "FS", "NT"] == list(FFPP.methods)
    dataset = found(tmp_path, [0], HPARAMS)
    assert len(dataset) == 4
    assert dataset.num_classes == 2
    for environment in dataset:
        (real, real_label), (fake, fake_label) = environment[0], environment[-1]
        assert (real_label, fake_label) == (0, 1)
        assert real.max() < fake.min()  # fake is class 1, whatever the alphabet says of folders


def test_a_method_that_was_not_prepared_is_named(tmp_path):
    write_tree(tmp_path, "FFPP", [video for video in ffpp_videos() if video[0] != "FS"])
    with pytest.raises(RogaError, match="'FS'"):
        load(DATASETS.get("FFPP").target)(tmp_path, [0], HPARAMS)
