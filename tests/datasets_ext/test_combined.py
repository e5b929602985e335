"""Data sets from several trees: what an environment is made of, and which parts it is cut into."""

import pytest
from prepared_trees import write_all_trees, write_tree

from datasets_ext import combined
from datasets_ext.prepare import celebdf, dfdc, dfdcp, ffpp_layout, uadfv
from roga_domainbed.catalog import DATASETS
from roga_domainbed.catalog.registry import load
from roga_domainbed.errors import RogaError

HPARAMS = {"data_augmentation": False, "image_size": 8}
NAMES = ("DeepfakeDatasets", "FFPPCross", "FFPPSeen", "FFPPSeenCross", "FFPPDownload")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_all_trees(tmp_path_factory.mktemp("trees"))


def opened(name, root, test_envs):
    return load(DATASETS.get(name).target)(root, test_envs, HPARAMS)


def chosen(dataset, env, indices):
    """The videos of an environment's indices, as (label, video)."""
    rows = dataset.environment_rows[dataset.ENVIRONMENTS.index(env)].iloc[list(indices)]
    return sorted(zip(rows["label"], rows["video"], strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_every_registered_environment_reads_its_own_files_and_fake_is_1(name, root):
    found = load(DATASETS.get(name).target)
    assert name == found.NAME
    assert list(found.ENVIRONMENTS) == list(DATASETS.get(name).environments)
    assert len(found.SOURCES) == len(found.ENVIRONMENTS)
    for environment in opened(name, root, [0]).datasets:
        for index, label in enumerate(environment.labels):
            image, said = environment[index]
            assert said == label
            assert (image.mean() > 0) == bool(label)  # fakes were painted white


def test_every_tree_is_one_that_prepare_makes_and_has_the_same_family_alone():
    """Else what a model was trained on would not be recognized in another dataset."""
    made = {*ffpp_layout.PARTS, *celebdf.DATASET_NAMES.values()}  # of the download's parts, the trees of c23
    made |= {dfdc.DATASET_NAME, dfdcp.DATASET_NAME, uadfv.DATASET_NAME}
    sources = [source for name in NAMES for source in load(DATASETS.get(name).target).SOURCES]
    assert {source.tree for source in sources} == made
    for source in sources:
        assert combined.family_of(source.tree) == source.family


def test_the_manipulations_become_one_environment_with_each_real_once(root):
    dataset = opened("DeepfakeDatasets", root, [1])
    rows = dataset.environment_rows[0]
    assert len(dataset.datasets[0]) == 6 + 4 * 6  # reals, and four fakes of each
    assert sorted(rows["video"][rows["label"] == 0]) == ["000", "001", "002", "003", "004", "005"]
    assert len(set(dataset.datasets[0].videos)) == len(rows)  # the fakes' names tell their method
    assert {"Deepfakes-000_001", "NeuralTextures-000_001"} <= set(rows["video"])
    # a frame split is DomainBed's
    assert [len(a) + len(b) for a, b in dataset.split_indices("frame", 0, 0.2, [0])] == [30, 16, 16, 16, 12]
    dataset = opened("FFPPCross", root, [4, 5, 6, 7, 8])  # each manipulation has the reals
    assert list(map(len, dataset.datasets)) == [12] * 4 + [16, 16, 12, 16, 16]


def test_faceshifter_is_tested_on_people_who_were_not_trained_on(root):
    dataset = opened("FFPPDownload", root, [4, 5])
    splits = dataset.split_indices("official", 0, 0.2, [4, 5])
    people = [
        {person for joined in rows["identities"].iloc[split[0]] for person in joined.split("+")}
        for rows, split in zip(dataset.environment_rows, splits, strict=True)
    ]
    assert set().union(*people[:4]) == {"FFPP/000", "FFPP/001"}
    assert people[4] == {"FFPP/004", "FFPP/005"}  # of the same family: the audit compares them
    assert len(splits[5][0]) == len(dataset.datasets[5])  # no published split: DFD is tested on whole
    assert all(person.startswith("DFD/") for person in people[5])


def test_a_manipulation_that_was_trained_on_is_tested_on_other_people(root):
    dataset = opened("FFPPSeen", root, [4, 5, 6, 7])
    splits = dataset.split_indices("official", 0, 0.2, [4, 5, 6, 7])
    for env in range(4):
        twin = env + 4
        assert dataset.ENVIRONMENTS[twin] == f"{dataset.ENVIRONMENTS[env]}_test"
        rows = dataset.environment_rows[env]
        assert list(rows["path"]) == list(dataset.environment_rows[twin]["path"])
        people = [
            set("+".join(rows["identities"].iloc[part]).split("+"))
            for part in (splits[env][0], splits[twin][0])
        ]
        assert people == [{"FFPP/000", "FFPP/001"}, {"FFPP/004", "FFPP/005"}]
        assert set(rows["method"].iloc[splits[twin][0]]) == set(rows["method"]), "reals, and its own fakes"


def test_equal_names_in_different_datasets_are_not_one_but_those_of_celebdf_1_and_2_are(root):
    rows = dict(
        zip(
            DATASETS.get("FFPPCross").environments,
            opened("FFPPCross", root, [0]).environment_rows,
            strict=True,
        )
    )
    recordings = {env: set(rows[env]["recording"]) for env in rows}
    people = {env: {p for joined in rows[env]["identities"] for p in joined.split("+") if p} for env in rows}
    assert not recordings["DF"] & recordings["UADFV"]  # both have a 000
    assert not people["DFDCP"] & people["CelebDF2"]  # both have an id0
    assert recordings["CelebDF1"] & recordings["CelebDF2"]
    assert people["CelebDF1"] & people["CelebDF2"]
    assert people["DFDC"] == set()


def test_official_takes_a_dataset_without_a_split_whole(root):
    dataset = opened("DeepfakeDatasets", root, [4])
    pairs = dict(zip(dataset.ENVIRONMENTS, dataset.split_indices("official", 0, 0.2, [4]), strict=True))
    assert sorted(pairs["UADFV"][0]) == list(range(12))
    assert chosen(dataset, "FFPP", pairs["FFPP"][0])[:2] == [(0, "000"), (0, "001")]
    assert [video for label, video in chosen(dataset, "FFPP", pairs["FFPP"][1]) if label == 0] == [
        "002",
        "003",
    ]
    trained = dataset.split_indices("official", 0, 0.2, [1])
    uadfv_rows = dataset.environment_rows[4]
    in_split, out_split = trained[4]
    assert sorted([*in_split, *out_split]) == list(range(12))
    assert not set(uadfv_rows["recording"].iloc[in_split]) & set(uadfv_rows["recording"].iloc[out_split])
    assert chosen(dataset, "CelebDF2", trained[1][0]) == [
        (0, "006"),
        (0, "007"),
        (1, "006_fake"),
        (1, "007_fake"),
    ]


def test_group_cuts_a_family_only_where_it_is_on_both_sides(root):
    dataset = opened("FFPPCross", root, [5, 6])
    pairs = dict(zip(dataset.ENVIRONMENTS, dataset.split_indices("group", 0, 0.3, [5, 6]), strict=True))
    rows = dict(zip(dataset.ENVIRONMENTS, dataset.environment_rows, strict=True))
    assert sorted(pairs["UADFV"][0]) == list(range(12))  # tested on, and nothing related is trained on
    assert len(pairs["DF"][0]) + len(pairs["DF"][1]) == 12  # trained on, and nothing related is tested on
    people = {
        (env, part): set(rows[env]["identities"].iloc[pairs[env][part]])
        for env in ("CelebDF1", "CelebDF2")
        for part in (0, 1)
    }
    assert not people["CelebDF1", 0] & people["CelebDF2", 0]
    assert not people["CelebDF1", 1] & people["CelebDF2", 0]
    assert len(pairs["CelebDF2"][0]) < 16


def test_group_names_the_family_that_cannot_be_cut(root, tmp_path):
    for tree in ("CelebDF2", "DFDC", "DFDCP", "FFPP"):
        (tmp_path / tree).symlink_to(root / tree)
    one = [("UADFV", label, f"v{label}", "r", "", "", "m") for label in (0, 1)]
    write_tree(tmp_path, "UADFV", one)
    with pytest.raises(RogaError, match=r"^UADFV: --split group: 1 groups .* train, val with"):
        opened("DeepfakeDatasets", tmp_path, [1]).split_indices("group", 0, 0.2, [1])


def test_all_trees_that_are_missing_are_named_at_once_and_no_data_dir_is_one_fault(root, tmp_path):
    (tmp_path / "FFPP").symlink_to(root / "FFPP")
    (tmp_path / "DFDC").symlink_to(root / "DFDC")
    with pytest.raises(RogaError) as caught:
        opened("DeepfakeDatasets", tmp_path, [0])
    assert str(caught.value).startswith("3 problems:")
    for tree in ("CelebDF2", "DFDCP", "UADFV"):
        assert f"no manifest.parquet in {str(tmp_path / tree)!r}" in str(caught.value)
    for data_dir in (None, "nowhere"):
        with pytest.raises(RogaError, match="--data_dir") as caught:
            opened("FFPPCross", data_dir, [0])
        assert "problems" not in str(caught.value)
