"""How much a number was tested on: samples, videos and people, as far as the records tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from roga_domainbed.results.runs import Run

FEWEST_VIDEOS = 10  # of a class; one video more or less moves an AUC by up to a tenth
FEWEST_PEOPLE = 5

#: Of reals, and of fakes.
Pair = tuple[int, int]


@dataclass(frozen=True)
class SampleSize:
    """The test data of a number; None for what is not known.

    Attributes:
        n_samples: of both classes, or of all where there are more.
        n_videos: of both classes.
        samples: of each class.
        videos: of each class.
        people: of each class; a fake may show two.
    """

    n_samples: int | None = None
    n_videos: int | None = None
    samples: Pair | None = None
    videos: Pair | None = None
    people: Pair | None = None

    @property
    def has_few_videos(self) -> bool:
        """Whether a class has fewer than ``FEWEST_VIDEOS``; also where only their sum is known and tells."""
        if self.videos is not None:
            return min(self.videos) < FEWEST_VIDEOS
        return self.n_videos is not None and self.n_videos < 2 * FEWEST_VIDEOS

    @property
    def has_few_people(self) -> bool:
        """Whether a class has fewer than ``FEWEST_PEOPLE``."""
        return self.people is not None and min(self.people) < FEWEST_PEOPLE

    @property
    def is_few(self) -> bool:
        """Whether either is so."""
        return self.has_few_videos or self.has_few_people


def sample_size(run: Run, env: int, step: int) -> SampleSize:
    """What one step of a run was tested on, by its record, and by the counts in its first record if these agree.

    They do not where the step was evaluated on a subset (``--eval_max_per_env``): then the classes are not known.
    """
    n_samples, n_videos = (_number(run, f"env{env}_in_{name}", step) for name in ("n", "video_n"))
    counts = _counts(run.provenance, env)
    samples, videos, people = (_pair(counts.get(name)) for name in ("samples", "videos", "people"))
    if samples is None or n_samples not in (None, sum(samples)):
        return SampleSize(n_samples, n_videos)
    return SampleSize(sum(samples), n_videos if videos is None else sum(videos), samples, videos, people)


def _number(run: Run, key: str, step: int) -> int | None:
    """The last value of ``key`` at ``step``."""
    values = run.column(key)[np.asarray(run.steps) == step] if key in run.columns else ()
    value = values[-1] if len(values) else np.nan
    return None if np.isnan(value) else int(value)


def _counts(provenance: Mapping[str, Any], env: int) -> Mapping[str, Any]:
    """Those of the in-split of an environment; empty if the records do not have them, or anything else there."""
    found = provenance.get("counts")
    found = found[env] if isinstance(found, list) and env < len(found) else None
    found = found.get("in") if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _pair(value: object) -> Pair | None:
    """``value`` if it is two counts."""
    if isinstance(value, list) and len(value) == 2 and all(type(n) is int and 0 <= n < 2**63 for n in value):
        return value[0], value[1]
    return None
