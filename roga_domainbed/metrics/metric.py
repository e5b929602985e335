"""A metric is a row in ``METRICS``, in the file of its function. No other place lists metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from numpy.typing import ArrayLike

from roga_domainbed.catalog.registry import Registry

VIDEO = "video_"


@dataclass(frozen=True)
class Metric:
    """A metric; its keys in records are ``env{i}_in_{name}`` and ``env{i}_out_{name}``.

    Attributes:
        name: in records and on the command line.
        function: maps (N,) probabilities of fake, or (N, C) with ``many_classes``, and (N,) labels to the value; it
            raises ``ValueError`` with the reason if there is none. None for a metric that only occurs in records.
        title: in sentences and on axes; the name by default.
        heading: of its column in the table of ``evaluate``; empty for no column.
        lower_is_better: True for errors.
        unit: of the value times 100, which tables show.
        most: the largest possible value.
        many_classes: True if it is for tasks with more than two classes. A metric of binary tasks is also computed
            for videos, as ``video_{name}``.
    """

    name: str
    function: Callable[[ArrayLike, ArrayLike], float] | None = None
    title: str = ""
    heading: str = ""
    lower_is_better: bool = False
    unit: str = "%"
    most: float = 1.0
    many_classes: bool = False

    def __post_init__(self):
        if not self.title:
            object.__setattr__(self, "title", self.name)

    @property
    def summary(self) -> str:
        """The title."""
        return self.title

    def text(self, value: float | None) -> str:
        """``value`` as tables have it: with one decimal in percent, with three in nats; ``-`` for None."""
        if value is None:
            return "-"
        return f"{100 * value:.1f}" if self.unit == "%" else f"{value:.3f}"

    def rank(self, value: float) -> float:
        """``value``, a number or an array, on a scale where larger is better."""
        return -value if self.lower_is_better else value


METRICS: Registry[Metric] = Registry("metric")


def get_metric(name: str) -> Metric:
    """The metric called ``name``, for frames or videos; a name without a row gets the default attributes."""
    if name in METRICS:
        return METRICS.get(name)
    frame_name = name.removeprefix(VIDEO)
    if frame_name not in METRICS:
        return Metric(name)
    row = METRICS.get(frame_name)
    return replace(row, name=name, title=f"video {row.title}")
