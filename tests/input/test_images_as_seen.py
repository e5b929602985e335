"""Images as they are to be seen: ``tests/data/images`` has small ones, and what ImageMagick reads in them."""

import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roga_domainbed.input import image_files
from roga_domainbed.input.image_files import UnreadableImage, read_image

FOLDER = Path(__file__).parent.parent / "data" / "images"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
#: JPEG may be decoded a level apart; Pillow and ImageMagick round CMYK differently.
TOLERANCE = {".jpg": 2}


@pytest.mark.parametrize("name", EXPECTED)
def test_pixels_are_those_that_imagemagick_sees(name):
    width, height, pixels = EXPECTED[name]
    expected = np.frombuffer(bytes.fromhex(pixels), np.uint8).reshape(height, width, 3)
    found = read_image(FOLDER / name)
    assert (found.mode, found.size) == ("RGB", (width, height))
    apart = np.abs(np.asarray(found, np.int16) - expected)
    assert apart.max() <= TOLERANCE.get(Path(name).suffix, 0)


def test_the_eight_orientations_are_eight_different_pictures():
    # so that the test above cannot pass by not turning
    stored = {np.asarray(Image.open(FOLDER / f"turned{i}.jpg")).tobytes() for i in range(1, 9)}
    seen = {(EXPECTED[f"turned{i}.jpg"][0], EXPECTED[f"turned{i}.jpg"][2]) for i in range(1, 9)}
    assert (len(stored), len(seen)) == (1, 8)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("refused-float.tif", "range is not known (floating point): save it with 8 or 16 bits"),
        ("refused-32.tif", "range is not known (32 bits, or signed)"),
        ("refused-lab.tif", "its colours are Lab"),
        ("refused-pages.tif", "several pages or frames"),
        ("refused-kind.tif", "its kind of pixels is not read"),
    ],
)
def test_what_cannot_be_scaled_is_refused_with_the_reason(name, reason):
    with pytest.raises(UnreadableImage, match="cannot read the image") as caught:
        read_image(FOLDER / name)
    assert reason in str(caught.value)


def has_imagemagick():
    """Whether ``convert`` is ImageMagick's: other programs have that name, too."""
    if shutil.which("convert") is None:
        return False
    version = subprocess.run(["convert", "-version"], capture_output=True, text=True, check=False)
    return version.stdout.startswith("Version: ImageMagick")


@pytest.mark.skipif(not has_imagemagick(), reason="ImageMagick is not installed")
@pytest.mark.parametrize(
    ("name", "made_by"),
    [
        ("x.png", "-depth 16"),
        ("x.pgm", "-colorspace gray -depth 10"),
        ("x.ppm", "-depth 16"),
        ("x.tif", "-colorspace gray -depth 4"),
        ("x.tif", "-depth 16 -alpha set -channel A -evaluate set 30%"),
        ("x.tif", "-monochrome -define quantum:polarity=min-is-white"),
        ("x.bmp", "-type TrueColor"),
        ("x.webp", "-define webp:lossless=true"),
    ],
)
def test_other_kinds_of_pixels_beside_imagemagick(tmp_path, name, made_by):
    path = tmp_path / name
    made = ["convert", "-size", "24x16", "-seed", "5", "plasma:red-blue", *made_by.split(), path]
    subprocess.run(made, check=True)
    raw = subprocess.run(
        ["convert", path, "-colorspace", "sRGB", "-depth", "16", "-endian", "MSB", "rgb:-"],
        check=True,
        capture_output=True,
    ).stdout
    expected = np.frombuffer(raw, ">u2").reshape(16, 24, 3) >> 8
    found = np.asarray(read_image(path))
    assert found.std() > 10
    # Pillow rounds what it finds in PGM and PPM
    assert np.abs(found.astype(int) - expected).max() <= (path.suffix in (".pgm", ".ppm"))


@pytest.mark.parametrize("orientation", [0, 9])
def test_an_orientation_that_makes_no_sense_is_none(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("L", (6, 4)).save(tmp_path / "x.png", exif=exif)
    assert read_image(tmp_path / "x.png").size == (6, 4)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_exif_block_does_not_cost_the_image(tmp_path):
    Image.new("RGB", (6, 4), (9, 9, 9)).save(
        tmp_path / "x.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\1" * 9
    )
    assert read_image(tmp_path / "x.jpg").size == (6, 4)


def bomb(path, side):
    """A PNG of a few bytes that says it has side × side pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    return path


def test_an_image_that_would_fill_the_memory_is_refused(tmp_path):
    with pytest.raises(UnreadableImage, match="more than 178 million pixels, the most that is read"):
        read_image(bomb(tmp_path / "x.png", 50_000))


def test_a_large_photograph_is_nothing_to_warn_of(tmp_path):
    code = "import sys; from roga_domainbed.input.image_files import open_image\n"
    code += "with open_image(sys.argv[1]) as image: print(image.size)"
    path = bomb(tmp_path / "x.png", 12_000)
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("(12000, 12000)\n", "")


@pytest.mark.parametrize("kind", ["a named pipe", "a folder", "a device"])
def test_only_regular_files_are_opened(tmp_path, kind):
    path = tmp_path / "x.png"
    if kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(UnreadableImage, match=f"not a regular file but {kind}|Is a directory"):
        read_image(path)


def test_postscript_is_not_given_to_ghostscript_whatever_it_is_called(tmp_path, monkeypatch):
    from PIL import EpsImagePlugin

    monkeypatch.setattr(
        EpsImagePlugin, "Ghostscript", lambda *args: pytest.fail("another program was started")
    )
    Image.new("L", (6, 4)).save(tmp_path / "x.png", "EPS")
    with pytest.raises(UnreadableImage, match="in no image format"):
        read_image(tmp_path / "x.png")


def test_the_readers_of_data_preparation_and_photographs_are_this_one():
    from datasets_ext.prepare import images
    from datasets_ext.selfblend import face

    expected = np.asarray(image_files.read_image(FOLDER / "turned6.jpg"))
    assert np.array_equal(images.read_rgb(FOLDER / "turned6.jpg"), expected)
    assert np.array_equal(face._read(FOLDER / "turned6.jpg"), expected)
