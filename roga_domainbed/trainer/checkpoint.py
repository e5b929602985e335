"""Checkpoints: the files a run resumes from, when to write one, and whether one belongs to this run.

``checkpoint_<steps>.pt`` holds the state after that many steps. The two newest are kept, in case one is damaged; all
are removed when the run is done. No random state is in it: what a step draws is a function of its number. It is read
with ``weights_only``, so a file from elsewhere cannot run code.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from roga_domainbed.errors import Failed, RogaError
from roga_domainbed.files import replacing
from roga_domainbed.foreign import Malformed, load_tensors, parse_json
from roga_domainbed.trainer.object_state import Captured

KEPT = 2
EVERY_S = 60.0
FIRST_S = 5.0
COST_SHARE = 0.01

_FORMAT = 1
_NAME = re.compile(r"checkpoint_(\d+)\.pt")
#: The same run may lie elsewhere; the data's content is compared by ``data_identity``.
_PLACES = ("output_dir", "data_dir")


@dataclass
class Checkpoint:
    """What a run resumes from.

    Attributes:
        settings: arguments and hyper-parameters; the resumed run's must be equal.
        data: identifies the data and their splits; must be equal too.
        made_by: versions and device; if they differ, numbers may.
        steps_done: number of updates.
        record_due: whether the record of the last update is still to be made.
        records_bytes: length of the records file.
        output_bytes: length of ``out.txt``.
        window: the values of the running means since the last record.
        algorithm: from ``ObjectState.capture``.
        averaging: from ``Averaging.capture``; None for a run without.
    """

    settings: dict[str, Any]
    data: dict[str, Any]
    made_by: dict[str, Any]
    steps_done: int
    record_due: bool
    records_bytes: int
    output_bytes: int
    window: dict[str, Sequence[Any]]
    algorithm: Captured
    averaging: Captured = None


_FIELDS = [field.name for field in fields(Checkpoint)]
_AS_JSON = ("settings", "data", "made_by")
_KINDS = {
    **dict.fromkeys(_AS_JSON, str),
    **dict.fromkeys(("steps_done", "records_bytes", "output_bytes"), int),
    "record_due": bool,
    "window": dict,
    "algorithm": tuple,
    "averaging": (tuple, type(None)),
}


def write(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the file, whole or not at all, even if the power fails; remove all but the ``KEPT`` newest.

    Raises:
        RogaError: it cannot be written; earlier ones are intact then.
    """
    path = folder / f"checkpoint_{checkpoint.steps_done}.pt"
    content = {"format": _FORMAT, **{name: getattr(checkpoint, name) for name in _FIELDS}}
    for name in _AS_JSON:  # versions, and whatever else may be a subclass of str, are refused by weights_only
        content[name] = json.dumps(content[name])
    write_durably(path, content)
    for _, old in _files(folder)[KEPT:]:
        with contextlib.suppress(OSError):
            old.unlink()


def write_durably(path: Path, content: dict[str, Any]) -> None:
    """``torch.save`` in one step: the file is on disk before it gets its name.

    Raises:
        RogaError: the disk is full or may not be written; an earlier file of that name is intact then.
    """
    # In memory first: torch hides what went wrong with a file behind its own error that the archive has no end.
    stream = io.BytesIO()
    torch.save(content, stream)
    try:
        with replacing(path, durable=True) as partial, open(partial, "wb") as file:
            file.write(stream.getbuffer())
    except OSError as error:
        raise Failed(f"cannot write {str(path)!r}: {error.strerror}") from None


def newest(folder: Path) -> tuple[Checkpoint | None, dict[Path, str]]:
    """The newest checkpoint that can be read, and for each newer file the reason why it cannot."""
    damaged: dict[Path, str] = {}
    for _, path in _files(folder):
        try:
            return _checked(load(path)), damaged
        except (OSError, Malformed) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            damaged[path] = (reason or type(error).__name__).splitlines()[0][:100]
    return None, damaged


def _checked(content: Any) -> Checkpoint:
    """The checkpoint that a file holds.

    Raises:
        Malformed: a field is missing or of another kind.
    """
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise Malformed("it is no checkpoint of this version")
    for name, kind in _KINDS.items():
        if not isinstance(content.get(name), kind) or (kind is int and not 0 <= content[name] < 2**63):
            raise Malformed(f"its {name} is not what it must be")
    for name in _AS_JSON:
        content[name] = parse_json(content[name], dict)
    for name, values in content["window"].items():
        is_list = isinstance(name, str) and isinstance(values, (list, tuple))
        if not is_list or not all(isinstance(value, (int, float)) for value in values):
            raise Malformed("its window is not what it must be")
    return Checkpoint(**{name: content.get(name) for name in _FIELDS})


