"""Forgeries: an artefact each, and one faint trace that all of them share.

A manipulation changes the face in the frames of a recording, and nothing else. The four are named after the methods of
FaceForensics++ that they imitate (DeepFakes, Face2Face, FaceSwap, NeuralTextures). Each has an artefact of its own,
which a detector learns first and which does not help with the other three. The shared trace imitates the residue of
up-sampling in generated images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from datasets_ext.synthfake.face import Coordinates, disc
from datasets_ext.synthfake.sampling import enlarge, lattice, reduce, warp

_MOUTH_Y = 0.66  # middle of the mouth region in head units

# Strength 1, found by experiment: Meso-4, trained for 300 steps of 32 images on one environment, has a test AUC above
# 0.95 there and 0.6 to 0.9 on the others, which it detects by the trace (DF and F2F also by their softness).
_BLUR = 0.4  # DF: share of the low-resolution face in the blend
_SEAM = 0.22  # DF: how much darker the blending seam is
_MESH = 1.9  # F2F: standard deviation of the mesh's misfit, in pixels of a 64-pixel frame
_SHIFT = 0.22  # FS: relative change of the colour channels, root mean square
_TEXTURE = 0.2  # NT: relative contrast of the synthesised texture
_TRACE = 0.015  # mean amplitude of the shared trace, about that of the sensor noise
NOISE = 0.012  # standard deviation of the sensor noise: 3 grey levels


@dataclass(frozen=True)
class Strengths:
    """How visible each artefact is: 1 is the benchmark, 0 is absent.

    Attributes:
        df: DF, a face of low resolution behind a soft seam.
        f2f: F2F, a mouth warped to another expression, on an ill-fitting mesh.
        fs: FS, a face whose colour does not match the head it is pasted on.
        nt: NT, a lower face whose texture is synthesised.
        trace: the up-sampling residue of all fakes.
        noise: sensor noise of all frames, real and fake.
    """

    df: float = 1.0
    f2f: float = 1.0
    fs: float = 1.0
    nt: float = 1.0
    trace: float = 1.0
    noise: float = 1.0


def deepfakes(image: np.ndarray, at: Coordinates, rng: np.random.RandomState, strength: float) -> np.ndarray:
    """DF: the inner face is replaced by one of half the resolution, blended in with a visible soft seam."""
    radius_x, radius_y = rng.uniform(0.50, 0.56), rng.uniform(0.56, 0.64)
    x, y = at.face_x, at.face_y - 0.28
    mask = disc(x, y, radius_x, radius_y, 0.16)
    factor = max(2, image.shape[-1] // 32)
    blurred = enlarge(reduce(image, factor), factor)
    seam = _SEAM * rng.uniform(0.8, 1.2) * 4 * mask * (1 - mask)  # highest where the mask is half
    faked = image + mask[:, None] * _BLUR * strength * (blurred - image)
    return faked * (1 - strength * seam[:, None])


def face2face(image: np.ndarray, at: Coordinates, rng: np.random.RandomState, strength: float) -> np.ndarray:
    """F2F: the mouth is warped to another expression, and the cells of an ill-fitting mesh show."""
    x, y = at.face_x, at.face_y - _MOUTH_Y
    mesh = disc(x, at.face_y - 0.26, 0.58, 0.68, 0.12)
    mouth = disc(x, y, 0.46, 0.34, 0.12)
    unit = strength * image.shape[-1] / 64
    pull = rng.choice([-1.0, 1.0]) * rng.uniform(2.0, 3.5)  # the corners of the mouth, in pixels of 64
    table = rng.standard_normal((2, 32, 32))
    cells_x = _MESH * lattice(table[0], 7.5 * x, 7.5 * y)
    cells_y = _MESH * lattice(table[1], 7.5 * x, 7.5 * y)
    corners = np.clip(np.abs(x) / 0.3, 0, 1) - 0.4
    return warp(image, unit * mesh * cells_x, unit * (mouth * pull * corners + mesh * cells_y))


def faceswap(image: np.ndarray, at: Coordinates, rng: np.random.RandomState, strength: float) -> np.ndarray:
    """FS: a hard-edged mask of the face in another skin colour."""
    x, y = at.face_x, at.face_y - 0.24
    mask = disc(x, y, rng.uniform(0.50, 0.56), rng.uniform(0.58, 0.66), at.pixel)
    shift = rng.standard_normal(3)
    shift = shift - shift.mean()  # another colour of the same brightness
    shift *= _SHIFT / np.sqrt((shift**2).mean())
    gain = (1 + strength * shift)[None, :, None, None]
    return image * (1 + mask[:, None] * (gain - 1))


def neuraltextures(
    image: np.ndarray, at: Coordinates, rng: np.random.RandomState, strength: float
) -> np.ndarray:
    """NT: mouth and chin are rendered with a small repeating patch of texture."""
    x, y = at.face_x, at.face_y - _MOUTH_Y
    mask = disc(x, y, 0.42, 0.34, 0.10)
    patch = rng.standard_normal((4, 4))
    patch -= patch.mean()
    patch /= np.sqrt((patch**2).mean())
    texture = lattice(patch, 13 * x, 13 * y)
    made = image * (1 + _TEXTURE * texture[:, None])
    return image + mask[:, None] * strength * (made - image)


#: Environment → its manipulation.
MANIPULATIONS: dict[str, Callable[[np.ndarray, Coordinates, np.random.RandomState, float], np.ndarray]] = {
    "DF": deepfakes,
    "F2F": face2face,
    "FS": faceswap,
    "NT": neuraltextures,
}


def upsampling_trace(at: Coordinates, rng: np.random.RandomState, strength: float) -> np.ndarray:
    """The shared trace: a checkerboard of single pixels in the face, about as strong as the sensor noise.

    Returns:
        (F, 3, S, S), to be added to the frames.
    """
    size = at.x.shape[-1]
    sign = 1 - 2 * (np.arange(size) % 2)
    mask = disc(at.face_x, at.face_y - 0.3, 0.5, 0.6, 0.3)
    board = strength * _TRACE * rng.uniform(0.3, 1.7) * mask * (sign[:, None] * sign[None, :])
    return board[:, None] * np.array([0.7, -1.0, 0.7])[None, :, None, None]
