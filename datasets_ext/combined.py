"""Datasets whose environments come from several prepared trees: generalization from one dataset to another.

``prepare`` makes one tree for each source (``FFPP``, ``CelebDF2``, …), with a manifest of its own. They are combined
without copying. An environment is one or more environments of one tree. Labels: 0 real, 1 fake.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from datasets_ext import manifest
from datasets_ext.ffpp import SAME_YOUTUBE_VIDEO
from datasets_ext.folder import ManifestDataset, read_tree
from roga_domainbed.catalog import DATASETS
from roga_domainbed.errors import Problems, RogaError


@dataclass(frozen=True)
class Source:
    """Where an environment comes from.

    Attributes:
        tree: the prepared dataset.
        envs: its environments that form one environment here.
        family: shared by datasets that have recordings or people in common; keys of different families never match.
        has_split: whether its authors publish a split. Without one it is used whole, for training or for testing.
    """

    tree: str
    envs: tuple[str, ...]
    family: str
    has_split: bool = True


def _single(tree: str, family: str | None = None, has_split: bool = True) -> Source:
    return Source(tree, (tree,), family or tree, has_split)


#: FaceForensics++'s sets of recordings from one source video, with the family's prefix.
_FFPP_SOURCES = tuple(tuple(f"FFPP/{number}" for number in numbers) for numbers in SAME_YOUTUBE_VIDEO)
_FFPP = tuple(DATASETS.get("FFPP").environments)
_CELEBDF1 = _single("CelebDF1", "Celeb-DF")  # names are shared with v2, and very probably videos
_CELEBDF2 = _single("CelebDF2", "Celeb-DF")
_DFDC = _single("DFDC")
_DFDCP = _single("DFDCP")
_UADFV = _single("UADFV", has_split=False)
_FACESHIFTER = _single("FaceShifter", "FFPP")  # the same reals and the same official split
_DFD = _single("DFD", has_split=False)


class CombinedDataset(ManifestDataset):
    """An environment from each of ``SOURCES``, in the order of ``ENVIRONMENTS``.

    The rows' ``recording`` and ``identities`` begin with the family, so that equal names in different datasets differ.
    The splits:

    - ``official``: as for one tree. A source without a published split is all test in a test environment and all train
      in a training environment; a val part is then cut from train by recording.
    - ``group``: a family that is only tested on is all test; from one that is only trained on, val is cut; a family on
      both sides is cut into all three parts.
    """

    SOURCES: tuple[Source, ...]
    SAME_SOURCE = _FFPP_SOURCES

    @classmethod
    def read_environments(cls, root: str | os.PathLike | None) -> list[tuple[Path, pd.DataFrame]]:
        """See ``ManifestDataset``; the faults of all trees come at once."""
        problems = Problems()
        envs_of: dict[str, dict[str, None]] = {}
        for source in cls.SOURCES:
            envs_of.setdefault(source.tree, {}).update(dict.fromkeys(source.envs))
        trees = {}
        for tree, envs in envs_of.items():
            try:
                trees[tree] = read_tree(root, tree, list(envs), problems)
            except RogaError as error:
                problems.add(str(error))
                if root is None or not Path(root).is_dir():
                    break  # the same fault for every tree
        problems.check()
        return [
            (trees[source.tree][0], _one_environment(source, trees[source.tree][1])) for source in cls.SOURCES
        ]

    def rows_to_cut(self, test_envs: Collection[int]) -> list[pd.DataFrame]:
        """See ``ManifestDataset``; a source without a published split is whole."""
        return [
            rows if source.has_split else rows.assign(split="test" if index in test_envs else "train")
            for index, (source, rows) in enumerate(zip(self.SOURCES, self.environment_rows, strict=True))
        ]

    @property
    def families(self) -> list[str]:
        """See ``ManifestDataset``."""
        return [source.family for source in self.SOURCES]


def _one_environment(source: Source, rows_of: dict[str, pd.DataFrame]) -> pd.DataFrame:
    rows = pd.concat([rows_of[env] for env in source.envs], ignore_index=True)
    if len(source.envs) > 1:
        # Environments of one tree share their reals and have fakes of the same names.
        shared = (rows["label"] == manifest.REAL) & rows.duplicated(["label", "video", "frame"])
        rows = rows[~shared].reset_index(drop=True)
        fake = rows["label"] == manifest.FAKE
        rows["video"] = rows["video"].where(~fake, rows["method"] + "-" + rows["video"])
    return with_family(rows, source.family)


def with_family(rows: pd.DataFrame, family: str | None = None) -> pd.DataFrame:
    """Manifest rows with the family before recordings and people, where it is not there yet.

    ``000`` is the same recording in two versions of FaceForensics++, but not in FaceForensics++ and another dataset:
    with the family the names of any two datasets can be compared.

    Args:
        rows: of one environment.
        family: of all rows; None for that of each row's dataset.
    """

    def prefixed(column: str) -> list[str]:
        pairs = list(zip(rows["dataset"], rows[column], strict=True))
        found = {}
        for dataset, text in set(pairs):
            prefix = f"{family or family_of(dataset)}/"
            names = text.split("+") if column == "identities" else [text]
            found[dataset, text] = "+".join(
                name if name.startswith(prefix) else prefix + name for name in names if name
            )
        return [found[pair] for pair in pairs]

    return rows.assign(recording=prefixed("recording"), identities=prefixed("identities"))


class DeepfakeDatasets(CombinedDataset):
    """Leave one dataset out: FaceForensics++ c23 (all four manipulations), Celeb-DF v2, DFDC, its preview, UADFV."""

    NAME = "DeepfakeDatasets"
    ENVIRONMENTS = list(DATASETS.get(NAME).environments)
    SOURCES = (Source("FFPP", _FFPP, "FFPP"), _CELEBDF2, _DFDC, _DFDCP, _UADFV)


class FFPPCross(CombinedDataset):
    """Train on FaceForensics++ c23's four manipulations and test on five other datasets: ``--test_envs 4 5 6 7 8``."""

    NAME = "FFPPCross"
    ENVIRONMENTS = list(DATASETS.get(NAME).environments)
    SOURCES = (
        *(Source("FFPP", (env,), "FFPP") for env in _FFPP),
        *(_CELEBDF1, _CELEBDF2, _UADFV, _DFDC, _DFDCP),
    )


