import numpy as np
import pytest

pytest.importorskip("cv2", reason="cutting faces needs the extra 'prepare'")

from datasets_ext.prepare.crop import by_size, crop_square, face_crop


def coordinates(height: int, width: int) -> np.ndarray:
    """An image whose pixel (row, column) holds its own coordinates."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([rows, columns, np.zeros_like(rows)], axis=2)


def test_the_largest_face_comes_first_and_of_equals_the_surest():
    boxes = np.array([[0, 0, 10, 10, 0.99], [5, 5, 20, 30, 0.7], [1, 1, 24, 24, 0.9]])
    assert by_size(boxes).tolist() == [[5, 5, 20, 30, 0.7], [1, 1, 24, 24, 0.9], [0, 0, 10, 10, 0.99]]
    boxes = np.array([[0, 0, 10, 10, 0.8], [50, 0, 10, 10, 0.9], [90, 0, 10, 10, 0.7]])
    assert by_size(boxes)[:, 0].tolist() == [50, 0, 90]
    # boxes without an area are no faces
    assert not len(by_size(np.array([[0, 0, 0, 10, 0.9], [0, 0, -5, -5, 0.9], [0, 0, np.nan, 5, 1]])))
    assert not len(by_size(np.zeros((0, 5))))


@pytest.mark.parametrize(
    ("left", "top", "first", "last"),
    [
        (20, 5, (5, 20), (14, 29)),  # inside
        (-3, 5, (5, 0), (14, 9)),
        (55, 5, (5, 50), (14, 59)),
        (20, -9, (0, 20), (9, 29)),
        (20, 38, (30, 20), (39, 29)),
    ],
)
def test_a_window_over_the_edge_is_shifted_inside(left, top, first, last):
    crop = crop_square(coordinates(40, 60), side=10, left=left, top=top)
    assert crop.shape == (10, 10, 3)
    assert tuple(crop[0, 0, :2]) == first
    assert tuple(crop[-1, -1, :2]) == last


def test_a_window_larger_than_the_image_holds_all_of_it_and_repeats_the_edge():
    crop = crop_square(coordinates(4, 10), side=8, left=1, top=-3)
    assert crop.shape == (8, 8, 3)
    assert crop[0, 0, :2].tolist() == [0, 1]  # three rows above repeat row 0
    assert crop[3, 0, :2].tolist() == [0, 1]
    assert crop[6, 0, :2].tolist() == [3, 1]
    assert crop[7, 7, :2].tolist() == [3, 8]  # one row below repeats row 3


def test_the_square_is_margin_times_the_longer_side_around_the_centre_of_the_box():
    # box 10 x 20 with its centre at (30, 25); margin 1.5 gives a side of 30, so columns 15-44, rows 10-39
    crop = face_crop(coordinates(60, 80), np.array([25, 15, 10, 20, 1.0]), margin=1.5, size=30)
    assert crop[0, 0, :2].tolist() == [10, 15]
    assert crop[-1, -1, :2].tolist() == [39, 44]


def test_shrinking_averages_areas_and_enlarging_gives_the_size_that_is_asked_for():
    checkers = np.indices((40, 40)).sum(axis=0)[..., None].repeat(3, axis=2) % 2 * 255
    crop = face_crop(checkers.astype(np.uint8), np.array([0, 0, 40, 40, 1.0]), margin=1, size=20)
    assert np.abs(crop.astype(int) - 127.5).max() <= 1  # a nearest or bilinear reader would alias to 0 or 255
    crop = face_crop(coordinates(40, 40), np.array([10, 10, 8, 8, 1.0]), margin=1.3, size=64)
    assert (crop.shape, crop.dtype) == ((64, 64, 3), np.uint8)
