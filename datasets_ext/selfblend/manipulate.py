"""The four manipulations of a face: an artefact each, and one trace that all of them share.

They are named after the methods of FaceForensics++ that they imitate (DeepFakes, Face2Face, FaceSwap, NeuralTextures).
Each changes the face in the frames of one photograph, in the same way in all frames, and nothing around it. The shared
trace is a face of lower resolution than the image around it.

Random values are drawn once a video. Colours are changed as brightness and chroma (YCrCb), so a grey photograph stays
grey.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from datasets_ext.selfblend.face import Frame, Photograph, warped
from datasets_ext.synthfake.face import disc
from datasets_ext.synthfake.sampling import lattice

_RESOLUTION = (0.75, 0.95)  # of a forged face, relative to the image: the shared trace

#: The frames of a real, a generator, and for a swap the photograph of the other face → images.
Manipulation = Callable[[Sequence[Frame], np.random.Generator, Photograph | None], list[np.ndarray]]


def deepfakes(
    frames: Sequence[Frame], rng: np.random.Generator, donor: Photograph | None = None
) -> list[np.ndarray]:
    """DF: the face is blended with a changed copy of itself (Self-Blended Images, arXiv:2204.08376, Section 3.2).

    The copy is recoloured, blurred or sharpened, shifted and resized. It is blended in with a deformed, softened mask
    of the face's shape, at a random ratio. The paper changes either the copy or the image around it; here always the
    copy.
    """
    recolour = _Recolouring.draw(rng, brightness=0.06, contrast=0.10, saturation=0.2, hue=0.08)
    sharpen, amount = rng.random() < 0.5, rng.uniform(0.5, 1.0)
    coarse = rng.uniform(0.40, 0.55)
    zoom = rng.uniform(-0.05, 0.05)
    shift = rng.uniform(-1, 1, 2) * [0.08, 0.04]  # in eye-to-mouth distances: 3 % and 1.5 % of a frame
    ratio = rng.choice([0.5, 0.75, 1.0, 1.0])
    width, height, soft = rng.uniform(0.86, 0.98), rng.uniform(0.96, 1.06), rng.uniform(0.12, 0.35)
    bends = rng.standard_normal((2, 8, 8))
    resolution = rng.uniform(*_RESOLUTION)

    def forge(frame: Frame) -> np.ndarray:
        copy = recolour(frame.image)
        copy = _sharpened(copy, amount) if sharpen else _resampled(copy, coarse)
        grow_x, grow_y = zoom * frame.x, zoom * (frame.y - 0.65)
        copy = _bent(copy, frame, grow_x + shift[0], grow_y + shift[1])
        x = frame.x + 0.06 * lattice(bends[0], 1.5 * frame.x, 1.5 * frame.y)
        y = frame.y + 0.06 * lattice(bends[1], 1.5 * frame.x, 1.5 * frame.y)
        mask = ratio * _face_mask(x, y, width, height, soft)
        return _blended(frame.image, _resampled(copy, resolution), mask)

    return [forge(frame) for frame in frames]


def face2face(
    frames: Sequence[Frame], rng: np.random.Generator, donor: Photograph | None = None
) -> list[np.ndarray]:
    """F2F: mouth and brows are warped to another expression, on an ill-fitting mesh."""
    smile = rng.choice([-1.0, 1.0]) * rng.uniform(0.07, 0.12)  # of the corners of the mouth, upwards
    widen = rng.uniform(-0.06, 0.06)
    brows = rng.choice([-1.0, 1.0]) * rng.uniform(0.04, 0.08)
    tables = rng.standard_normal((2, 16, 16))
    resolution = rng.uniform(*_RESOLUTION)

    def forge(frame: Frame) -> np.ndarray:
        x, y = frame.x, frame.y
        mask = _face_mask(x, y, 0.95, 1.05, 0.35)
        mouth = np.exp(-((x / 0.7) ** 4) - ((y - 1.0) / 0.35) ** 2)
        forehead = np.exp(-((x / 0.9) ** 4) - ((y + 0.35) / 0.25) ** 2)
        misfit_x, misfit_y = (0.03 * lattice(table, 4.5 * x, 4.5 * y) for table in tables)
        dx = mouth * widen * x / 0.4 + misfit_x
        dy = mouth * smile * (np.clip(np.abs(x) / 0.45, 0, 1) - 0.4) + forehead * brows + misfit_y
        bent = _bent(frame.image, frame, mask * dx, mask * dy)
        return _blended(frame.image, _resampled(bent, resolution), mask)

    return [forge(frame) for frame in frames]


def faceswap(
    frames: Sequence[Frame], rng: np.random.Generator, donor: Photograph | None = None
) -> list[np.ndarray]:
    """FS: another person's face is fitted to the landmarks and pasted in with a hard edge and a mismatched colour."""
    assert donor is not None
    mismatch = _Recolouring.draw(rng, brightness=0.05, contrast=0.08, saturation=0.25, hue=0.12)
    width, height = rng.uniform(0.84, 0.92), rng.uniform(1.00, 1.08)
    resolution = rng.uniform(*_RESOLUTION)

    def forge(frame: Frame) -> np.ndarray:
        face = warped(donor.rgb, _fit(donor.landmarks, frame.landmarks), len(frame.image))
        mask = _face_mask(frame.x, frame.y, width, height, 0.14)
        face = _colour_matched(face, frame.image, mask > 0.5)
        shading = _blurred(
            frame.image - face, 0.45 * frame.unit
        )  # else light from the other side gives it away
        face = mismatch(np.clip(face + shading, 0, 1))
        return _blended(frame.image, _resampled(face, resolution), mask)

    return [forge(frame) for frame in frames]


