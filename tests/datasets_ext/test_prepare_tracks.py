"""Whom a video is of, by hand."""

import numpy as np
import pytest
from PIL import Image
from prepare_videos import HEIGHT, SQUARES, WIDTH, encode

from datasets_ext.prepare import tracks
from datasets_ext.prepare.detectors import DETECTORS
from datasets_ext.prepare.faces import Cropper
from datasets_ext.prepare.layout import Video
from datasets_ext.prepare.options import CropOptions


def box(x, side, y=0):
    return [x, y, side, side]


def chosen(*frames):
    """The x of the face taken in each frame."""
    arrays = [np.array(sorted(frame, key=lambda face: -face[2]), float) for frame in frames]
    return [int(faces[number][0]) for faces, number in zip(arrays, tracks.choose(arrays), strict=True)]


def test_overlap_is_intersection_over_union():
    assert tracks.overlap(np.array(box(0, 10)), np.array(box(0, 10))) == 1
    assert tracks.overlap(np.array(box(0, 10)), np.array(box(5, 10))) == pytest.approx(50 / 150)
    assert tracks.overlap(np.array(box(0, 10)), np.array(box(10, 10))) == 0


@pytest.mark.parametrize(
    ("frames", "taken"),
    [
        # The speaker at 100 is seen in all; in the third a picture with a slightly larger face is inserted at 0,
        (
            [[box(100, 20)], [box(101, 20)], [box(0, 21), box(102, 20)], [box(100, 20)]],
            [100, 101, 102, 100],
        ),
        # and here in the first.
        ([[box(0, 21), box(100, 20)], [box(101, 20)], [box(102, 20)]], [100, 101, 102]),
        # Someone who stays smaller is not taken, and one who is alone is.
        ([[box(0, 30), box(100, 20)], [box(3, 30), box(100, 20)], [box(100, 20)]], [0, 3, 100]),
        # One who moves and grows is followed: areas 20² … 31² against 24²: 8 006 against 6 912.
        ([[box(10 * i, 20 + i), box(300, 24)] for i in range(12)], [10 * i for i in range(12)]),
        # After a cut to another place nothing overlaps. Sums: 60s 800, 200s 3·441; frame 2 and on has the 200s.
        ([[box(60, 20)]] * 2 + [[box(200, 21), box(400, 18)]] * 3, [60, 60, 200, 200, 200]),
        # Two faces do not become one person: 0 and 8 overlap by more than the limit, 0 with 2 more than 8 with 2.
        ([[box(0, 20), box(8, 19)], [box(2, 20), box(9, 19)]], [0, 2]),
    ],
)
def test_the_person_whose_face_is_largest_over_all_frames_is_taken(frames, taken):
    assert chosen(*frames) == taken


def test_the_crops_are_of_the_person_that_the_video_is_of(tmp_path):
    images = []
    for index in range(4):
        image = np.full((HEIGHT, WIDTH, 3), 10, np.uint8)
        image[20:40, 60:80] = 120  # the speaker
        if index == 2:
            image[20:41, 10:31] = 250  # larger by a hair
        images.append(image)
    encode(tmp_path / "v.mp4", images)
    with DETECTORS.temporarily(SQUARES):
        cropper = Cropper(*CropOptions(4, 32, 1.5, "squares").arguments())
        outcome = cropper(Video("real", "v", tmp_path / "v.mp4", ("X",), "real", 0, "v"), tmp_path)
    assert outcome.written == (0, 1, 2, 3)
    for index in range(4):
        crop = np.asarray(Image.open(tmp_path / f"{index:04d}.png").convert("L"), float)
        assert crop[8:24, 8:24].mean() == pytest.approx(120, abs=4)
