"""``SelfBlend`` as a DomainBed dataset."""

from __future__ import annotations

from datasets_ext.folder import ManifestDataset
from roga_domainbed.catalog import DATASETS


class SelfBlend(ManifestDataset):
    """Made from a folder of photographs by ``roga-domainbed prepare selfblend``."""

    NAME = "SelfBlend"
    ENVIRONMENTS = list(DATASETS.get(NAME).environments)
