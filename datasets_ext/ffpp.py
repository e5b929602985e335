"""FaceForensics++, one environment a manipulation: Deepfakes, Face2Face, FaceSwap, NeuralTextures.

Input: face crops made by ``roga-domainbed prepare ffpp``. Label: 0 real, 1 fake. The four environments have the same
reals, so only the official split, which goes by identity, keeps the held-out environment's reals out of training.
Source: Rössler et al., ICCV 2019, arXiv:1901.08971; the videos come from the authors on request, under their terms.
"""

from __future__ import annotations

from datasets_ext.folder import ManifestDataset
from roga_domainbed.catalog import DATASETS


class FFPP(ManifestDataset):
    """Compression c23: light, called high quality."""

    NAME = "FFPP"
    ENVIRONMENTS = list(DATASETS.get(NAME).environments)


class FFPP_c40(ManifestDataset):
    """Compression c40: strong, called low quality."""

    NAME = "FFPP_c40"
    ENVIRONMENTS = list(DATASETS.get(NAME).environments)


class FFPP_raw(ManifestDataset):
    """Lossless."""

    NAME = "FFPP_raw"
    ENVIRONMENTS = list(DATASETS.get(NAME).environments)
