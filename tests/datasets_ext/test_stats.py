"""``data stats``: counts by hand, and a picture."""

import pytest
from prepared_trees import ffpp_videos, other_videos, write_tree

from datasets_ext import manifest, stats
from roga_domainbed.cli import main


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("trees")
    write_tree(root, "FFPP", ffpp_videos())
    write_tree(
        root,
        "DFDC",
        [*other_videos("DFDC", 8, True, people=False), ("DFDC", 1, "x", "000", "", "train", "m")],
    )
    write_tree(root, "UADFV", other_videos("UADFV", 6, split=False))
    return root


def table(root, name):
    rows = stats.summarize(manifest.read(root / name)).fillna(-1)
    return {(row.env, row.split): tuple(row)[2:] for row in rows.itertuples(index=False)}


def test_environments_and_splits_are_counted_and_shared_reals_once_in_the_sum(root):
    found = table(root, "FFPP")
    assert list(found) == [
        *((env, split) for env in ("DF", "F2F", "FS", "NT") for split in ("train", "val", "test", "all")),
        ("all", "all"),
    ]
    # a pair a split: two reals, two fakes, one frame each, two recordings, two people
    assert found["DF", "train"] == (2, 2, "1:1", 2, 2, 2, 2)
    assert found["NT", "all"] == (6, 6, "1:1", 6, 6, 6, 6)
    assert found["all", "all"] == (6, 24, "1:4", 6, 24, 6, 6)


def test_the_balance_is_of_videos_and_nobodys_people_are_not_none_of_them(root):
    assert table(root, "DFDC") == {
        ("DFDC", "train"): (6, 7, "1:1.17", 6, 7, 6, -1),
        ("DFDC", "test"): (2, 2, "1:1", 2, 2, 2, -1),
        ("DFDC", "all"): (8, 9, "1:1.12", 8, 9, 8, -1),
    }
    assert table(root, "UADFV") == {("UADFV", "none"): (6, 6, "1:1", 6, 6, 6, 6)}  # no split: one row


@pytest.mark.parametrize("column", ["identities", "split", "env"])
def test_empty_cells_in_manifests_are_faults_of_the_user_all_at_once(tmp_path, capsys, column):
    for name in ("UADFV", "DFDC"):
        write_tree(tmp_path, name, other_videos(name, 6, split=False))
        rows = manifest.read(tmp_path / name)
        rows.loc[0, column] = None
        rows.to_parquet(tmp_path / name / manifest.FILE)
    assert main(["data", "stats", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    for name in ("UADFV", "DFDC"):
        assert f"{name}: the manifest's column {column!r} must hold text; it has 1 empty cells" in err


def test_the_command_prints_every_tree(root, capsys):
    assert main(["data", "stats", str(root)]) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line and not line.startswith(" ")] == [
        "DFDC",
        "FFPP",
        "UADFV",
    ]
    assert "  all          all              6           24        1:4" in out
