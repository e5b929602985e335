"""A recording: position, light, movement and background of a person's head, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from roga_domainbed.seeds import seed_hash


@dataclass(frozen=True)
class Recording:
    """One value a recording, or an array of shape (F,) with one value a frame.

    Attributes:
        x: (F,) middle of the head in half-sides of the frame, to the right.
        y: (F,) the same, downwards.
        scale: (F,) half-height of the head in half-sides of the frame.
        roll: (F,) tilt of the head in radians.
        yaw: (F,) turn of the head, -1 to 1.
        pitch: (F,) nod of the head, -1 to 1.
        mouth_open: (F,) 0 closed to 1.
        smile: (F,) -1 to 1.
        eyes_open: (F,) 0 to 1.
        brows: (F,) raise of the brows, -1 to 1.
        gaze: (F,) where the eyes look, -1 to 1, to the right.
        light: (3,) unit vector to the lamp: right, down, towards the camera.
        ambient: share of the light that has no direction.
        tint: (3,) colour of the light.
        background: (2, 3) its two colours.
        slope: (2,) direction from one to the other.
        panels: cells of vertical structure (curtain, shelf, window) across the frame.
        clothes: (3,) colour.
        defocus: of the camera, 0 is sharp, to 1.
        texture: (32, 32) standard normal table for the background.
    """

    x: np.ndarray
    y: np.ndarray
    scale: np.ndarray
    roll: np.ndarray
    yaw: np.ndarray
    pitch: np.ndarray
    mouth_open: np.ndarray
    smile: np.ndarray
    eyes_open: np.ndarray
    brows: np.ndarray
    gaze: np.ndarray
    light: np.ndarray
    ambient: float
    tint: np.ndarray
    background: np.ndarray
    slope: np.ndarray
    panels: float
    clothes: np.ndarray
    defocus: float
    texture: np.ndarray


def draw_recording(seed: int, env: str, index: int, n_frames: int) -> Recording:
    """The recording of person ``index`` in ``env``; its first frames do not depend on ``n_frames``."""
    rng = np.random.RandomState(seed_hash(seed, "recording", env, index))
    time = np.arange(n_frames) / 8

    def drift(low: float, high: float, swing: float) -> np.ndarray:
        middle, phase, speed = rng.uniform(low, high), rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 1.2)
        return middle + swing * np.sin(2 * np.pi * speed * time + phase)

    azimuth, height = rng.uniform(-1.1, 1.1), rng.uniform(0.1, 0.7)
    light = np.array([np.sin(azimuth), -height, np.cos(azimuth)])
    angle, warmth = rng.uniform(0, 2 * np.pi), rng.uniform(-0.06, 0.06)
    base = rng.uniform(0.2, 0.75) + rng.uniform(-0.13, 0.13, 3)
    return Recording(
        x=drift(-0.07, 0.07, 0.02),
        y=drift(0.02, 0.10, 0.015),
        scale=drift(0.70, 0.78, 0.01),
        roll=drift(-0.12, 0.12, 0.03),
        yaw=drift(-0.5, 0.5, 0.12),
        pitch=drift(-0.3, 0.3, 0.1),
        mouth_open=np.clip(drift(-0.2, 0.6, 0.25), 0, 1),
        smile=drift(-0.2, 1.0, 0.15),
        eyes_open=np.clip(drift(0.75, 1.1, 0.12), 0.1, 1),
        brows=drift(-0.5, 0.5, 0.25),
        gaze=drift(-0.5, 0.5, 0.25),
        light=light / np.sqrt((light**2).sum()),
        ambient=rng.uniform(0.5, 0.75),
        tint=(1 + np.array([warmth, 0.0, -warmth])) * rng.uniform(0.85, 1.05),
        background=np.stack(
            [base, np.clip(base + rng.uniform(-0.25, 0.25) + rng.uniform(-0.1, 0.1, 3), 0.05, 0.95)]
        ),
        slope=np.array([np.cos(angle), np.sin(angle)]),
        panels=rng.uniform(1.0, 4.0),
        clothes=rng.uniform(0.08, 0.8, 3),
        defocus=rng.uniform(0, 1),
        texture=rng.standard_normal((32, 32)),
    )
