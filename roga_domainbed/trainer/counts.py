"""How much data each part of an environment has: samples, videos and people of each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from roga_domainbed.input.environment import OpenDataset
from roga_domainbed.trainer.splits import EnvironmentSplit


def split_counts(dataset: OpenDataset, splits: Sequence[EnvironmentSplit]) -> list[dict[str, Any] | None]:
    """For each environment: part, as record keys name it → ``samples``, ``videos`` and ``people``, each [real, fake].

    A fake may show two people, the face's and the body's. People are left out where one of the videos names none. The
    classes are those of the manifest, whatever ``--label_noise`` made of them.

    Args:
        dataset: the environments.
        splits: one an environment.

    Returns:
        None in the place of an environment whose videos or classes are not known; of all, if there are not two classes.
    """
    return [_of_environment(dataset, env, split) for env, split in enumerate(splits)]


def _of_environment(dataset: OpenDataset, env: int, split: EnvironmentSplit) -> dict[str, Any] | None:
    environment = dataset[env]
    rows = None if dataset.rows is None else dataset.rows[env]
    labels = environment.labels if rows is None else rows["label"].to_numpy()
    if dataset.num_classes != 2 or labels is None or environment.videos is None:
        return None
    videos = np.asarray(environment.videos, dtype=object)
    people = None if rows is None else rows["identities"].to_numpy()
    return {name: _of_part(indices, np.asarray(labels), videos, people) for name, indices in split.named()}


def _of_part(
    indices: Sequence[int], labels: np.ndarray, videos: np.ndarray, people: np.ndarray | None
) -> dict[str, list[int]]:
    indices = np.asarray(indices, dtype=np.int64)
    of_class = [indices[labels[indices] == label] for label in (0, 1)]
    found = {
        "samples": [len(own) for own in of_class],
        "videos": [len(set(videos[own].tolist()) - {None}) for own in of_class],
    }
    if people is not None and all(people[indices]):
        shown = [{one for names in set(people[own].tolist()) for one in names.split("+")} for own in of_class]
        found["people"] = [len(own) for own in shown]
    return found