class FFPPSeen(CombinedDataset):
    """Train on the four manipulations and test on the same ones: ``--test_envs 4 5 6 7``.

    Each manipulation is an environment twice. Held out, ``DF_test`` is DF's official test part: people that training
    never saw, a manipulation that it did. Hold out all four: one that is not would be trained on a second time.
    """

    NAME = "FFPPSeen"
    ENVIRONMENTS = list(DATASETS.get(NAME).environments)
    SOURCES = tuple(Source("FFPP", (env,), "FFPP") for env in (*_FFPP, *_FFPP))


class FFPPSeenCross(CombinedDataset):
    """``FFPPSeen``, with UADFV and Celeb-DF v1 to test on too: ``--test_envs 4 5 6 7 8 9``."""

    NAME = "FFPPSeenCross"
    ENVIRONMENTS = list(DATASETS.get(NAME).environments)
    SOURCES = (*FFPPSeen.SOURCES, _UADFV, _CELEBDF1)


class FFPPDownload(CombinedDataset):
    """Train on the four manipulations and test on FaceShifter and DeepFakeDetection: ``--test_envs 4 5``.

    FaceShifter has FaceForensics++'s reals and official split, so its test part shows people who were not trained on.
    DeepFakeDetection has other actors.
    """

    NAME = "FFPPDownload"
    ENVIRONMENTS = list(DATASETS.get(NAME).environments)
    SOURCES = (*(Source("FFPP", (env,), "FFPP") for env in _FFPP), _FACESHIFTER, _DFD)


#: Dataset → the family whose recordings or people it shares.
_FAMILIES = {
    **{
        source.tree: source.family
        for dataset in CombinedDataset.__subclasses__()
        for source in dataset.SOURCES
    },
    **dict.fromkeys(("FFPP_c40", "FFPP_raw"), "FFPP"),
}


def family_of(dataset: str) -> str:
    """The family of a prepared dataset; most are families of their own."""
    return _FAMILIES.get(dataset, dataset)
