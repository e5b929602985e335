"""A second stream that sees noise alone: the residuals of three high-pass filters of the Spatial Rich Model.

Letters: B batch, C channels, H and W height and width, Φ the width of one stream's features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_COLOURS = 3  # further channels, such as ARM's context, are no picture
_LIMIT = 3.0  # residuals are cut off here; in units of the network's input, as the authors' code has it

#: Fridrich & Kodovský, Rich Models for Steganalysis of Digital Images (TIFS 2012), Fig. 1: how far a pixel is from
#: what a polynomial through its neighbours predicts. SQUARE 3×3, SQUARE 5×5 and second order along a row.
_FILTERS = (
    (4, ((0, 0, 0, 0, 0), (0, -1, 2, -1, 0), (0, 2, -4, 2, 0), (0, -1, 2, -1, 0), (0, 0, 0, 0, 0))),
    (12, ((-1, 2, -2, 2, -1), (2, -6, 8, -6, 2), (-2, 8, -12, 8, -2), (2, -6, 8, -6, 2), (-1, 2, -2, 2, -1))),
    (2, ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0), (0, 1, -2, 1, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0))),
)  # fmt: skip
_KERNELS = torch.stack([torch.tensor(weights).double() / scale for scale, weights in _FILTERS]).unsqueeze(1)


class ResidualFeaturizer(nn.Module):
    """Two backbones of one kind: on the image, and on its residuals; the features of both, side by side.

    After Luo et al., Generalizing Face Forgery Detection with High-frequency Features (arXiv:2103.12376): noise has no
    colour texture to learn a manipulation by. The paper's three modules join the streams inside of Xception and are
    left out, so that any backbone can be used: residuals of feature maps (multi-scale extraction), attention to
    places guided by residuals, attention across the streams. Its loss, AM-softmax, is left to the algorithm.

    Args:
        build: (input_shape, hparams) → one backbone; called twice, and both start from the same weights where there
            are any.
        input_shape: (C, H, W).
        hparams: the backbones'.
    """

    def __init__(self, build: Callable[..., Any], input_shape: tuple[int, int, int], hparams: dict[str, Any]):
        super().__init__()
        self.image = build(input_shape, hparams)
        # Residuals are no colours: what normalizes those anew is not for them.
        self.noise = build((len(_FILTERS), *input_shape[1:]), {**hparams, "normalize": "dataset"})
        self.n_outputs = self.image.n_outputs + self.noise.n_outputs
        self.activation = nn.Identity()  # the slot that some DomainBed algorithms replace

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, 2Φ)."""
        return self.activation(torch.cat([self.image(x), self.noise(residuals(x))], dim=1))


def residuals(x: Tensor) -> Tensor:
    """The responses of the three filters, each summed over the colours and cut off at ±3.

    Args:
        x: (B, C, H, W), H and W at least 3; the first three channels are taken.

    Returns:
        (B, 3, H, W). Edges reflect: the authors' zeros would draw a frame around every image.
    """
    grey = x[:, :_COLOURS].sum(dim=1, keepdim=True)
    padded = F.pad(grey, (2, 2, 2, 2), mode="reflect")
    # Not ``to(x)``: a trace keeps the device that it names.
    return F.conv2d(padded, _KERNELS.type_as(x)).clamp(-_LIMIT, _LIMIT)
