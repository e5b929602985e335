"""``SelfBlend``: any folder of real face photographs with four look-alike manipulations applied to its pixels.

Input: photographs, one face in each. Labels: 0 real, 1 fake. Environments: DF, F2F, FS, NT, which have the same
reals, as FaceForensics++ has. People are disjoint between the official train, val and test. Licence: that of the
photographs.

    photographs  which photographs there are, who is in them, which part they belong to    → ``Layout``
    options      what decides the pixels
    face         one photograph: its face, and frames of it
    manipulate   the four manipulations
    compress     H.264, as FaceForensics++ is compressed
    clip         the work: one photograph and one manipulation in, one folder of frames out
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    # The dataset class needs torch and a DomainBed; preparation does not.
    if name == "SelfBlend":
        from datasets_ext.selfblend.dataset import SelfBlend

        return SelfBlend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
