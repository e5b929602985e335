import numpy as np
import pytest

from datasets_ext.prepare.sampling import spaced_indices


@pytest.mark.parametrize(
    ("count", "n", "expected"),
    [
        (10, 4, [0, 3, 6, 9]),  # the first and the last are among them
        (100, 4, [0, 33, 66, 99]),
        (99, 4, [0, 32, 65, 98]),  # 98 / 3 = 32.67, so the inner ones are 32.67 and 65.33: rounded down
        (5, 5, [0, 1, 2, 3, 4]),
        (5, 6, [0, 1, 2, 3, 4]),
        (5, 100, [0, 1, 2, 3, 4]),
        (7, 1, [0]),
        (0, 3, []),
    ],
)
def test_the_chosen_frames(count, n, expected):
    assert spaced_indices(count, n) == expected


@pytest.mark.parametrize("count", [32, 33, 72, 301, 309, 751, 1043])
def test_agrees_with_numpy_linspace_truncated(count):
    assert spaced_indices(count, 32) == np.linspace(0, count - 1, 32, dtype=int).tolist()


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match="n >= 1"):
        spaced_indices(5, 0)
