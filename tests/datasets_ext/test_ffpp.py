import pandas as pd
import pytest
from PIL import Image

from datasets_ext import manifest
from datasets_ext.folder import ManifestDataset
from datasets_ext.prepare.ffpp_layout import COMPRESSIONS, FFPP
from roga_domainbed.catalog import DATASETS
from roga_domainbed.catalog.registry import load
from roga_domainbed.errors import RogaError

HPARAMS = {"data_augmentation": False, "image_size": 16}
NAMES = ("FFPP", "FFPP_c40", "FFPP_raw")
METHODS = FFPP.methods


def make(root, name, compression, environments):
    """One real and one fake frame in each environment, as 'prepare' lays them out."""
    rows = []
    for env in environments:
        for label, video, method in ((0, "004", "real"), (1, "004_982", METHODS[env])):
            path = f"{env}/{manifest.CLASS_FOLDERS[label]}/{video}/0000.png"
            (root / name / path).parent.mkdir(parents=True)
            Image.new("RGB", (16, 16), (255 * label,) * 3).save(root / name / path)
            people = "+".join(sorted(video.split("_")))
            rows.append([path, name, env, method, compression, label, video, "004", people, "val", 0])
    manifest.write(root / name, pd.DataFrame(rows, columns=list(manifest.COLUMNS)))


@pytest.mark.parametrize("name", NAMES)
def test_the_registered_class_has_the_registered_environments(name):
    found = load(DATASETS.get(name).target)
    assert issubclass(found, ManifestDataset)
    assert name == found.NAME
    assert list(found.ENVIRONMENTS) == ["DF", "F2F", "FS", "NT"] == list(METHODS)


def test_preparation_makes_exactly_the_registered_datasets():
    assert [FFPP.tree(compression) for compression in COMPRESSIONS] == list(NAMES)


@pytest.mark.parametrize(("compression", "name"), list(zip(COMPRESSIONS, NAMES, strict=True)))
def test_each_compression_is_read_from_its_own_folder(tmp_path, compression, name):
    make(tmp_path, name, compression, METHODS)
    dataset = load(DATASETS.get(name).target)(tmp_path, [0], HPARAMS)
    assert len(dataset) == 4
    assert dataset.num_classes == 2
    for environment in dataset:
        (real, real_label), (fake, fake_label) = environment[0], environment[1]
        assert (real_label, fake_label) == (0, 1)
        assert real.max() < fake.min()  # fake is class 1, whatever the alphabet says of folders


def test_a_method_that_was_not_prepared_is_named(tmp_path):
    make(tmp_path, "FFPP", "c23", ["DF", "F2F", "NT"])
    with pytest.raises(RogaError, match="'FS'"):
        load(DATASETS.get("FFPP").target)(tmp_path, [0], HPARAMS)
