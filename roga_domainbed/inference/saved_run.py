"""A trained model loaded from its file, on either backend, with the arguments of its run."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from roga_domainbed.catalog import ALGORITHMS
from roga_domainbed.errors import RogaError, unknown_name
from roga_domainbed.host.backend import Host
from roga_domainbed.results.records import RECORDS, data_options, is_done
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.precision import autocast, lay_out
from roga_domainbed.upstream import bridge, defects

MODEL = "model.pkl"

_KEYS = {
    "args": dict,
    "model_input_shape": (tuple, list),
    "model_num_classes": int,
    "model_num_domains": int,
    "model_hparams": dict,
    "model_dict": dict,
}


@dataclass
class SavedRun:
    """A trained model and its origin.

    Attributes:
        path: the model's file.
        args: the run's arguments, as ``train`` of either tool took them.
        hparams: every hyper-parameter.
        input_shape: (channels, height, width) of an image.
        num_classes: how many classes it tells apart.
        algorithm: the trained network, in evaluation mode, on ``device``.
        device: where it computes.
        provenance: versions, backend and environments, from the run's first record; empty if the file is not beside
            its records, or upstream's train made it.
        class_names: of its classes, in the order of their indices; None if it does not say, as in version 0.1.0.
    """

    path: Path
    args: dict[str, Any]
    hparams: dict[str, Any]
    input_shape: tuple[int, ...]
    num_classes: int
    algorithm: Any
    device: torch.device
    provenance: dict[str, Any]
    class_names: tuple[str, ...] | None = None

    @property
    def config(self) -> TrainConfig:
        """The arguments of ``train`` that would make this run; upstream's train may have had others as well."""
        known = {field.name for field in fields(TrainConfig)}
        config = TrainConfig(**{name: value for name, value in self.args.items() if name in known})
        # DomainBed's own train, with the plugin in it, has our options of the data among its hyper-parameters.
        for name, value in data_options(self.args, self.hparams).items():
            setattr(config, name, value)
        return config

    @property
    def precision(self) -> str:
        """``bf16`` if the run was evaluated in it and ``device`` is a GPU, ``fp32`` otherwise."""
        on_gpu = self.device.type == "cuda"
        return "bf16" if on_gpu and self.provenance.get("precision") == "bf16" else "fp32"

    def autocast(self) -> contextlib.AbstractContextManager:
        """Inside, the network computes in ``precision``."""
        return autocast(self.precision, self.device)

    def describe(self) -> str:
        """One line: what was trained on what."""
        config = self.config
        text = f"{config.algorithm}, trained on {config.dataset}"
        names = self.provenance.get("environments")
        if names:
            held_out = [names[env] for env in config.test_envs]
            text += (
                f" {', '.join(name for name in names if name not in held_out)} (not {', '.join(held_out)})"
            )
        else:
            text += f" without test_envs {' '.join(map(str, config.test_envs))}"
        split = self.provenance.get("split") or config.split
        text += f", split {split}" if split else ""
        text += "".join(f", {said}" for said in config.training_options.described())
        return (
            f"{text}, trial_seed {config.trial_seed}, hparams_seed {config.hparams_seed}, seed {config.seed}"
        )


def load_run(where: str | os.PathLike, device: torch.device | None = None) -> SavedRun:
    """Load the model of a run.

    Args:
        where: the run's folder, for its ``model.pkl``, or a model file such as ``model_step300.pkl``.
        device: where to; None for the GPU if there is one.

    Raises:
        RogaError: no such run, a run without a model, a file that is damaged or is no model, an algorithm that this
            backend does not have or whose weights are others here.
    """
    path = _model_file(Path(where))
    saved = _read(path)
    args, hparams = saved["args"], saved["model_hparams"]
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    algorithm = _build(path, saved, bridge.register()).to(device).eval()
    run = SavedRun(
        path,
        args,
        hparams,
        tuple(saved["model_input_shape"]),
        saved["model_num_classes"],
        algorithm,
        device,
        _provenance(path.parent),
        _class_names(saved),
    )
    lay_out(algorithm, run.precision, device)
    return run


