"""One recording as it is stored: the real and the forged frames, in 8 bits."""

from __future__ import annotations

import numpy as np

from datasets_ext.synthfake.face import render
from datasets_ext.synthfake.identity import Identity
from datasets_ext.synthfake.manipulate import MANIPULATIONS, NOISE, Strengths, face_mask, resample
from datasets_ext.synthfake.recording import draw_recording
from roga_domainbed.seeds import seed_hash


def real_and_fake(
    identity: Identity, seed: int, env: str, index: int, n_frames: int, size: int, strengths: Strengths
) -> tuple[np.ndarray, np.ndarray]:
    """The recording of ``identity``, person ``index``, in ``env``, before and after that environment's forgery.

    The camera's noise is in the frame before the forgery. The pasted face has the same noise: a pair differs by the
    environment's own artefact and by the trace, inside the mask only.

    Returns:
        Two arrays (F, S, S, 3) uint8.
    """
    recording = draw_recording(seed, env, index, n_frames)
    clean, at = render(identity, recording, size)
    noise = np.stack([_sensor_noise(seed, env, index, frame, size) for frame in range(n_frames)])
    noise *= strengths.noise * NOISE
    real = clean + noise

    rng = np.random.RandomState(seed_hash(seed, "forgery", env, index))
    mask = face_mask(at, rng, lower=env == "NT")
    face = MANIPULATIONS[env](clean, at, rng, getattr(strengths, env.lower()))
    face = face + strengths.trace * (resample(face, rng) - face)
    fake = real + mask[:, None] * (face + noise - real)
    return _to_bytes(real), _to_bytes(fake)


def _sensor_noise(seed: int, env: str, index: int, frame: int, size: int) -> np.ndarray:
    rng = np.random.RandomState(seed_hash(seed, "noise", env, index, frame))
    return rng.standard_normal((3, size, size))


def _to_bytes(image: np.ndarray) -> np.ndarray:
    return np.floor(np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(0, 2, 3, 1)
