import numpy as np
import pytest

from datasets_ext.prepare.sampling import spaced_indices


def test_first_and_last_frame_are_among_the_chosen():
    assert spaced_indices(10, 4) == [0, 3, 6, 9]


def test_fractions_are_rounded_down():
    # 99 / 3 = 33 exactly; 98 / 3 = 32.67, so the inner ones are 32.67 and 65.33
    assert spaced_indices(100, 4) == [0, 33, 66, 99]
    assert spaced_indices(99, 4) == [0, 32, 65, 98]


@pytest.mark.parametrize("count", [32, 33, 72, 301, 309, 751, 1043])
def test_agrees_with_numpy_linspace_truncated(count):
    assert spaced_indices(count, 32) == np.linspace(0, count - 1, 32, dtype=int).tolist()


@pytest.mark.parametrize("n", [5, 6, 100])
def test_a_short_video_gives_all_its_frames(n):
    assert spaced_indices(5, n) == [0, 1, 2, 3, 4]


def test_one_frame_is_the_first_and_none_is_none():
    assert spaced_indices(7, 1) == [0]
    assert spaced_indices(0, 3) == []


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match="n >= 1"):
        spaced_indices(5, 0)
