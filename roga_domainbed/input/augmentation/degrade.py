"""What compression and cameras do: Gaussian blur and JPEG, on (3, H, W) uint8 images."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F


def blur(image: Tensor, kernel: int) -> Tensor:
    """Gaussian blur; its σ is ``0.3 ((kernel − 1) / 2 − 1) + 0.8``, OpenCV's where none is given; edges reflect."""
    sigma = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8
    at = torch.arange(kernel, dtype=torch.float32) - (kernel - 1) / 2
    weights = torch.exp(-at.square() / (2 * sigma**2))
    weights /= weights.sum()
    half = kernel // 2
    padded = F.pad(image.float().unsqueeze(1), (half,) * 4, mode="reflect")
    across = F.conv2d(padded, weights.view(1, 1, 1, kernel))
    return F.conv2d(across, weights.view(1, 1, kernel, 1)).squeeze(1).round_().clamp_(0, 255).byte()


def smooth(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of any σ in pixels, cut off at 4 σ; at the edges the image is mirrored, its last pixel repeated."""
    smoothed = ndimage.gaussian_filter(image.numpy(), (0, sigma, sigma), output=np.float32)
    return torch.from_numpy(smoothed).round_().clamp_(0, 255).byte()


def jpeg(image: Tensor, quality: int) -> Tensor:
    """Compress as JPEG (4:2:0, ``quality`` on libjpeg's scale) and decode."""
    buffer = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as decoded:
        return torch.from_numpy(np.array(decoded)).permute(2, 0, 1)
