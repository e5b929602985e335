"""Algorithms, datasets and backbones by name, with their hyper-parameters. Listing them imports no torch."""

from roga_domainbed.catalog.algorithms import ALGORITHMS, AlgorithmInfo
from roga_domainbed.catalog.backbones import BACKBONES, BackboneInfo, load_backbone
from roga_domainbed.catalog.datasets import DATASETS, DatasetInfo, has_small_images, scale_hparams
from roga_domainbed.catalog.shared_hparams import (
    AVERAGING_HPARAMS,
    BACKBONE_HPARAMS,
    FACE_HPARAMS,
    GENERIC_HPARAMS,
    INPUT_HPARAMS,
    OPTIMIZER_HPARAMS,
    SCHEDULE_HPARAMS,
)
from roga_domainbed.catalog.start import fitted, starts_from_scratch

__all__ = [
    "ALGORITHMS",
    "AVERAGING_HPARAMS",
    "BACKBONES",
    "BACKBONE_HPARAMS",
    "DATASETS",
    "FACE_HPARAMS",
    "GENERIC_HPARAMS",
    "INPUT_HPARAMS",
    "OPTIMIZER_HPARAMS",
    "SCHEDULE_HPARAMS",
    "AlgorithmInfo",
    "BackboneInfo",
    "DatasetInfo",
    "fitted",
    "has_small_images",
    "load_backbone",
    "scale_hparams",
    "starts_from_scratch",
]
