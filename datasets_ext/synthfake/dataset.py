"""``SynthFake`` as a DomainBed dataset."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from datasets_ext import manifest
from datasets_ext.folder import ManifestDataset
from datasets_ext.synthfake.generate import NAME, generate
from roga_domainbed.catalog import DATASETS


class SynthFake(ManifestDataset):
    """Generated faces. If ``<root>/SynthFake`` does not exist, it is made with the generator's defaults.

    An existing tree is used as it is, whatever its parameters.
    """

    NAME = NAME
    ENVIRONMENTS = list(DATASETS.get(NAME).environments)
    N_STEPS = 401
    CHECKPOINT_FREQ = 100

    def __init__(self, root: str | os.PathLike | None, test_envs: Collection[int], hparams: dict[str, Any]):
        if root is not None and not (Path(root) / NAME / manifest.FILE).exists():
            generate(root)  # refuses a folder of that name that is something else
        super().__init__(root, test_envs, hparams)
