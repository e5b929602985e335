"""The phase spectrum as a fourth channel beside the colours: the input of SPSL.

Letters: B batch, C channels, H and W height and width, Φ the width of the features.

    F = FFT(mean over the colours)        φ = arg F        phase image = FFT⁻¹(a · exp(iφ)),  a constant
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_COLOURS = 3  # further channels, such as ARM's context, are no picture


class PhaseFeaturizer(nn.Module):
    """Any backbone on an image and its phase image (Liu et al., SPSL, arXiv:2103.01856, Section 3).

    Up-sampling, a step of most forgeries, repeats the spectrum; the phase shows it where the amplitude has decayed.
    The paper also makes Xception shallower, to look at texture rather than at the whole face. The backbone is kept
    whole here, as in DeepfakeBench, whose SPSL this compares with. DeepfakeBench's transform runs over the minibatch
    too, so that an image's phase depends on its neighbours; here it is each image's own, as in the paper.

    Args:
        build: (input_shape, hparams) → the backbone; it gets one channel more than ``input_shape`` has. timm fills
            the first layer's weights for that channel from those of the colours.
        input_shape: (C, H, W).
        hparams: the backbone's.
    """

    def __init__(self, build: Callable[..., Any], input_shape: tuple[int, int, int], hparams: dict[str, Any]):
        super().__init__()
        channels, height, width = input_shape
        self.network = build((channels + 1, height, width), hparams)
        self.n_outputs = self.network.n_outputs
        self.activation = nn.Identity()  # the slot that some DomainBed algorithms replace

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, Φ)."""
        return self.activation(self.network(torch.cat([x, phase_image(x).to(x.dtype)], dim=1)))


def phase_image(x: Tensor) -> Tensor:
    """What is left of grey images when each frequency has the same amplitude.

    Args:
        x: (B, C, H, W); the first three channels are averaged. Their scale does not matter. Their mean does only in
            the sign of one frequency.

    Returns:
        (B, 1, H, W) in float32, or in float64 where x is. The amplitude is the one with which the mean square is 1,
        as large as that of normalized colours. A frequency that is not there has phase 0.
    """
    with torch.autocast(x.device.type, enabled=False):  # there is no FFT in 16 bits for every size
        grey = x[:, :_COLOURS].to(torch.promote_types(x.dtype, torch.float32)).mean(dim=1, keepdim=True)
        phase = torch.fft.rfft2(grey).angle()
        spectrum = torch.polar(torch.ones_like(phase), phase)
        return torch.fft.irfft2(spectrum, s=grey.shape[-2:], norm="ortho")
