"""A saved detector as one file for programs without this package: ONNX, or TorchScript.

    images (N, S, S, 3) uint8 RGB, crops of faces  →  probability_of_fake (N,) float32

The file has the preprocessing inside, but for the resizing: Pillow's, which neither format has an operation for.
"""

from __future__ import annotations

import json
import os
import warnings
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from datasets_ext.folder import square_pixels
from datasets_ext.synthfake.frames import real_and_fake
from datasets_ext.synthfake.identity import draw_identity
from datasets_ext.synthfake.manipulate import MANIPULATIONS, Strengths
from roga_domainbed import __version__
from roga_domainbed.catalog import ALGORITHMS
from roga_domainbed.errors import Failed, RogaError
from roga_domainbed.files import replacing
from roga_domainbed.foreign import open_regular
from roga_domainbed.inference.detector import as_detector, check_said
from roga_domainbed.inference.loaded_model import probabilities
from roga_domainbed.inference.model_inputs import to_tensor
from roga_domainbed.inference.saved_run import SavedRun, load_run
from roga_domainbed.input.classes import FAKE, REAL
from roga_domainbed.seeds import generator

N_CHECKED = 100
TOLERANCE = 1e-4
INPUT, OUTPUT = "images", "probability_of_fake"
EXTRA_FILE = "roga_domainbed.json"  # in a TorchScript file

