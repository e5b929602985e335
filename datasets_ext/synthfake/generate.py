"""Writing the benchmark: ``<root>/SynthFake/<env>/{0_real,1_fake}/<video>/<frame>.png`` and its manifest.

Pixels come from numpy's frozen ``RandomState`` streams and float64 arithmetic, so the same parameters give the same
pixels on every machine (not the same files: PNG encoders differ). A tree appears whole or not at all: it is built in a
sibling folder and renamed; of several processes that start at once, one wins and the others use its tree.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from datasets_ext import manifest
from datasets_ext.synthfake.frames import real_and_fake
from datasets_ext.synthfake.identity import draw_identity
from datasets_ext.synthfake.manipulate import MANIPULATIONS, Strengths
from roga_domainbed.errors import Problems, RogaError
from roga_domainbed.foreign import Malformed, read_json

NAME = "SynthFake"
PARAMETERS = "parameters.json"
_COMPRESS_LEVEL = 1  # fast; sensor noise hardly shrinks at any level
_VERSION = 2  # raise it whenever pixels change: a tree of another version is refused


def generate(
    root: str | os.PathLike,
    seed: int = 0,
    n_identities: int = 60,
    n_frames: int = 8,
    size: int = 64,
    strengths: Strengths | None = None,
) -> Path:
    """Make ``<root>/SynthFake``, or use it if it exists with the same parameters.

    Args:
        root: the data folder; created if it does not exist.
        seed: of everything random.
        n_identities: people, at least 3: one for each official split. Each has one recording in each environment.
        n_frames: frames of a recording.
        size: side of the square frames in pixels, a multiple of 32.
        strengths: how visible the artefacts are; None for ``Strengths()``.

    Returns:
        The folder ``<root>/SynthFake``.

    Raises:
        RogaError: a parameter is out of range, the folder exists and is another tree or was made with other
            parameters, or it cannot be written.
    """
    strengths = strengths or Strengths()
    parameters = {
        "version": _VERSION,
        "seed": seed,
        "n_identities": n_identities,
        "n_frames": n_frames,
        "size": size,
        "strengths": asdict(strengths),
    }
    _check(parameters)
    folder = Path(root) / NAME
    if folder.exists() and not _is_empty(folder):
        return _reuse(folder, parameters)
    building = folder.with_name(f".{NAME}.{uuid.uuid4().hex}.part")
    try:
        building.mkdir(parents=True)
        _write_tree(building, parameters, strengths)
        try:
            os.rename(building, folder)
        except OSError:
            if not folder.exists() or _is_empty(folder):
                raise
            return _reuse(folder, parameters)  # another process was faster
    except OSError as error:
        raise RogaError(f"cannot write {str(folder)!r}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder


def official_splits(n_identities: int) -> list[str]:
    """The split of each person: about 2/3 train, 2/15 val and 1/5 test, at least one each."""
    n_test = max(1, round(n_identities / 5))
    n_val = max(1, round(n_identities * 2 / 15))
    return ["train"] * (n_identities - n_val - n_test) + ["val"] * n_val + ["test"] * n_test


def _check(parameters: dict) -> None:
    problems = Problems()
    for name, least in (("n_identities", 3), ("n_frames", 1), ("size", 32)):
        value = parameters[name]
        if value < least or (name == "size" and value % 32):
            wanted = "a multiple of 32" if name == "size" else f"at least {least}"
            problems.add(f"SynthFake: {name} must be {wanted}; got {value}")
    for name, value in parameters["strengths"].items():
        if not 0 <= value < float("inf"):
            problems.add(f"SynthFake: strength {name!r} must be 0 or more; got {value}")
    problems.check()


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _reuse(folder: Path, parameters: dict) -> Path:
    path = folder / PARAMETERS
    remedy = "delete the folder to make it again, or choose another data folder"
    try:
        found = read_json(path, dict)
    except (OSError, Malformed):
        raise RogaError(
            f"{str(folder)!r} was not made by SynthFake (no valid {PARAMETERS}): {remedy}"
        ) from None
    if found != parameters:
        differing = ", ".join(
            f"{name} {found.get(name)!r} there, {value!r} wanted"
            for name, value in parameters.items()
            if found.get(name) != value
        )
        raise RogaError(f"{str(folder)!r} was made with other parameters ({differing}): {remedy}")
    return folder


def _write_tree(folder: Path, parameters: dict, strengths: Strengths) -> None:
    seed, n_identities = parameters["seed"], parameters["n_identities"]
    rows = []
    for index, split in enumerate(official_splits(n_identities)):
        identity = draw_identity(seed, index)
        for env in MANIPULATIONS:
            pair = real_and_fake(
                identity, seed, env, index, parameters["n_frames"], parameters["size"], strengths
            )
            for label, frames in enumerate(pair):
                video = Path(env, manifest.CLASS_FOLDERS[label], identity.name)
                for number, path in enumerate(_write_frames(folder / video, frames)):
                    rows.append(
                        {
                            "path": path.relative_to(folder).as_posix(),
                            "dataset": NAME,
                            "env": env,
                            "method": env if label == manifest.FAKE else "real",
                            "compression": "",
                            "label": label,
                            "video": identity.name,
                            "recording": f"{env}-{identity.name}",
                            "identities": identity.name,
                            "split": split,
                            "frame": number,
                        }
                    )
    manifest.write(folder, pd.DataFrame(rows))
    (folder / PARAMETERS).write_text(json.dumps(parameters, indent=1) + "\n")


def _write_frames(folder: Path, frames: np.ndarray) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03d}.png" for number in range(len(frames))]
    for path, pixels in zip(paths, frames, strict=True):
        Image.fromarray(pixels).save(path, compress_level=_COMPRESS_LEVEL)
    return paths


def write_clips(
    folder: str | os.PathLike,
    forgeries: Sequence[str],
    seed: int = 0,
    person: int = 60,
    n_frames: int = 8,
    size: int = 64,
) -> None:
    """Write clips of one person as folders of frames: ``real``, and ``fake-<env>`` for each of ``forgeries``.

    The real one is the recording of the first of them.

    Args:
        folder: where to; frames that are there are replaced.
        forgeries: names of environments.
        seed: as for ``generate``, whose camera and artefacts these clips then have.
        person: number of the person; ``generate`` makes those below its ``n_identities``.
        n_frames: of each clip.
        size: as for ``generate``.
    """
    identity = draw_identity(seed, person)
    for place, env in enumerate(forgeries):
        pair = real_and_fake(identity, seed, env, person, n_frames, size, Strengths())
        for name, frames in zip(("real", f"fake-{env}"), pair, strict=True):
            if name != "real" or place == 0:
                _write_frames(Path(folder, name), frames)
