"""FaceForensics++, one environment for each manipulation: Deepfakes, Face2Face, FaceSwap, NeuralTextures.

Input: face crops made by ``roga-domainbed prepare ffpp``. Label: 0 real, 1 fake. The four environments share their
reals, so a split by identity (official or group) is needed to keep the held-out environment's reals out of training.
Source: Rössler et al., ICCV 2019, arXiv:1901.08971; the videos come from the authors on request, under their terms.
"""

from __future__ import annotations

from datasets_ext.folder import ManifestDataset
from roga_domainbed.catalog import DATASETS

#: Recordings that are excerpts of one YouTube video, most likely of one person: 22 of the 977 videos gave 45 of
#: the 1000 recordings. The official split goes by pairs and separates seven of these sets: 605|606, 639|640,
#: 755|756, 837|838, 875|876, 954|955, 982|983. From ``dataset/conversion_dict.json`` of ondyari/FaceForensics.
SAME_YOUTUBE_VIDEO = tuple(
    tuple(numbers.split())
    for numbers in (
        "331 332, 524 525, 566 567, 605 606, 614 615, 618 619, 639 640, 685 686 687, 755 756, 766 767, 769 770, "
        "787 788, 837 838, 875 876, 883 884, 937 938, 942 943, 954 955, 967 968, 973 974, 982 983, 993 994"
    ).split(", ")
)


class FFPP(ManifestDataset):
    """Compression c23: light ("high quality")."""

    NAME = "FFPP"
    ENVIRONMENTS = list(DATASETS.get(NAME).environments)
    SAME_SOURCE = SAME_YOUTUBE_VIDEO


class FFPP_c40(FFPP):
    """Compression c40: strong ("low quality")."""

    NAME = "FFPP_c40"


class FFPP_raw(FFPP):
    """Lossless."""

    NAME = "FFPP_raw"
