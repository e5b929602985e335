"""How far the images that a saved model sees are from those that it was trained on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from roga_domainbed.inference.saved_run import SavedRun
from roga_domainbed.trainer.evaluation import EvaluatedSplit
from roga_domainbed.trainer.familiarity import described

UNLIKE = "unlike anything this model was trained on"


@contextlib.contextmanager
def distances(run: SavedRun) -> Iterator[Callable[[], np.ndarray]]:
    """Inside, a function that gives the distances of the images that ``predict`` saw since it was called last.

    There are none if the model has no familiarity.
    """
    known = run.familiarity
    if known is None:
        yield lambda: np.empty(0)
        return
    with described(run.algorithm, known.layers) as (_, found):

        def taken() -> np.ndarray:
            seen = torch.cat(found) if found else torch.empty(0, len(known.mean))
            found.clear()
            return known.distances(seen)

        yield taken


def shares(run: SavedRun, found: np.ndarray, parts: Sequence[EvaluatedSplit], in_order: bool) -> list[str]:
    """A sentence on how many of the images are unlike what ``run`` was trained on; none where nobody knows.

    Args:
        run: the model.
        found: (N,) distances of all images.
        parts: what they were scored for.
        in_order: whether the images came part by part, so that the sentence can tell which part has how many.
    """
    if run.familiarity is None or not len(found):
        return []
    is_unlike = found > run.familiarity.limit
    text = f"{UNLIKE}: {is_unlike.sum():,} of {len(found):,} images"
    sizes = [len(part.scores.labels) for part in parts]
    if in_order and len(parts) > 1 and sum(sizes) == len(found) and is_unlike.any():
        each = zip(parts, np.split(is_unlike, np.cumsum(sizes)[:-1]), strict=True)
        named = [f"{part.env_name} {part.part} {100 * own.mean():.1f} %" for part, own in each if own.any()]
        text += f" ({', '.join(named)})"
    return [text]
