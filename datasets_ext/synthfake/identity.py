"""A person: the shapes and colours that are the same in all of their recordings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from roga_domainbed.seeds import seed_hash

_SKIN = np.array([[0.93, 0.76, 0.66], [0.86, 0.66, 0.53], [0.72, 0.51, 0.38], [0.52, 0.34, 0.25]])
_HAIR = np.array(
    [[0.10, 0.08, 0.07], [0.27, 0.17, 0.11], [0.45, 0.28, 0.14], [0.72, 0.56, 0.33], [0.50, 0.48, 0.47]]
)
_IRIS = np.array([[0.30, 0.18, 0.09], [0.23, 0.40, 0.55], [0.30, 0.42, 0.25], [0.42, 0.32, 0.16]])


@dataclass(frozen=True)
class Identity:
    """Lengths are in half-heights of the head; colours are RGB in [0, 1].

    Attributes:
        name: ``id000``, ``id001``, …
        skin: skin colour in neutral light.
        hair: hair, brow and stubble colour.
        iris: iris colour.
        lips: lip colour.
        width: half-width of the head.
        jaw: width of the jaw against the cheeks, 0 pointed to 1 square.
        hair_volume: how far the hair stands off the head.
        hair_length: how far down the hair hangs: below 0 it ends above the ears.
        hairline: height of the forehead's upper edge, negative is up.
        parting: where the hairline is highest, left to right.
        eye_spacing: distance of an eye from the middle.
        eye_size: half-width of an eye.
        eye_roundness: height of an open eye against its width.
        eye_tilt: how much higher the outer corners are.
        brow_weight: thickness of the brows.
        brow_arch: bend of the brows.
        nose_length: distance of the nose's tip from the eyes' line.
        nose_width: half-width of the nose.
        mouth_height: distance of the mouth from the eyes' line.
        mouth_width: half-width of the mouth.
        lip_fullness: thickness of the lips.
        stubble: how much beard shadow, 0 none.
        texture: (32, 32) standard normal table of skin and hair detail.
    """

    name: str
    skin: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    lips: np.ndarray
    width: float
    jaw: float
    hair_volume: float
    hair_length: float
    hairline: float
    parting: float
    eye_spacing: float
    eye_size: float
    eye_roundness: float
    eye_tilt: float
    brow_weight: float
    brow_arch: float
    nose_length: float
    nose_width: float
    mouth_height: float
    mouth_width: float
    lip_fullness: float
    stubble: float
    texture: np.ndarray


def draw_identity(seed: int, index: int) -> Identity:
    """Person number ``index`` of the world of ``seed``; the same whatever the number of people."""
    rng = np.random.RandomState(seed_hash(seed, "identity", index))
    tone = rng.uniform(0, len(_SKIN) - 1)
    lower = min(int(tone), len(_SKIN) - 2)
    skin = _SKIN[lower] + (tone - lower) * (_SKIN[lower + 1] - _SKIN[lower])
    skin = skin * (1 + rng.uniform(-0.05, 0.05, 3))
    return Identity(
        name=f"id{index:03d}",
        skin=skin,
        hair=_HAIR[rng.randint(len(_HAIR))] * rng.uniform(0.8, 1.2),
        iris=_IRIS[rng.randint(len(_IRIS))] * rng.uniform(0.8, 1.2),
        lips=skin * np.array([0.93, 0.62, 0.64]) * rng.uniform(0.9, 1.08),
        width=rng.uniform(0.70, 0.80),
        jaw=rng.uniform(0.1, 0.9),
        hair_volume=rng.uniform(0.08, 0.2),
        hair_length=rng.choice([-0.35, -0.2, 0.5, 1.1]) + rng.uniform(-0.1, 0.1),
        hairline=rng.uniform(-0.72, -0.52),
        parting=rng.uniform(-0.4, 0.4),
        eye_spacing=rng.uniform(0.30, 0.36),
        eye_size=rng.uniform(0.155, 0.195),
        eye_roundness=rng.uniform(0.52, 0.72),
        eye_tilt=rng.uniform(-0.02, 0.035),
        brow_weight=rng.uniform(0.030, 0.060),
        brow_arch=rng.uniform(0.03, 0.10),
        nose_length=rng.uniform(0.38, 0.48),
        nose_width=rng.uniform(0.10, 0.15),
        mouth_height=rng.uniform(0.66, 0.74),
        mouth_width=rng.uniform(0.23, 0.32),
        lip_fullness=rng.uniform(0.045, 0.085),
        stubble=max(0.0, rng.uniform(-0.4, 0.35)),
        texture=rng.standard_normal((32, 32)),
    )
