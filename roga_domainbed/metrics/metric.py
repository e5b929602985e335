"""What is said of a metric, once: a row in ``METRICS``, which stands in the file of its function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from numpy.typing import ArrayLike

from roga_domainbed.catalog.registry import Registry

VIDEO = "video_"


@dataclass(frozen=True)
class Metric:
    """A metric, which records have as ``env{i}_in_{name}`` and ``env{i}_out_{name}``.

    Attributes:
        name: in records and on the command line.
        function: (N,) probabilities of fake, or (N, C) with ``many_classes``, and (N,) labels to the value;
            ``ValueError`` with the reason if there is none. None where only records know the metric.
        title: in sentences and on axes; the name by default.
        heading: of its column in the table of ``evaluate``; empty if it has none there.
        lower_is_better: True for errors.
        unit: of the value times 100, which is what tables show.
        most: the largest value it can have.
        many_classes: whether it is for tasks of more than two classes; otherwise for binary ones, and then videos
            have it too, as ``video_{name}``.
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

    def rank(self, value: float) -> float:
        """``value``, or an array of values, on a scale where larger is better."""
        return -value if self.lower_is_better else value


METRICS: Registry[Metric] = Registry("metric")


def get_metric(name: str) -> Metric:
    """The metric of that name, of frames or of videos; for a name without a row what any metric has by default."""
    if name in METRICS:
        return METRICS.get(name)
    frame_name = name.removeprefix(VIDEO)
    if frame_name not in METRICS:
        return Metric(name)
    row = METRICS.get(frame_name)
    return replace(row, name=name, title=f"video {row.title}")
