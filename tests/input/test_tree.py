import os

import pytest

from roga_domainbed.input.tree import files_below, left_over, walk


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def found(folder, besides=()):
    return [os.path.relpath(path, folder) for path in files_below(folder, (".png",), besides)]


def test_a_linked_folder_is_walked(tmp_path):
    touch(tmp_path / "pool/v1/0.png")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/linked").symlink_to(tmp_path / "pool")
    assert found(tmp_path / "in") == ["linked/v1/0.png"]


@pytest.mark.parametrize("target", [".", "..", "../..", "sub"])
def test_a_link_to_a_folder_above_or_beside_adds_nothing(tmp_path, target):
    top = tmp_path / "top"
    touch(top / "a.png", top / "sub/b.png")
    (top / "0").symlink_to(target)
    (top / "sub/loop").symlink_to(os.path.join("..", target))
    assert found(top) == ["a.png", "sub/b.png"]


def test_two_links_to_one_folder_are_one(tmp_path):
    touch(tmp_path / "pool/0.png", tmp_path / "in/x.png")
    for name in ("b", "a"):
        (tmp_path / "in" / name).symlink_to("../pool")
    assert found(tmp_path / "in") == ["x.png", "a/0.png"]


def test_links_do_not_lead_into_the_folders_of_other_classes(tmp_path):
    touch(tmp_path / "real/0.png", tmp_path / "fake/0.png", tmp_path / "fake/v1/1.png")
    (tmp_path / "real/all").symlink_to("../fake")
    (tmp_path / "real/one").symlink_to("../fake/v1")
    assert found(tmp_path / "real", [tmp_path / "fake"]) == ["0.png"]
    assert found(tmp_path / "real") == ["0.png", "all/0.png", "all/v1/1.png"]


def test_only_regular_files_count_and_broken_links_are_kept(tmp_path):
    touch(tmp_path / "0.PNG", tmp_path / ".hidden.png", tmp_path / ".git/1.png", tmp_path / "note.txt")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "self.png").symlink_to("self.png")
    assert found(tmp_path) == ["0.PNG", "gone.png", "self.png"]


def test_folders_come_in_the_order_of_their_paths(tmp_path):
    # as torchvision sorts them: by whole path, where "-" comes before "/"
    touch(*(tmp_path / name for name in ("a/z.png", "a-1/y.png", "a/b/x.png", "w.png")))
    walked = [path for path, _, _ in sorted(os.walk(tmp_path))]
    assert [path for path, _ in walk(tmp_path)] == walked
    assert found(tmp_path) == ["w.png", "a/z.png", "a-1/y.png", "a/b/x.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list any folder")
def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path):
    touch(tmp_path / "shut/0.png")
    (tmp_path / "shut").chmod(0)
    with pytest.raises(PermissionError):
        walk(tmp_path)


def test_left_over_sees_through_links(tmp_path):
    touch(tmp_path / "pool/0.png", tmp_path / "in/1.mp4", tmp_path / "in/2.png", tmp_path / "in/3.txt")
    (tmp_path / "in/linked").symlink_to("../pool")
    os.link(tmp_path / "in/2.png", tmp_path / "in/4.png")  # the same bytes under another name: another file
    left = left_over(tmp_path / "in", [tmp_path / "pool/0.png", str(tmp_path / "in/2.png")])
    assert left == [str(tmp_path / "in/1.mp4"), str(tmp_path / "in/4.png")]
