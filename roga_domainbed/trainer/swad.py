"""SWAD: the mean of the weights of every step from a start to an end, both chosen by the validation loss.

Cha et al., arXiv:2102.08604, Algorithm 1, with evaluations in the place of its iterations. The paper's own text could
not be read here: the rule rests on the authors' released code (khanrc/swad), and on what others wrote of the paper.
With L_i the validation loss of the plain weights at evaluation i:

- The start is the first evaluation s whose loss none of the next N_s − 1 evaluations goes below. It is not that after
  step 0, unlike in the released code: a network from random weights may have its lowest early loss there.
- The threshold is r times the mean of those N_s losses.
- The end comes when N_e losses in a row are above the threshold, and is the evaluation before them. Losses before those
  N_s count in no such row.

Averaged are the steps after the evaluation before s, up to the end, one as much as another. Where the run ends first,
the average ends with the last loss that is not above the threshold. docs/averaging.md says where the released code and
the paper differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

#: The mean of the weights of the steps ``first`` … ``last``, as ``{"first": …, "last": …, "mean": [Tensor, …]}``;
#: empty for no steps. A dict, because a checkpoint restores it.
Segment = dict[str, Any]


class Swad:
    """Takes the weights of each step and the validation loss of each evaluation; has the average so far.

    It holds ``converge`` copies of the weights until the start is found and two from then on, one after the end.

    Args:
        converge: N_s, at least 1.
        tolerate: N_e, at least 1.
        ratio: r, at least 1.

    Attributes:
        kept: what is averaged so far; empty until the start is found.
        threshold: above it a loss is too high; None until the start is found.
        has_ended: whether the end is found.
    """

    def __init__(self, converge: int, tolerate: int, ratio: float):
        self.converge, self.tolerate, self.ratio = converge, tolerate, ratio
        self.kept: Segment = {}
        self.threshold: float | None = None
        self.has_ended = False
        self._last_look = -1
        self._n_above = 0  # evaluations in a row, up to the last
        self._open: Segment = {}  # the steps of which it is not known yet whether they are averaged
        # Before the start is found: those since the lowest loss, and what it was there and at the evaluations after.
        self._segments: list[Segment] = []
        self._losses: list[float] = []

    @property
    def average(self) -> list[Tensor] | None:
        """The average so far, not a copy; None until the start is found."""
        return self.kept.get("mean")

    def means(self) -> list[list[Tensor]]:
        """Every copy of the weights that it holds."""
        return [segment["mean"] for segment in (self.kept, self._open, *self._segments) if segment]

    def add(self, step: int, weights: Sequence[Tensor]) -> None:
        """Take the weights after ``step``: of every step, in order."""
        if self.has_ended:
            return
        step_alone = {"first": step, "last": step, "mean": weights}
        if self._open:
            self._open = _joined(self._open, step_alone)
        else:
            self._open = {**step_alone, "mean": [weight.detach().clone() for weight in weights]}

    def look(self, step: int, loss: float) -> None:
        """Take the validation loss of the weights after ``step``; a second call for it does nothing."""
        if step <= self._last_look or self.has_ended:
            return
        self._last_look = step
        if step == 0:
            self._open = {}
            return
        if self.threshold is not None:
            self._judge(is_kept=loss <= self.threshold)
            return
        if self._losses and not loss >= self._losses[0]:  # nor is a loss that is NaN an optimum
            self._segments, self._losses = [], []
        self._segments.append(self._open)
        self._losses.append(loss)
        self._open = {}
        if len(self._losses) == self.converge:
            self._start()

    def _start(self) -> None:
        self.threshold = self.ratio * sum(self._losses) / self.converge
        (self.kept, *others), self._segments = self._segments, []
        for number, (segment, loss) in enumerate(zip(others, self._losses[1:], strict=True), 1):
            self._open = _joined(self._open, segment) if self._open else segment
            # The first row of N_e losses that is looked at has the next evaluation in it.
            is_before_any_row = number <= self.converge - self.tolerate
            self._judge(is_kept=is_before_any_row or loss <= self.threshold)
        self._losses = []

    def _judge(self, *, is_kept: bool) -> None:
        if is_kept:
            self.kept, self._open, self._n_above = _joined(self.kept, self._open), {}, 0
            return
        self._n_above += 1
        if self._n_above == self.tolerate:
            self._open, self.has_ended = {}, True


@torch.no_grad()
def _joined(segment: Segment, later: Segment) -> Segment:
    """Both as one, in the memory of ``segment``."""
    n_later = later["last"] - later["first"] + 1
    n = later["last"] - segment["first"] + 1
    torch._foreach_lerp_(segment["mean"], list(later["mean"]), n_later / n)
    return {**segment, "last": later["last"]}
