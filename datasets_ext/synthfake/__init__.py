"""``SynthFake``: generated faces with four look-alike manipulations, for demos, tests and controlled experiments.

Input: nothing; the frames are drawn, the same on every machine. Labels: 0 real, 1 fake. Environments: DF, F2F, FS,
NT. The people are the same in all of them and are split 40 / 8 / 12 into official train, val and test; every
environment has recordings of its own. A fake shares person, pose, light and background with its real. Licence: that
of this package.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    # The dataset class needs torch and a DomainBed; the generator beside it does not.
    if name == "SynthFake":
        from datasets_ext.synthfake.dataset import SynthFake

        return SynthFake
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
