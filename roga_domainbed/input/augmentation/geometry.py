"""Crop, resize and mirror images of any size to one side, as PIL does it: bilinear, antialiased where it shrinks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def crop_resize(images: Sequence[Tensor], boxes: np.ndarray, flip: np.ndarray, side: int) -> Tensor:
    """(B, 3, side, side) uint8 from B images of (H, W, 3) uint8, one by one.

    Args:
        images: any sizes.
        boxes: (B, 4) top, left, height, width of the part that is kept.
        flip: (B,) bool, which to mirror left to right.
        side: of the result.
    """
    out = torch.empty((len(images), side, side, 3), dtype=torch.uint8)
    for image, (top, left, height, width), mirrored, target in zip(
        images, boxes.tolist(), flip.tolist(), out, strict=True
    ):
        part = image[top : top + height, left : left + width]
        if (height, width) != (side, side):
            # torch keeps 8 bits here and has a kernel for this layout: a third of PIL's time, the same pixels
            planes = part.permute(2, 0, 1).unsqueeze(0)
            resized = F.interpolate(planes, (side, side), mode="bilinear", antialias=True)
            part = resized[0].permute(1, 2, 0)
        target.copy_(part.flip(1) if mirrored else part)
    return out.permute(0, 3, 1, 2)


def crop_resize_batch(images: Tensor, boxes: np.ndarray, flip: np.ndarray, side: int) -> Tensor:
    """As ``crop_resize`` for images of one size on any device, as two matrix products.

    Args:
        images: (B, H, W, 3) uint8.
        boxes: as there.
        flip: as there.
        side: as there.

    Returns:
        (B, 3, side, side) float32 of whole levels, 0 to 255.
    """
    n, height, width, _ = images.shape
    rows = _weights(boxes[:, 0], boxes[:, 2], height, side, np.zeros(n, bool)).to(images.device)
    columns = _weights(boxes[:, 1], boxes[:, 3], width, side, flip).to(images.device)
    planes = images.permute(0, 3, 1, 2).float()
    # levels are rounded after each direction, as PIL does
    across = torch.matmul(planes, columns.transpose(1, 2).unsqueeze(1)).round_()
    return torch.matmul(rows.unsqueeze(1), across).round_().clamp_(0, 255)


def _weights(start: np.ndarray, length: np.ndarray, size: int, side: int, flip: np.ndarray) -> Tensor:
    """(B, side, size) float32: row j holds the weights of the source pixels in target pixel j."""
    scale = torch.from_numpy(length / side)[:, None, None]
    support = scale.clamp(min=1.0)
    first = torch.from_numpy(start.astype(np.float64))[:, None, None]
    last = first + torch.from_numpy(length.astype(np.float64))[:, None, None]
    target = torch.arange(side, dtype=torch.float64)[None, :, None]
    source = torch.arange(size, dtype=torch.float64)[None, None, :]
    centre = first + (target + 0.5) * scale
    weights = (1 - ((source + 0.5 - centre) / support).abs()).clamp_(min=0)
    weights *= (source >= first) & (source < last)
    weights /= weights.sum(dim=2, keepdim=True)
    mirrored = torch.from_numpy(flip)[:, None, None]
    return torch.where(mirrored, weights.flip(1), weights).float()