def neuraltextures(
    frames: Sequence[Frame], rng: np.random.Generator, donor: Photograph | None = None
) -> list[np.ndarray]:
    """NT: the texture of mouth and chin is replaced by a small repeated patch of the cheek's."""
    side = int(rng.integers(5, 8))  # of the patch
    cells = rng.uniform(7.0, 9.0)  # of it in an eye-to-mouth distance
    cheek = rng.choice([-0.5, 0.5])
    resolution = rng.uniform(*_RESOLUTION)
    patch = _texture_patch(frames[0], cheek, side)

    def forge(frame: Frame) -> np.ndarray:
        mask = disc(frame.x, frame.y - 1.08, 0.72, 0.62, 0.30)
        smooth = _blurred(_resampled(frame.image, resolution), 0.035 * frame.unit)
        roughness = max(0.012, float((frame.image - smooth)[mask > 0.5].std()))
        texture = roughness * lattice(patch, cells * frame.x, cells * frame.y)
        return _blended(frame.image, smooth + texture[..., None].astype(np.float32), mask)

    return [forge(frame) for frame in frames]


#: Environment → its manipulation.
MANIPULATIONS: dict[str, Manipulation] = {
    "DF": deepfakes,
    "F2F": face2face,
    "FS": faceswap,
    "NT": neuraltextures,
}


class _Recolouring:
    """A change of brightness, contrast, saturation and hue."""

    def __init__(self, brightness: float, contrast: float, saturation: float, hue: float):
        self._values = brightness, contrast, saturation, hue

    @classmethod
    def draw(
        cls, rng: np.random.Generator, brightness: float, contrast: float, saturation: float, hue: float
    ) -> _Recolouring:
        """Random changes up or down, each of half to all of the given size; only brightness is absolute."""
        signs, sizes = rng.choice([-1.0, 1.0], 4), rng.uniform(0.5, 1.0, 4)
        return cls(*(signs * sizes * [brightness, contrast, saturation, hue]))

    def __call__(self, image: np.ndarray) -> np.ndarray:
        brightness, contrast, saturation, hue = self._values
        luma, red, blue = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb))
        luma = 0.5 + (1 + contrast) * (luma - 0.5) + brightness
        red, blue = (1 + saturation) * (red - 0.5), (1 + saturation) * (blue - 0.5)
        cos, sin = np.cos(hue), np.sin(hue)
        turned = [luma, 0.5 + cos * red - sin * blue, 0.5 + sin * red + cos * blue]
        return _to_rgb(turned)


def _to_rgb(channels: Sequence[np.ndarray]) -> np.ndarray:
    merged = cv2.merge([channel.astype(np.float32) for channel in channels])
    return np.clip(cv2.cvtColor(merged, cv2.COLOR_YCrCb2RGB), 0, 1)


def _face_mask(x: np.ndarray, y: np.ndarray, width: float, height: float, softness: float) -> np.ndarray:
    """From the brows to the chin, narrower at the jaw; 1 inside, 0 outside."""
    jaw = 1 - 0.16 * np.clip(y - 0.5, 0, 1.3)
    return disc(x / jaw, y - 0.66, width, height, softness)


def _blended(image: np.ndarray, face: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return image + mask[..., None].astype(np.float32) * (face - image)


def _resampled(image: np.ndarray, share: float) -> np.ndarray:
    """Shrunk to ``share`` of its side and enlarged again."""
    side = image.shape[0]
    small = max(8, round(side * share))
    shrunk = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
    return cv2.resize(shrunk, (side, side), interpolation=cv2.INTER_LINEAR)


def _blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), max(sigma, 0.5))


def _sharpened(image: np.ndarray, amount: float) -> np.ndarray:
    return np.clip(image + np.float32(amount) * (image - _blurred(image, 1.0)), 0, 1)


def _bent(image: np.ndarray, frame: Frame, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """Each pixel reads the image (dx, dy) away, in face coordinates."""
    place = np.arange(image.shape[0], dtype=np.float32)
    columns, rows = np.meshgrid(place, place)
    columns = columns + frame.unit * (dx * frame.right[0] - dy * frame.right[1])
    rows = rows + frame.unit * (dx * frame.right[1] + dy * frame.right[0])
    return cv2.remap(
        image,
        columns.astype(np.float32),
        rows.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )


def _fit(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The affine map (2, 3) that takes five landmarks nearest to five others, by least squares."""
    padded = np.column_stack([source, np.ones(len(source))])
    return np.linalg.lstsq(padded, target, rcond=None)[0].T


def _colour_matched(face: np.ndarray, image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """``face`` with the mean and spread of ``image`` inside the mask, for brightness and both chromas."""
    matched = []
    for ours, theirs in zip(
        cv2.split(cv2.cvtColor(face, cv2.COLOR_RGB2YCrCb)),
        cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)),
        strict=True,
    ):
        ours_in, theirs_in = ours[inside], theirs[inside]
        gain = min(2.0, theirs_in.std() / max(ours_in.std(), 1e-4))
        matched.append(theirs_in.mean() + gain * (ours - ours_in.mean()))
    return _to_rgb(matched)


def _texture_patch(frame: Frame, cheek: float, side: int) -> np.ndarray:
    """(side, side) of mean 0 and spread 1: the brightness of a cheek without its shading."""
    luma = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
    fine = luma - _blurred(luma, 0.06 * frame.unit)
    row, column = np.unravel_index(np.argmin((frame.x - cheek) ** 2 + (frame.y - 0.55) ** 2), frame.x.shape)
    row, column = (int(np.clip(value - side // 2, 0, len(luma) - side)) for value in (row, column))
    patch = fine[row : row + side, column : column + side].astype(np.float64)
    patch -= patch.mean()
    return patch / max(patch.std(), 1e-4)
