"""SWAD's start and end: worked by hand, and as the authors' released code finds them on the same validation losses."""

import math

import pytest
import torch

from roga_domainbed.trainer.swad import Swad


def fed(losses, converge=3, tolerate=6, ratio=1.3, every=10, weight=float):
    """A ``Swad`` after evaluations at the steps 0, ``every``, 2 ``every``, …; step t has the weight ``weight(t)``."""
    swad, step = Swad(converge, tolerate, ratio), 0
    for number, loss in enumerate(losses):
        while step <= number * every:
            swad.add(step, [torch.tensor(weight(step), dtype=torch.float64)])
            step += 1
        swad.look(step - 1, loss)
    return swad


def kept(swad):
    return (swad.kept["first"], swad.kept["last"]) if swad.kept else None


# Evaluations at steps 0, 2, 4, …, 16; N_s = 3, N_e = 2, r = 1.2. The loss at step 4 is below the two after it, so the
# average starts with step 3; the threshold is 1.2 (1.0 + 1.1 + 1.2)/3 = 1.32. The loss at step 10 is above it and that
# at step 12 is not; those at steps 14 and 16 are, and are two: the average ends with step 12.
BY_HAND = [3.0, 2.0, 1.0, 1.1, 1.2, 1.5, 1.3, 1.4, 1.5]
KEPT = [None] * 4 + [(3, 8), (3, 8), (3, 12), (3, 12), (3, 12)]


@pytest.mark.parametrize("n", range(1, 10))
def test_a_run_worked_by_hand(n):
    swad = fed(BY_HAND[:n], tolerate=2, ratio=1.2, every=2)
    assert kept(swad) == KEPT[n - 1]
    assert swad.has_ended == (n == 9)
    if n >= 5:
        assert swad.threshold == pytest.approx(1.32)


def test_the_average_is_the_mean_over_its_steps():
    # The mean of t² over t = 3 … 12 is (650 − 1 − 4)/10.
    (mean,) = fed(BY_HAND, tolerate=2, ratio=1.2, every=2, weight=lambda t: t**2.0).average
    assert mean.item() == pytest.approx(64.5, rel=1e-12)


# What ``LossValley`` of khanrc/swad gives for losses at steps 0, 10, 20, …: the step of its "Model converged at step",
# its threshold, the ``end_step`` of ``get_final_model()`` and ``dead_valley``. Its tolerance_ratio is r − 1.
VALLEY = [2.0, 1.4, 1.0, 0.8, 0.6, 0.5, 0.55, 0.52, 0.6, 0.62, 0.7, 0.75, 0.72, 0.8, 0.9, 0.95, 0.9, 1.0, 1.1]
BACK = [1.2, 0.9, 0.62, 0.6, 0.5, 0.55, 0.51, 0.9, 0.45, 0.6, 0.9, 0.8, 0.81, 0.6, 0.9, 0.8, 0.7, 0.9, 0.85]
FALLS = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
JUMP = [2.0, 1.0, 5.0, 5.0, 9.0, 9.0, 9.0, 9.0, 0.5, 0.5]
TAIL = [2.0, 1.5, 1.0, 0.5, 0.5, 0.6, 0.5, 0.9, 0.8, 0.9]
RELEASED = [
    (VALLEY, (3, 6, 1.3), (50, 0.6803, 90, True)),
    (VALLEY, (3, 6, 1.2), (50, 0.6280, 90, True)),
    (VALLEY, (2, 2, 1.3), (50, 0.6825, 90, True)),
    (VALLEY, (5, 2, 1.2), (50, 0.6696, 90, True)),
    (BACK, (3, 6, 1.3), (40, 0.6760, 130, False)),
    (BACK, (2, 2, 1.3), (40, 0.6825, 90, True)),
    (BACK, (5, 2, 1.2), (80, 0.8544, 180, False)),
    (FALLS, (3, 6, 1.3), None),
    (JUMP, (3, 6, 1.3), (10, 4.7667, 10, True)),
    (JUMP, (5, 2, 1.2), (10, 6.9600, 40, True)),
    (TAIL, (3, 6, 1.3), (30, 0.6933, 60, False)),
    (TAIL, (2, 2, 1.3), (30, 0.6500, 60, True)),
]


@pytest.mark.parametrize(("losses", "options", "released"), RELEASED)
def test_start_threshold_and_end_are_those_of_the_released_code(losses, options, released):
    swad = fed(losses, *options)
    if released is None:
        assert (swad.average, swad.threshold) == (None, None)
        return
    converged, threshold, end, dead = released
    # It averages the steps up to that evaluation, from the one before it on.
    assert kept(swad) == (converged - 9, end)
    assert swad.threshold == pytest.approx(threshold, abs=5e-5)
    assert swad.has_ended == dead


def test_the_first_step_is_no_start():
    # The released code starts here: 0.5 is below the two losses after it.
    assert kept(fed([0.5, 0.6, 0.55, 0.7])) is None
    assert kept(fed([0.5, 0.6, 0.55, 0.7, 0.9])) == (11, 40)


def test_of_equal_losses_the_first_is_the_start():
    assert kept(fed([2.0, 1.0, 1.0, 1.0], tolerate=1)) == (1, 30)


def test_a_loss_that_is_no_number_is_no_start_and_too_high():
    assert kept(fed([math.nan] * 5)) is None
    assert kept(fed([9.0, math.nan, 1.0, math.nan, 1.0, 1.1, 1.2])) == (31, 60)
    assert kept(fed([9.0, 1.0, 1.0, 1.0, math.nan, 1.0, math.nan])) == (1, 50)


def test_it_holds_no_more_copies_than_it_says():
    swad, most = Swad(3, 6, 1.3), {"before": 0, "after": 0}
    for step, loss in enumerate(VALLEY):
        swad.add(step, [torch.tensor(1.0)])
        phase = "after" if swad.kept else "before"
        most[phase] = max(most[phase], len(swad.means()))
        swad.look(step, loss)
    assert most == {"before": 3, "after": 2}
    assert len(swad.means()) == 1


def test_the_weights_that_are_given_are_not_changed():
    weight = torch.nn.Parameter(torch.ones(2))
    swad = Swad(1, 1, 1.0)
    for step in range(1, 4):
        swad.add(step, [weight])
        swad.look(step, 1.0)
        with torch.no_grad():
            weight.add_(1)
    assert torch.equal(weight.detach(), torch.full((2,), 4.0))
    assert torch.equal(swad.average[0], torch.full((2,), 2.0))
