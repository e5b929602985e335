"""``SelfBlend`` as a DomainBed data set."""

from __future__ import annotations

from datasets_ext.folder import ManifestDataset
from roga_domainbed.catalog import DATASETS


class SelfBlend(ManifestDataset):
    """What ``roga-domainbed prepare selfblend`` made of a folder of photographs."""

    NAME = "SelfBlend"
    ENVIRONMENTS = list(DATASETS.get(NAME).environments)
