"""Forgeries: an artefact each, and one faint trace that all of them share.

A manipulation makes another face, which is pasted over the face of the recording. The four are named after the methods
of FaceForensics++ that they imitate (DeepFakes, Face2Face, FaceSwap, NeuralTextures). Each has an artefact of its own,
which a detector learns first and which helps little with the other three. What all share is what pasting leaves: the
face was re-sampled, so it is softer than its surroundings and does not quite continue them, and its colour is a little
off, inside a mask of a face's shape (Face X-ray, arXiv:1912.13458; Self-Blended Images, arXiv:2204.08376).

Letters: F frames, S side in pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from datasets_ext.synthfake.face import Coordinates, disc
from datasets_ext.synthfake.sampling import enlarge, lattice, reduce, warp

_MOUTH_Y = 0.66  # middle of the mouth region in head units

# Strength 1, found with ERM and no other method: Meso-4, 400 steps with the default hyper-parameters on three
# environments, AUC on the test people of the fourth, one seed. The last try but one had DF 97, F2F 95, FS 96, NT 62;
# the last changed NT alone and was run for NT alone: 66. With a cosine schedule and another seed, these values have
# DF 99.5, FS 91, NT 64; F2F's run had not begun to learn. Alone, DF, F2F and FS are learnt in 400 steps, NT in 1,000.
_BLUR = 0.25  # DF: share of the low-resolution face
_MESH = 0.7  # F2F: standard deviation of the mesh's misfit, in pixels of a 64-pixel frame
_TONE = 0.10  # FS: relative change of lightness and warmth, root mean square
_TEXTURE = 0.035  # NT: relative contrast of the synthesised texture
_SHIFT = (0.08, 0.32)  # trace: how far the face is from the pixel grid in each direction, in pixels
_SCALE = 0.02  # trace: relative change of its size, at most
_GAIN = 0.02  # trace: relative change of each colour channel, standard deviation
NOISE = 0.012  # standard deviation of the sensor noise: 3 grey levels


@dataclass(frozen=True)
class Strengths:
    """How visible each artefact is: 1 is the benchmark, 0 is absent.

    With ``trace`` and the environment's own strength at 0, a fake equals its real.

    Attributes:
        df: DF, a face of lower resolution. Scales its share in the blend with the original face.
        f2f: F2F, another expression on an ill-fitting mesh. Scales the displacements of both.
        fs: FS, a face of another lightness and warmth than the head. Scales the change of colour.
        nt: NT, a lower face with another mouth and synthetic texture. Scales displacement and contrast.
        trace: what all forgeries share. Scales the difference that re-sampling and the change of gain make to the
            pasted face; the mask stays.
        noise: sensor noise of all frames, real and fake. Scales its standard deviation.
    """

    df: float = 1.0
    f2f: float = 1.0
    fs: float = 1.0
    nt: float = 1.0
    trace: float = 1.0
    noise: float = 1.0


def deepfakes(face: np.ndarray, at: Coordinates, rng: np.random.RandomState, strength: float) -> np.ndarray:
    """DF: the face has lower resolution, as if a generator of small images had made it."""
    factor = max(2, face.shape[-1] // 32)
    share = _BLUR * rng.uniform(0.7, 1.3)
    return face + strength * share * (enlarge(reduce(face, factor), factor) - face)


def face2face(face: np.ndarray, at: Coordinates, rng: np.random.RandomState, strength: float) -> np.ndarray:
    """F2F: mouth and brows have another expression, on a mesh that does not quite fit."""
    x, y = at.face_x, at.face_y
    tables = _MESH * rng.standard_normal((2, 32, 32))
    dx, dy = (lattice(table, 5 * x, 5 * y) for table in tables)
    dy = dy + _mouth(at, rng) + _brows(at, rng)
    unit = strength * face.shape[-1] / 64
    return warp(face, unit * dx, unit * dy)


def faceswap(face: np.ndarray, at: Coordinates, rng: np.random.RandomState, strength: float) -> np.ndarray:
    """FS: the face has another lightness and warmth than the head it is pasted on."""
    lightness, warmth = rng.standard_normal(2)
    tone = np.array([lightness + warmth, lightness, lightness - warmth])
    tone *= _TONE / np.sqrt((tone**2).mean())
    return face * (1 + strength * tone)[None, :, None, None]


def neuraltextures(
    face: np.ndarray, at: Coordinates, rng: np.random.RandomState, strength: float
) -> np.ndarray:
    """NT: the mouth has another expression, and the skin a small repeating patch of texture."""
    patch = rng.standard_normal((4, 4))
    patch -= patch.mean()
    patch /= np.sqrt((patch**2).mean())
    texture = strength * _TEXTURE * lattice(patch, 7 * at.face_x, 7 * at.face_y)
    bent = warp(face, np.zeros_like(at.face_x), strength * face.shape[-1] / 64 * _mouth(at, rng))
    return bent * (1 + texture[:, None])


#: Environment → what makes its face: clean frames (F, 3, S, S) in, frames of the same shape out, of which ``paste``
#: uses the inside of its mask.
MANIPULATIONS: dict[str, Callable[[np.ndarray, Coordinates, np.random.RandomState, float], np.ndarray]] = {
    "DF": deepfakes,
    "F2F": face2face,
    "FS": faceswap,
    "NT": neuraltextures,
}


def _mouth(at: Coordinates, rng: np.random.RandomState) -> np.ndarray:
    """Another expression of the mouth: displacements (F, S, S) down, in pixels of a 64-pixel frame."""
    region = disc(at.face_x, at.face_y - _MOUTH_Y, 0.46, 0.34, 0.2)
    pull = rng.choice([-1.0, 1.0]) * rng.uniform(
        1.5, 3.0
    )  # the corners go up or down, the middle against them
    return region * pull * (np.clip(np.abs(at.face_x) / 0.3, 0, 1) - 0.4)


def _brows(at: Coordinates, rng: np.random.RandomState) -> np.ndarray:
    """Raised or lowered brows: displacements (F, S, S) down, in pixels of a 64-pixel frame."""
    region = disc(at.face_x, at.face_y + 0.27, 0.55, 0.16, 0.12)
    return region * rng.choice([-1.0, 1.0]) * rng.uniform(0.6, 1.4)


def face_mask(at: Coordinates, rng: np.random.RandomState, lower: bool) -> np.ndarray:
    """Where a face is pasted: 1 inside, 0 outside, with an irregular soft rim of random width.

    Args:
        at: coordinates of the pixels.
        rng: of one recording.
        lower: from below the eyes to the chin; otherwise from above the brows.

    Returns:
        (F, S, S) in [0, 1].
    """
    size, softness = rng.uniform(0.94, 1.06, 2), rng.uniform(0.06, 0.22)
    table = rng.standard_normal((32, 32))
    middle, width, height = (0.48, 0.50, 0.52) if lower else (0.28, 0.54, 0.64)
    width, height = width * size[0], height * size[1]
    jaw = 1 - 0.16 * np.clip(at.face_y - 0.3, 0, 1)  # narrower towards the chin
    x, y = at.face_x / jaw / width, (at.face_y - middle) / height
    dent = 1 + 0.07 * np.clip(lattice(table, 3 * at.face_x, 3 * at.face_y), -2, 2)
    return disc(x * dent, y * dent, 1, 1, softness / min(width, height))


def resample(face: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
    """The face as pasting leaves it: off the pixel grid by a shift and a scale, and with another gain.

    Args:
        face: (F, 3, S, S).
        rng: of one recording; all its frames are changed in the same way.

    Returns:
        (F, 3, S, S).
    """
    frames, _, side, _ = face.shape
    shift = rng.choice([-1.0, 1.0], 2) * rng.uniform(*_SHIFT, 2)
    scale = rng.uniform(-_SCALE, _SCALE)
    gain = 1 + _GAIN * rng.standard_normal(3)
    place = np.arange(side) - (side - 1) / 2
    dx = np.broadcast_to(shift[0] + scale * place[None, None, :], (frames, side, side))
    dy = np.broadcast_to(shift[1] + scale * place[None, :, None], (frames, side, side))
    return warp(face, dx, dy) * gain[None, :, None, None]