def load(file: Path | io.BytesIO) -> Any:
    """What ``torch.save`` wrote, on any machine; no code is run.

    Tensors of a GPU go to the GPU of this process, if it has one; Adam's step counts stay on the processor.

    Raises:
        OSError: it cannot be read, or is not a regular file.
        Malformed: it is damaged, or holds more than tensors and plain values.
    """
    on_cpu = not torch.cuda.is_available()
    return load_tensors(file, lambda storage, place: storage if place == "cpu" or on_cpu else storage.cuda())


def set_aside(path: Path) -> str:
    """Rename a file that is no checkpoint, so that it is neither read nor lost; the notice about it."""
    aside = path.with_name(f"damaged_{path.name}")
    path.replace(aside)
    return f"{path.name} is damaged or no checkpoint of this trainer: it is called {aside.name} now"


def exists(folder: Path) -> bool:
    """Whether ``folder`` is there and has a checkpoint, damaged or not."""
    return folder.is_dir() and bool(_files(folder))


def delete_all(folder: Path) -> None:
    """Remove all checkpoints in ``folder``."""
    for _, path in _files(folder):
        path.unlink()


def _files(folder: Path) -> list[tuple[int, Path]]:
    """(steps, file), newest first."""
    found = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    return sorted(((int(match[1]), path) for match, path in found if match), reverse=True)


class Schedule:
    """When the next checkpoint is due.

    Args:
        every: after every so many steps, 0 for never. None for the default: after a record, or ``EVERY_S``
            seconds after the last one, but never so soon that writing takes more than ``COST_SHARE`` of the time,
            nor before ``FIRST_S`` seconds.
    """

    def __init__(self, every: int | None):
        self.every = every
        self._last = time.monotonic()
        self._wait = FIRST_S  # until it is known what one takes

    @property
    def is_off(self) -> bool:
        """Whether no checkpoint is wanted at all."""
        return self.every == 0

    def is_due(self, steps_done: int, recorded: bool) -> bool:
        """Whether to write one now, after ``steps_done`` steps; ``recorded``: a record was just made."""
        if self.every is not None:
            return self.every > 0 and steps_done % self.every == 0
        waited = time.monotonic() - self._last
        return waited >= self._wait and (recorded or waited >= EVERY_S)

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Around the writing of one."""
        start = time.monotonic()
        yield
        self._last = time.monotonic()
        self._wait = (self._last - start) / COST_SHARE


# --- whether a checkpoint belongs to a run ----------------------------------------------------------------


def settings(args: dict[str, Any], hparams: dict[str, Any], backend: str) -> dict[str, Any]:
    """What must be equal before the data are read: arguments (except folders), hyper-parameters, backend."""
    kept = {name: value for name, value in args.items() if name not in _PLACES}
    return {"args": kept, "hparams": dict(hparams), "backend": backend}


def data_identity(experiment: Any) -> dict[str, Any]:
    """What must be equal about the data: the size of each environment, and digests of labels, files and splits."""
    identity = {"n_steps": experiment.n_steps, "checkpoint_freq": experiment.checkpoint_freq}
    for name, environment, split in zip(
        experiment.names, experiment.dataset.environments, experiment.splits, strict=True
    ):
        labels = () if environment.labels is None else environment.labels
        identity[f"environment {name}"] = {
            "samples": len(environment),
            "labels": _digest(np.asarray(labels).tolist()),
            "files": _digest(environment.relative_paths),
            "videos": _digest(environment.videos),
            "splits": _digest([[int(i) for i in part] for _, part in split.named()]),
        }
    return identity


def differences(there: Any, here: Any, name: str = "") -> list[str]:
    """Every leaf in which two nested dicts of plain values differ, as ``name: value there, value here``."""
    if isinstance(there, dict) and isinstance(here, dict):
        found = []
        for key in [*there, *(key for key in here if key not in there)]:
            inner = f"{name}.{key}" if name else str(key)
            found += differences(there.get(key, "absent"), here.get(key, "absent"), inner)
        return found
    if json.dumps(there, sort_keys=True, default=str) == json.dumps(here, sort_keys=True, default=str):
        return []
    return [f"{name}: {there!r} there, {here!r} here"]


def require_equal(there: dict[str, Any], here: dict[str, Any], output_dir: str) -> None:
    """Refuse to resume a run with other settings or data.

    Raises:
        RogaError: naming each difference.
    """
    found = differences(there, here)
    if found:
        shown = "".join(f"\n  {line}" for line in found)
        raise RogaError(
            f"--output_dir {output_dir!r} holds an unfinished run with other settings:{shown}\n"
            "Use the same settings to resume it, choose another folder, or pass --overwrite to replace it"
        )


def _digest(value: Any) -> str | None:
    return None if value is None else hashlib.md5(json.dumps(value).encode()).hexdigest()
