"""Drawing a stylised face: identity and recording in, frames and their coordinates out.

Everything is painted back to front with soft coverage masks, all frames of a recording at once. Letters: F frames,
S side in pixels. Head coordinates have their origin in the middle of the head, x to the right and y downwards, and
the half-height of the head as unit: the crown is at y = -1, the chin at y = 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datasets_ext.synthfake.identity import Identity
from datasets_ext.synthfake.recording import Recording
from datasets_ext.synthfake.sampling import lattice, soften

_EYES_Y = -0.04  # height of the eyes' line
_DARK = np.array([0.09, 0.05, 0.05])  # nostrils, the inside of a mouth
_WHITE = np.array([0.93, 0.91, 0.89])


@dataclass(frozen=True)
class Coordinates:
    """Where the pixels lie.

    Attributes:
        x: (F, S, S) head coordinate x of each pixel.
        y: (F, S, S) head coordinate y.
        face_x: (F, S, S) x without the turn of the head: 0 is the ridge of the nose.
        face_y: (F, S, S) y without the nod: eyes, nose and mouth keep their positions.
        pixel: (F, 1, 1) side of a pixel in head units.
    """

    x: np.ndarray
    y: np.ndarray
    face_x: np.ndarray
    face_y: np.ndarray
    pixel: np.ndarray


def render(identity: Identity, recording: Recording, size: int) -> tuple[np.ndarray, Coordinates]:
    """The frames of ``recording`` with ``identity`` in them, without sensor noise.

    Returns:
        (F, 3, S, S) float64 RGB, mostly in [0, 1] (not clipped), and the coordinates of the pixels.
    """
    at = locate(recording, size)
    image = _background(recording, size, len(at.x))
    light = _Light(identity, recording, at)
    _paint_back_hair(image, identity, at)
    _paint_body(image, identity, recording, at)
    _paint_head(image, identity, at, light)
    _paint_mouth(image, identity, recording, at)
    _paint_nose(image, identity, recording, at)
    _paint_eyes(image, identity, recording, at)
    _paint_front_hair(image, identity, at, light)
    image *= recording.tint[None, :, None, None]
    image += recording.defocus * (soften(image) - image)
    return image, at


def locate(recording: Recording, size: int) -> Coordinates:
    """Head coordinates of every pixel of every frame."""
    place = (np.arange(size) + 0.5) * 2 / size - 1

    def per_frame(values: np.ndarray) -> np.ndarray:
        return values[:, None, None]

    right = place[None, None, :] - per_frame(recording.x)
    down = place[None, :, None] - per_frame(recording.y)
    scale = per_frame(recording.scale)
    cos, sin = per_frame(np.cos(recording.roll)), per_frame(np.sin(recording.roll))
    x = (cos * right + sin * down) / scale
    y = (cos * down - sin * right) / scale
    # Features are on a dome: they move most at the ridge of the nose and not at all at the ears.
    bulge = np.clip(1 - (x / 0.85) ** 2, 0, 1)
    return Coordinates(
        x=x,
        y=y,
        face_x=x - 0.22 * per_frame(recording.yaw) * bulge,
        face_y=y - 0.12 * per_frame(recording.pitch) * bulge,
        pixel=2 / size / scale,
    )


def disc(
    x: np.ndarray, y: np.ndarray, width: float, height: float, softness: np.ndarray | float
) -> np.ndarray:
    """Coverage in [0, 1] of an ellipse around the origin.

    Args:
        x: place, any shape.
        y: place.
        width: half-width.
        height: half-height.
        softness: width of the soft edge in the units of x; a pixel's side is an anti-aliased hard edge.
    """
    radius = np.sqrt((x / width) ** 2 + (y / height) ** 2)
    return np.clip((1 - radius) * min(width, height) / softness + 0.5, 0, 1)


def _bump(x: np.ndarray, y: np.ndarray, width: float, height: float) -> np.ndarray:
    return np.exp(-((x / width) ** 2) - (y / height) ** 2)


def _step(distance: np.ndarray, softness: np.ndarray | float) -> np.ndarray:
    return np.clip(distance / softness + 0.5, 0, 1)


def _paint(image: np.ndarray, mask: np.ndarray, colour: np.ndarray) -> None:
    """Blend ``colour``, (3,) or (F, 3, S, S), into ``image`` with the weights ``mask`` (F, S, S)."""
    if colour.ndim == 1:
        colour = colour[None, :, None, None]
    image += mask[:, None] * (colour - image)


def _shade(image: np.ndarray, factor: np.ndarray) -> None:
    image *= factor[:, None]


def _head_radius(identity: Identity, at: Coordinates) -> np.ndarray:
    """0 in the middle of the head, 1 on its outline: an egg whose lower half narrows to the jaw."""
    below = np.clip(at.y, 0, None)
    taper = 1 - (0.34 - 0.2 * identity.jaw) * below**1.5
    return np.sqrt((at.x / (identity.width * taper)) ** 2 + (at.y / np.where(at.y < 0, 0.98, 1.0)) ** 2)


class _Light:
    """How the head is lit: computed once, used by skin and hair."""

    def __init__(self, identity: Identity, recording: Recording, at: Coordinates):
        self.radius = _head_radius(identity, at)
        normal_x, normal_y = at.x / identity.width * 0.92, at.y * 0.8
        normal_z = np.sqrt(np.clip(1 - normal_x**2 - normal_y**2, 0.02, 1))
        lamp = recording.light
        facing = np.clip(normal_x * lamp[0] + normal_y * lamp[1] + normal_z * lamp[2], 0, 1)
        self.shade = recording.ambient + (1.12 - recording.ambient) * facing
        self.side = float(lamp[0])


def _background(recording: Recording, size: int, n_frames: int) -> np.ndarray:
    place = (np.arange(size) + 0.5) * 2 / size - 1
    right, down = np.meshgrid(place, place)
    mix = np.clip(0.5 + 0.4 * (right * recording.slope[0] + down * recording.slope[1]), 0, 1)
    first, second = recording.background[:, :, None, None]
    frame = first + mix * (second - first)
    panel = lattice(recording.texture, (right + 1) * recording.panels, 0.35 * (down + 1))
    grain = lattice(recording.texture.T, 5.0 * (right + 1), 5.0 * (down + 1))
    frame = frame * (1 + 0.16 * np.clip(panel, -1.5, 1.5) + 0.03 * grain)
    return np.repeat(frame[None], n_frames, axis=0)


def _paint_back_hair(image: np.ndarray, identity: Identity, at: Coordinates) -> None:
    if identity.hair_length < 0:
        return
    width = identity.width + identity.hair_volume + 0.06 * np.clip(at.y, 0, 1)
    inside = np.clip(1 - np.sqrt((at.x / width) ** 2 + (np.minimum(at.y, 0) / 1.12) ** 2), -1, 1)
    strands = lattice(identity.texture, 9 * at.x, 1.2 * at.y)
    hem = identity.hair_length + 0.05 * strands - at.y
    mask = _step(inside, at.pixel * 1.5) * _step(hem, 0.08)
    _paint(image, mask, identity.hair * 0.62)
    _shade(image, 1 + mask * 0.14 * np.clip(strands, -2, 2))


def _paint_body(image: np.ndarray, identity: Identity, recording: Recording, at: Coordinates) -> None:
    neck_width = 0.58 * identity.width
    neck = _step(neck_width + 0.18 * np.clip(at.y - 1.05, 0, 1) - np.abs(at.x), at.pixel) * _step(
        at.y - 0.4, at.pixel
    )
    throat = 0.66 + 0.25 * np.clip(at.y - 0.85, 0, 0.6)  # the chin's shadow, lighter further down
    _paint(image, neck, identity.skin[None, :, None, None] * throat[:, None])
    shoulder = _step(at.y - 1.16 - 0.3 * np.clip(np.abs(at.x) - 0.3, 0, 2) ** 1.5, at.pixel)
    collar = 1 - disc(at.x, at.y - 1.0, neck_width * 0.92, 0.36, at.pixel)
    fold = 1 + 0.12 * np.clip(lattice(recording.texture, 3.5 * at.x, 1.5 * at.y), -2, 2)
    _paint(image, shoulder * collar, recording.clothes[None, :, None, None] * fold[:, None])


def _paint_head(image: np.ndarray, identity: Identity, at: Coordinates, light: _Light) -> None:
    for side in (-1, 1):
        ear_x, ear_y = at.x - side * (identity.width + 0.03), at.face_y - 0.10
        _paint(image, disc(ear_x, ear_y, 0.09, 0.19, at.pixel), identity.skin * 0.86)
        _shade(image, 1 - 0.3 * disc(ear_x, ear_y, 0.04, 0.11, 0.05))
    skin = _skin(identity, at, light)
    _paint(image, _step((1 - light.radius) * identity.width, at.pixel), skin)


def _skin(identity: Identity, at: Coordinates, light: _Light) -> np.ndarray:
    x, y = at.face_x, at.face_y
    pores = lattice(identity.texture, 13 * x + 7, 13 * y + 3)
    blotches = lattice(identity.texture.T, 3.1 * x, 3.1 * y)
    relief = 1 + 0.035 * np.clip(pores, -2, 2) + 0.025 * blotches
    away = -light.side  # shadows fall on the side away from the lamp
    for side in (-1, 1):
        eye_x = x - side * identity.eye_spacing
        relief -= 0.12 * _bump(eye_x, y - _EYES_Y + 0.03, 0.20, 0.12)  # sockets
        relief += 0.06 * _bump(x - side * 0.40, y - 0.28, 0.18, 0.16)  # cheek bones
        fold = x - side * (0.20 + 0.18 * (y - 0.35))  # from the nose to the corner of the mouth
        relief -= 0.07 * _bump(fold, y - 0.50, 0.045, 0.17)
    nose_y = _EYES_Y + identity.nose_length
    ridge = np.clip((nose_y - y) / identity.nose_length, 0, 1) * (y < nose_y + 0.1)
    flank = 0.10 + 0.05 * (1 - ridge)
    relief -= 0.20 * away * _bump(x - 0.10, y - nose_y + 0.16, flank, 0.24)
    relief += 0.20 * away * _bump(x + 0.10, y - nose_y + 0.16, flank, 0.24)
    relief -= 0.13 * _bump(x, y - _EYES_Y - identity.mouth_height - 0.15, 0.16, 0.05)  # under the lower lip
    relief += 0.05 * _bump(x, y - 0.88, 0.14, 0.09)  # chin
    shade = np.clip(light.shade * relief, 0.15, 1.25) * (0.80 + 0.20 * _step(1 - light.radius, 0.35))
    colour = identity.skin[None, :, None, None] * shade[:, None]
    blush = 0.10 * (_bump(x - 0.40, y - 0.34, 0.2, 0.16) + _bump(x + 0.40, y - 0.34, 0.2, 0.16))
    colour[:, 1:] *= 1 - blush[:, None]
    if identity.stubble:
        jaw = _step(y - 0.36 - 0.25 * np.clip(0.3 - np.abs(x), 0, 1), 0.22)
        beard = identity.stubble * jaw * (0.8 + 0.2 * pores)
        colour += beard[:, None] * (identity.hair[None, :, None, None] * shade[:, None] - colour)
    return colour


def _paint_mouth(image: np.ndarray, identity: Identity, recording: Recording, at: Coordinates) -> None:
    x, y = at.face_x, at.face_y - _EYES_Y - identity.mouth_height
    smile, gap = recording.smile[:, None, None], recording.mouth_open[:, None, None]
    width = identity.mouth_width * (1 + 0.14 * smile - 0.10 * gap)
    across = np.clip(1 - (x / width) ** 2, 0, 1)
    y = y - 0.11 * smile * (across - 0.6)  # corners go up in a smile
    opening = 0.13 * gap * across
    full = identity.lip_fullness
    cupid = 1 - 0.25 * np.exp(-((x / 0.05) ** 2))
    upper = _step(
        np.minimum(y + full * across**0.7 * cupid + 0.5 * opening, -y - 0.5 * opening + 0.012), at.pixel
    )
    lower = _step(
        np.minimum(-y + 1.25 * full * across**0.7 + 0.5 * opening, y - 0.5 * opening + 0.012), at.pixel
    )
    inside = np.abs(x) < width
    _paint(image, upper * inside, identity.lips * 0.84)
    _paint(image, lower * inside, identity.lips)
    _shade(
        image, 1 + 0.18 * inside * _bump(x, y - 0.5 * opening - 0.6 * full, 0.10, 0.025)
    )  # moist lower lip
    hole = _step(0.5 * opening - np.abs(y), at.pixel) * inside
    _paint(image, hole, _DARK)
    teeth = hole * _step(-y + 0.1 * opening, at.pixel) * disc(x, y, 0.8 * identity.mouth_width, 0.2, 0.05)
    _paint(image, 0.85 * teeth, _WHITE * 0.92)
    seam = np.exp(-((y / 0.018) ** 2)) * inside * np.clip(1 - 3 * gap, 0, 1)
    _shade(image, 1 - 0.5 * seam)


def _paint_nose(image: np.ndarray, identity: Identity, recording: Recording, at: Coordinates) -> None:
    x = at.face_x - 0.05 * recording.yaw[:, None, None]  # the tip stands out, so it turns further
    y = at.face_y - _EYES_Y - identity.nose_length
    shade = 1 - 0.22 * _bump(x, y - 0.075, identity.nose_width * 1.25, 0.035)  # shadow under the tip
    for side in (-1, 1):
        shade -= 0.55 * disc(x - side * identity.nose_width * 0.55, y - 0.035, 0.042, 0.024, 0.03)
        shade -= 0.16 * _bump(x - side * identity.nose_width * 1.12, y + 0.01, 0.03, 0.07)  # wings
    shade += 0.14 * _bump(x + 0.02, y + 0.05, 0.055, 0.06)  # light on the tip
    _shade(image, shade)


def _paint_eyes(image: np.ndarray, identity: Identity, recording: Recording, at: Coordinates) -> None:
    width = identity.eye_size
    opened, gaze = recording.eyes_open[:, None, None], recording.gaze[:, None, None]
    raised = 0.035 * recording.brows[:, None, None]
    for side in (-1, 1):
        x = at.face_x - side * identity.eye_spacing
        y = at.face_y - _EYES_Y + identity.eye_tilt * side * x / width
        across = np.clip(1 - (x / width) ** 2, 0, 1)
        height = width * identity.eye_roundness * opened
        upper_lid, lower_lid = -height * across**0.7, 0.55 * height * across
        eye = _step(np.minimum(y - upper_lid, lower_lid - y), at.pixel) * (np.abs(x) < width)
        _paint(image, eye, _WHITE * 0.92)
        iris_x, iris_y = x - 0.05 * gaze, y + 0.12 * height
        iris = disc(iris_x, iris_y, 0.078, 0.078, at.pixel)
        _paint(image, eye * iris, identity.iris)
        _paint(image, eye * disc(iris_x, iris_y, 0.036, 0.036, at.pixel), _DARK * 0.4)
        _paint(image, eye * disc(iris_x + 0.028, iris_y + 0.03, 0.020, 0.020, at.pixel), np.ones(3))
        _shade(image, 1 - 0.35 * eye * np.exp(-(((y - upper_lid) / 0.03) ** 2)))  # shadow of the lid
        lash = np.exp(-(((y - upper_lid) / 0.022) ** 2)) * (np.abs(x) < width * 1.05)
        crease = np.exp(-(((y - upper_lid + 0.06) / 0.016) ** 2)) * (across > 0)
        under = np.exp(-(((y - lower_lid) / 0.016) ** 2)) * (across > 0)
        _shade(image, (1 - 0.6 * lash) * (1 - 0.18 * crease) * (1 - 0.25 * under))
        brow_x = side * (at.face_x - side * (identity.eye_spacing + 0.01))
        arch = identity.brow_arch * (1 - ((brow_x + 0.02) / 0.24) ** 2) - 0.06 * np.clip(brow_x, -0.2, 0.2)
        brow_y = at.face_y - _EYES_Y + 0.21 + raised + arch
        weight = identity.brow_weight * np.clip(
            1.1 - 0.9 * (brow_x + 0.2) / 0.42, 0.25, 1
        )  # thin at the temple
        brow = _step(weight - np.abs(brow_y), 0.03) * _step(0.215 - np.abs(brow_x), 0.04)
        hairs = 0.85 + 0.15 * np.clip(lattice(identity.texture, 20 * at.face_x, 6 * at.face_y), -1, 1)
        _paint(image, brow * hairs * 0.85, identity.hair * 0.8)


def _paint_front_hair(image: np.ndarray, identity: Identity, at: Coordinates, light: _Light) -> None:
    strands = lattice(identity.texture, 10 * at.x + 4 * at.y, 1.5 * at.y + 9)
    locks = lattice(identity.texture, 3.5 * at.x, 0.5 * at.y)
    outer = np.sqrt((at.x / (identity.width + 0.55 * identity.hair_volume)) ** 2 + ((at.y + 0.05) / 1.1) ** 2)
    temple = np.abs(at.x - 0.3 * identity.parting) / identity.width
    line = (
        identity.hairline + 0.05 * np.clip(locks, -1.5, 1.5) + 0.72 * np.clip(temple - 0.62, 0, 1) ** 1.2 * 3
    )
    cut = min(max(identity.hair_length, -0.35) + 0.35, 0.5)  # sideburns end above or below the ears
    mask = _step(1 - outer, at.pixel * 1.5) * _step(line - at.y, 0.05) * _step(cut - at.y, 0.06)
    gloss = np.exp(-(((at.y + 0.78 - 0.1 * at.x * light.side) / 0.14) ** 2))
    shade = light.shade * (0.78 + 0.16 * np.clip(strands, -2, 2) + 0.3 * gloss)
    _paint(image, mask, identity.hair[None, :, None, None] * np.clip(shade, 0.2, 1.6)[:, None])
    _shade(image, 1 - 0.22 * _step(0.10 - np.abs(at.y - line - 0.06), 0.1) * (1 - mask) * (light.radius < 1))
