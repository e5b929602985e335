"""Perceptual hashes against the package ImageHash, their search against comparing all with all, and the command."""

import io

import numpy as np
import pytest
from PIL import Image
from prepared_trees import ffpp_videos, write_tree

from datasets_ext.near_duplicates import hash_files, nearest, perceptual_hash
from roga_domainbed.cli import main
from roga_domainbed.errors import RogaError


def picture(a, b):
    """Grey waves, 128 × 96."""
    y, x = np.mgrid[0:96, 0:128]
    return Image.fromarray(np.uint8(127.5 + 80 * np.sin(x / a) + 47 * np.cos(y / b + x / 40)))


def noise_picture(rng):
    """48 × 48, coarse noise of every colour: something in each low frequency, as in a photograph."""
    pixels = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((48, 48), Image.Resampling.BICUBIC)


# imagehash.phash of ImageHash 4.3.2
@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [(9, 7, 0xF83B6A3F6AC085C4), (23, 5, 0xC03A6B3E6A3E6AD0), (6, 31, 0xFEC094C791DA944D)],
)
def test_the_hash_is_imagehashs_phash(a, b, expected):
    assert perceptual_hash(picture(a, b)) == expected


def test_the_same_picture_smaller_darker_and_recompressed_is_near_and_others_are_far():
    original, other = (noise_picture(np.random.default_rng(seed)) for seed in (1, 2))
    file = io.BytesIO()
    original.point(lambda value: value * 0.8).resize((30, 30)).save(file, "JPEG", quality=60)
    assert (perceptual_hash(original) ^ perceptual_hash(Image.open(file))).bit_count() <= 4
    assert (perceptual_hash(original) ^ perceptual_hash(other)).bit_count() > 16


@pytest.mark.parametrize("max_distance", [0, 1, 3, 4, 8, 16])
def test_the_nearest_are_those_that_comparing_all_with_all_finds(max_distance):
    rng = np.random.default_rng(0)
    among = rng.integers(0, 2**63, 400, dtype=np.uint64)
    hashes = rng.integers(0, 2**63, 120, dtype=np.uint64)
    for index in range(100):  # a neighbour of 0 to 17 flipped bits, at any place
        flipped = rng.choice(64, index % 18, replace=False)
        hashes[index] = among[index] ^ np.bitwise_or.reduce(
            np.uint64(1) << flipped.astype(np.uint64), initial=np.uint64(0)
        )
    among[300] = among[7]  # of two that are equally near the first counts
    found, distance = nearest(hashes, among, max_distance)
    for index, value in enumerate(hashes):
        apart = [(int(value) ^ int(other)).bit_count() for other in among]
        best = int(np.argmin(apart))
        expected = (best, apart[best]) if apart[best] <= max_distance else (-1, 65)
        assert (found[index], distance[index]) == expected


def test_nothing_is_near_nothing_and_frames_that_cannot_be_read_are_named(tmp_path):
    empty, one = np.zeros(0, np.uint64), np.zeros(1, np.uint64)
    assert nearest(empty, one, 4)[0].tolist() == []
    assert nearest(one, empty, 4)[0].tolist() == [-1]
    for name in "abcd":
        (tmp_path / f"{name}.png").write_bytes(b"no picture")
    picture(9, 7).save(tmp_path / "e.png")
    with pytest.raises(RogaError, match=r"4 frames cannot be read: '.*a\.png', '.*b\.png', '.*c\.png', …; "):
        hash_files(sorted(tmp_path.iterdir()), 1)


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """FaceForensics++ in miniature: every frame noise of its own, but one test frame a train frame that was a JPEG."""
    root, rng = tmp_path_factory.mktemp("noise"), np.random.default_rng(0)
    write_tree(root, "FFPP", ffpp_videos(), lambda *_: noise_picture(rng))
    with Image.open(root / "FFPP/DF/1_fake/000_001/0000.png") as image:
        image.save(root / "copy.jpg", quality=60)
    with Image.open(root / "copy.jpg") as image:
        image.save(root / "FFPP/NT/1_fake/004_005/0000.png")
    return root


def test_the_command_finds_a_recompressed_copy_that_the_manifest_does_not_know(noise, capsys):
    argv = f"audit {noise} --dataset FFPP --test_envs 3".split()
    assert main(argv) == 0
    assert "no leak" in capsys.readouterr().out
    assert main([*argv, "--near-duplicates"]) == 1
    out = capsys.readouterr().out
    assert (
        "  leak: training and test share 1 near-duplicate frame: FFPP/NT/1_fake/004_005/0000.png = "
        "FFPP/DF/1_fake/000_001/0000.png (" in out
    )
    assert out.count("leak:") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max-distance", "3"], "--max-distance needs --near-duplicates"),
        (["--near-duplicates", "--max-distance", "17"], "--max-distance must be from 0 to 16 bits; got 17"),
        (["--near-duplicates", "--max-distance", "-1"], "--max-distance must be from 0 to 16 bits; got -1"),
    ],
)
def test_a_distance_that_makes_no_sense_is_one_line(flags, message, capsys):
    assert main(["audit", ".", "--dataset", "FFPP", *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