_PRODUCER = "roga-domainbed"
_DRAWN_SIDE = 64  # of a check's faces: drawing larger ones takes a minute
_BATCHES = (1, 2, 5)  # sizes of the check's batches: the file must take any
_EXAMPLES = 2  # images that are traced; torch.export takes a batch of one for a constant


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        run: the model.
        side: S.
        difference: the largest one between the file's probabilities and the model's.
        lowest, highest: the model's least and largest probability among the images of the check.
        n_bytes: of the file.
    """

    run: SavedRun
    side: int
    difference: float
    lowest: float
    highest: float
    n_bytes: int


class FakeProbability(nn.Module):
    """A detector from bytes to its answer, which is what a file has.

    Args:
        run: the model.
        fake: the number of its class that is fake.
    """

    def __init__(self, run: SavedRun, fake: int):
        super().__init__()
        self.algorithm, self._fake = run.algorithm, fake
        recipe = to_tensor(run).recipe
        std = torch.tensor(recipe.std).view(3, 1, 1)
        self.register_buffer("scale", 255 * std)
        self.register_buffer("shift", torch.tensor(recipe.mean).view(3, 1, 1) / std)

    def forward(self, images: Tensor) -> Tensor:
        """(N, S, S, 3) uint8 → (N,) float32."""
        logits = self.algorithm.predict(images.permute(0, 3, 1, 2).float() / self.scale - self.shift)
        if logits.dim() == 1 or logits.shape[1] == 1:  # its sign is the class of two
            logits = logits.reshape(-1, 1)
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        return torch.softmax(logits, dim=1)[:, self._fake]


def export(
    where: str, output: str, kind: str, *, real: Collection[str] = (), fake: Collection[str] = ()
) -> Exported:
    """Write a saved detector to ``output``, after the file has said what the model says of ``N_CHECKED`` images.

    Args:
        where: the run's folder, or a model file.
        output: replaced in one step, or left as it is.
        kind: ``onnx`` or ``torchscript``.
        real: the class of the model that is real, if its name does not say so.
        fake: the one that is fake.

    Raises:
        RogaError: no such run; a model that is no detector, or whose answer for an image depends on others.
        Failed: the file cannot be made, or says something else than the model.
    """
    run = load_run(where, torch.device("cpu"))
    check_said(run, (), real, fake)
    column = _column_of_fake(run, real, fake)
    name = run.args["algorithm"]
    if ALGORITHMS.get(name).adapts:
        raise RogaError(
            f"{name} adapts to the images that it predicts together: what it says of one depends on the others, and a "
            "file that takes any number of them would be another model"
        )
    module, side = FakeProbability(run, column).eval(), run.input_shape[1]
    images = drawn_images(N_CHECKED, side)
    with replacing(output) as partial:
        with _explained(kind):
            _WRITERS[kind](module, torch.from_numpy(images[:_EXAMPLES]), partial, _about(run, side))
            there = _answers(_LOADERS[kind](partial), images)
        here = _answers_of_the_model(run, images, column)
        difference = float(np.abs(there - here).max())
        if not difference <= TOLERANCE:  # NaN included
            raise Failed(
                f"the file's probabilities differ from the model's by up to {difference:.1e}, which is more than "
                f"{TOLERANCE:.0e}: nothing is written. The format has another arithmetic for an operation of {name}, "
                "or its predict draws random numbers or looks at the whole batch"
            )
        n_bytes = os.path.getsize(partial)
    return Exported(run, side, difference, float(here.min()), float(here.max()), n_bytes)


def _column_of_fake(run: SavedRun, real: Collection[str], fake: Collection[str]) -> int:
    as_detector(run, "export", real, fake)
    # Where fake is class 0, a function that turns the classes round is now in the place of the class's own. A trace
    # would keep the length of the batch, for which it asks.
    return REAL if vars(run.algorithm).pop("predict", None) else FAKE


def drawn_images(n: int, side: int) -> np.ndarray:
    """Generated faces, real and fake by turns, each noisier than the one before: (n, side, side, 3) uint8."""
    found: list[np.ndarray] = []
    for person in range(n):
        for env in MANIPULATIONS:
            if len(found) < n:
                drawn = real_and_fake(draw_identity(0, person), 0, env, person, 1, _DRAWN_SIDE, Strengths())
                found += [square_pixels(Image.fromarray(frames[0]), side) for frames in drawn]
    noise = generator(0, "check of an exported file").integers(-64, 65, (side, side, 3))
    strength = np.linspace(0, 1, n)
    noisy = (face + share * noise for face, share in zip(found, strength, strict=False))
    return np.stack([np.clip(np.rint(face), 0, 255).astype(np.uint8) for face in noisy])


def is_exported(path: Path, kind: str) -> bool:
    """Whether the file at ``path`` is one that ``export`` wrote."""
    with suppress(Exception), open_regular(path) as file:  # no file, none of ours, a damaged archive
        if kind == "onnx":
            # the format's version in two bytes and, right after it, who made the file
            return file.read(64)[2:].startswith(b"\x12" + bytes([len(_PRODUCER)]) + _PRODUCER.encode())
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith(f"/extra/{EXTRA_FILE}") for name in archive.namelist())
    return False


def _about(run: SavedRun, side: int) -> dict[str, str]:
    """What is written into the file about it."""
    return {
        "trained_on": run.describe(),
        "classes": "real, fake",
        INPUT: f"uint8, N x {side} x {side} x 3, RGB: crops of faces as the model was trained on, resized bilinearly",
        OUTPUT: "float32, N: from 0 for real to 1 for fake",
        "side": str(side),
        "roga_domainbed": __version__,
    }


def _write_onnx(module: nn.Module, example: Tensor, path: Path, about: dict[str, str]) -> None:
    program = torch.onnx.export(
        module,
        (example,),
        dynamo=True,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: "N"},),
        verbose=False,
    )
    program.model.producer_name, program.model.producer_version = _PRODUCER, __version__
    program.model.metadata_props.update(about)
    program.save(path, external_data=False)


def _write_torchscript(module: nn.Module, example: Tensor, path: Path, about: dict[str, str]) -> None:
    traced = torch.jit.trace(module, example, check_trace=False)
    torch.jit.save(traced, path, _extra_files={EXTRA_FILE: json.dumps(about, indent=1).encode()})


def _load_onnx(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run([OUTPUT], {INPUT: images})[0]


def _load_torchscript(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    network = torch.jit.load(path)
    return lambda images: network(torch.from_numpy(images)).numpy()


_WRITERS = {"onnx": _write_onnx, "torchscript": _write_torchscript}
_LOADERS = {"onnx": _load_onnx, "torchscript": _load_torchscript}


@contextmanager
def _explained(kind: str) -> Iterator[None]:
    """Inside, what the exporter cannot do is said in a sentence, and its warnings are kept back.

    torch calls TorchScript deprecated in four of them; ``docs/export.md`` says so in one. What matters is whether the
    file says what the model says, and that is checked.
    """
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    except OSError:
        raise
    except Exception as error:
        raise Failed(
            f"torch {torch.__version__} cannot write this model as {kind}: {_reason(error)}"
        ) from error


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:  # the exporter wraps what happened in advice of a page
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).strip()[:300]}"


def _answers(predict: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """(N,) of (N, S, S, 3), in batches of several sizes."""
    found, start = [], 0
    with (
        tqdm(total=len(images), unit="image", desc="checking", disable=None, leave=False) as bar,
        torch.no_grad(),
    ):
        while start < len(images):
            batch = images[start : start + _BATCHES[len(found) % len(_BATCHES)]]
            found.append(predict(batch))
            start += len(batch)
            bar.update(len(batch))
    return np.concatenate(found)


def _answers_of_the_model(run: SavedRun, images: np.ndarray, column: int) -> np.ndarray:
    """(N,) of (N, S, S, 3), as ``predict`` has them: in other batches than the file's, which shows what adapts."""
    read = to_tensor(run)
    inputs = [read(Image.fromarray(image)) for image in images]
    batches = (inputs[start : start + 10] for start in range(0, len(inputs), 10))
    return np.concatenate([probabilities(run, batch)[:, column] for batch in batches])
