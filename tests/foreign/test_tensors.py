"""Files of ``torch.save`` from elsewhere: damage is found, memory is bounded, and nothing in them runs."""

import io
import os
import pickle
import resource
import zipfile

import numpy as np
import pytest
import torch

from roga_domainbed.foreign import Malformed, load_tensors

CONTENT = {"weight": torch.arange(6000.0), "numbers": [1, 2.5, "text"], "lr": np.float64(0.1)}


@pytest.fixture
def saved(tmp_path):
    torch.save(CONTENT, tmp_path / "a.pt")
    return tmp_path / "a.pt"


def test_what_was_saved_comes_back_from_a_path_and_from_memory(saved):
    for found in (load_tensors(saved), load_tensors(io.BytesIO(saved.read_bytes()))):
        assert torch.equal(found["weight"], CONTENT["weight"])
        assert (found["numbers"], found["lr"]) == (CONTENT["numbers"], 0.1)


def test_every_changed_byte_of_the_weights_is_found(saved):
    whole = saved.read_bytes()
    start = whole.index(CONTENT["weight"].numpy().tobytes())
    for position in (start, start + 12_345, start + 4 * 6000 - 1):
        saved.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(Malformed, match="damaged: the entry a/data/0 does not have its checksum"):
            load_tensors(saved)


def repacked(source, target, compression, more=()):
    with (
        zipfile.ZipFile(source) as old,
        zipfile.ZipFile(target, "w", compression) as new,
    ):
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
        for name, n_bytes in more:
            new.writestr(name, b"\0" * n_bytes)


def test_an_archive_that_unpacks_to_gigabytes_takes_no_memory(saved, tmp_path):
    repacked(saved, tmp_path / "bomb.pt", zipfile.ZIP_DEFLATED, [("a/data/9", 10**9)])
    assert (tmp_path / "bomb.pt").stat().st_size < 10**6 + 10**5
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Malformed, match="its entries are compressed, which torch does not write"):
        load_tensors(tmp_path / "bomb.pt")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_an_entry_that_comes_twice_is_refused(saved):
    with zipfile.ZipFile(saved, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("a/data/0", b"\0" * 24_000)
    with pytest.raises(Malformed, match="it is damaged: an entry comes twice"):
        load_tensors(saved)


def test_entries_that_share_their_bytes_are_refused(tmp_path):
    """Each of ten names in the directory is given the place of the first: ten times the memory."""
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        for number in range(10):
            archive.writestr(f"a/data/{number}", b"\0" * 1000 if number == 0 else b"")
        for entry in archive.infolist():
            entry.header_offset, entry.file_size, entry.compress_size = 0, 1000, 1000
    with pytest.raises(Malformed, match="its entries are larger than the file, which has"):
        load_tensors(tmp_path / "a.pt")


class Bomb:
    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (self.place,)


def test_nothing_in_a_file_runs(tmp_path):
    place = str(tmp_path / "was here")
    torch.save({"a": Bomb(place)}, tmp_path / "zip.pt")
    torch.save({"a": Bomb(place)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(Bomb(place)))
    for name in ("zip.pt", "old.pt", "pickle.pt"):
        with pytest.raises(Malformed):
            load_tensors(tmp_path / name, old_format=True)
    assert not os.path.exists(place)


def test_a_file_without_checksums_is_read_only_where_that_is_allowed(tmp_path):
    torch.save(CONTENT, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert torch.equal(load_tensors(tmp_path / "old.pt", old_format=True)["weight"], CONTENT["weight"])
    with pytest.raises(Malformed, match="no file of torch"):
        load_tensors(tmp_path / "old.pt")


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", "/dev/zero", tmp_path):
        with pytest.raises(OSError, match=r"not a regular file|[Ii]s a directory"):
            load_tensors(path)


@pytest.mark.parametrize("cut", [0, 1, 2, 100, 5000, 20000])
def test_a_cut_file_is_damaged(saved, cut):
    os.truncate(saved, cut)
    with pytest.raises(Malformed, match="damaged"):
        load_tensors(saved)