def _model_file(where: Path) -> Path:
    if where.is_file():
        return where
    if not where.is_dir():
        raise RogaError(f"no such run: {str(where)!r} is neither the folder of a training nor a model file")
    path = where / MODEL
    if path.is_file():
        return path
    others = sorted(other.name for other in where.glob("model*.pkl"))
    if others:
        raise RogaError(f"{str(where)!r} has no {MODEL}; it has {', '.join(others)}: name one of them")
    if not (where / RECORDS).exists():
        raise RogaError(
            f"{str(where)!r} is not the folder of a run: there is no {MODEL} and no {RECORDS} in it"
        )
    if is_done(where):
        raise RogaError(f"{str(where)!r} has no {MODEL}: train it again without --skip_model_save")
    raise RogaError(f"{str(where)!r} has no {MODEL} yet: its training has not ended")


def _read(path: Path) -> dict[str, Any]:
    """The content of a model's file; nothing in it can run code."""
    try:
        with _numpy_scalars_allowed():
            saved = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = "it is damaged" if _is_damaged(path) else f"it holds more than weights ({_reason(error)})"
        raise RogaError(f"{str(path)!r} is refused as a model: {reason}") from None
    except OSError as error:
        raise RogaError(f"{str(path)!r} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # zip, pickle and torch each have their own kinds for damaged files
        raise RogaError(f"{str(path)!r} is damaged or no model of 'train': {_reason(error)}") from None
    if not isinstance(saved, dict):
        raise RogaError(f"{str(path)!r} is no model of 'train': it holds a {type(saved).__name__}")
    missing = [key for key, kind in _KEYS.items() if not isinstance(saved.get(key), kind)]
    if missing:
        raise RogaError(f"{str(path)!r} is no model of 'train': it lacks {', '.join(missing)}")
    return saved


def _build(path: Path, saved: dict[str, Any], host: Host) -> Any:
    name = saved["args"].get("algorithm")
    if name not in ALGORITHMS:
        raise RogaError(f"{str(path)!r}: {unknown_name('algorithm', str(name), ALGORITHMS.names())}")
    algorithm_class = host.algorithms.get_algorithm_class(name)
    # Its weights come from this file: none are fetched, and no other file is read.
    hparams = {**saved["model_hparams"], "pretrained": False, "weights": ""}
    n_domains = saved["model_num_domains"]
    is_upstreams = host.name == "upstream" and not ALGORITHMS.get(name).plugin
    try:
        algorithm = algorithm_class(
            tuple(saved["model_input_shape"]), saved["model_num_classes"], n_domains, hparams
        )
    except RogaError:
        raise
    except Exception as error:
        known = defects.explain(defects.Job(name, hparams, n_domains), error)
        reason = (is_upstreams and known) or f"{type(error).__name__}: {_reason(error)}"
        raise RogaError(f"{str(path)!r}: {name} cannot be built on this backend ({reason})") from None
    state = saved["model_dict"]
    if is_upstreams:
        state = defects.saved_state(name, state)
        defects.prepare_to_load(name, algorithm, state)
    try:
        algorithm.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise RogaError(
            f"{str(path)!r}: its weights are not those of {name} on the backend {host.name!r} "
            f"({_reason(error)}). Load it where it was trained"
        ) from None
    return algorithm


def _class_names(saved: dict[str, Any]) -> tuple[str, ...] | None:
    names = saved.get("model_class_names")
    is_known = isinstance(names, list) and len(names) == saved["model_num_classes"]
    return tuple(map(str, names)) if is_known else None


def _provenance(folder: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, AttributeError), open(folder / RECORDS, "rb") as file:
        found = json.loads(file.readline()).get("provenance")
        return found if isinstance(found, dict) else {}
    return {}


@contextlib.contextmanager
def _numpy_scalars_allowed() -> Iterator[None]:
    """Inside, ``weights_only`` accepts numpy's numbers, which upstream leaves among its hyper-parameters."""
    safe_globals = getattr(torch.serialization, "safe_globals", None)
    if safe_globals is None:  # torch before 2.5
        yield
        return
    numbers = [np.dtype, np.float64(0).__reduce__()[0]]
    numbers += [type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")]
    with safe_globals(numbers):
        yield


def _is_damaged(path: Path) -> bool:
    # torch takes a truncated zip archive for a pickle in its old format, and refuses it as one.
    with open(path, "rb") as file:
        return file.read(2) != b"PK"


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # torch puts "Error(s) in loading …" first and what is wrong into the second line
    line = lines[1] if len(lines) > 1 and lines[0].endswith(":") else (lines or [type(error).__name__])[0]
    return line if len(line) <= 160 else line[:159] + "…"
