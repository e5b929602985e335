"""Datasets by name: a dataset is a list of environments. The catalog lists them."""

from __future__ import annotations

from roga_domainbed import catalog
from roga_domainbed.engine import lookup
from roga_domainbed.engine.datasets.base import MultipleDomainDataset
from roga_domainbed.engine.datasets.debug import Debug28, Debug224
from roga_domainbed.engine.datasets.image_folder import (
    PACS,
    SVIRO,
    VLCS,
    DomainNet,
    MultipleEnvironmentImageFolder,
    OfficeHome,
    TerraIncognita,
)
from roga_domainbed.engine.datasets.mnist import ColoredMNIST, MultipleEnvironmentMNIST, RotatedMNIST

__all__ = [
    "DATASETS",
    "PACS",
    "SVIRO",
    "VLCS",
    "ColoredMNIST",
    "Debug28",
    "Debug224",
    "DomainNet",
    "MultipleDomainDataset",
    "MultipleEnvironmentImageFolder",
    "MultipleEnvironmentMNIST",
    "OfficeHome",
    "RotatedMNIST",
    "TerraIncognita",
    "get_dataset_class",
    "num_environments",
]

#: The datasets that can be built without a DomainBed checkout, the plugin's included.
DATASETS = lookup.names(catalog.DATASETS)


def get_dataset_class(dataset_name: str) -> type[MultipleDomainDataset]:
    """The class of that name.

    Raises:
        NotInEngine: the name is unknown, or only a DomainBed checkout has the class.
    """
    return lookup.load_class(catalog.DATASETS, dataset_name)


def num_environments(dataset_name: str) -> int:
    """How many environments the dataset has; no data is touched."""
    return len(lookup.find(catalog.DATASETS, dataset_name).environments)
