"""A trained model loaded from its file, on either backend, with the arguments of its run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from roga_domainbed.catalog import (
    ALGORITHMS,
    AVERAGING_HPARAMS,
    BACKBONE_HPARAMS,
    INPUT_HPARAMS,
    OPTIMIZER_HPARAMS,
    SCHEDULE_HPARAMS,
)
from roga_domainbed.catalog.values import Allowed, arguments_of, check_arguments
from roga_domainbed.errors import Problems, RogaError, is_out_of_memory, shortened, unknown_name
from roga_domainbed.foreign import Malformed, load_tensors, open_regular, parse_json
from roga_domainbed.host.backend import Host
from roga_domainbed.metrics.thresholds import THRESHOLDS
from roga_domainbed.results.records import RECORDS, data_options, is_done
from roga_domainbed.trainer import calibration, familiarity
from roga_domainbed.trainer.calibration import Calibration
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.familiarity import Familiarity
from roga_domainbed.trainer.image_kind import FACES, FOLDERS
from roga_domainbed.trainer.precision import autocast, lay_out
from roga_domainbed.upstream import bridge, defects

MODEL = "model.pkl"

_KEYS = "args model_input_shape model_num_classes model_num_domains model_hparams model_dict".split()
_MOST_LAYERS = 1_000
_MOST_CLASSES, _MOST_DOMAINS, _MOST_CHANNELS, _LARGEST_SIDE = 100_000, 1_000, 64, 4_096
_MOST_VALUES = 10_000  # among the arguments or hyper-parameters, those within lists counted
_OF_ANY_RUN = (
    *BACKBONE_HPARAMS,
    *INPUT_HPARAMS,
    *OPTIMIZER_HPARAMS,
    *SCHEDULE_HPARAMS,
    *AVERAGING_HPARAMS,
)
_SLACK = 2**24  # bytes by which a network may be larger than its file
_LONGEST_TEXT = 2**14  # letters of an argument, such as the JSON of --hparams
_LONGEST = 160  # letters of a value or a reason in a message
_LONGEST_RECORD = 2**24  # bytes


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
        image_kind: how its images became inputs, as ``trainer.image_kind`` says; None if it does not say.
        calibration: thresholds and a temperature, from the validation data; None where there is none, as in models of
            other tasks and of earlier versions.
        familiarity: how the images look that it was trained on; None likewise.
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
    image_kind: str | None = None
    calibration: Calibration | None = None
    familiarity: Familiarity | None = None

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
        if names and all(0 <= env < len(names) for env in config.test_envs):
            held_out = [names[env] for env in config.test_envs]
            text += (
                f" {', '.join(name for name in names if name not in held_out)} (not {', '.join(held_out)})"
            )
        else:
            text += f" without test_envs {' '.join(map(str, config.test_envs))}"
        split = self.provenance.get("split") or config.split
        text += f", split {split}" if split else ""
        text += "".join(f", {said}" for said in config.training_options.described())
        text += f", trial_seed {config.trial_seed}, hparams_seed {config.hparams_seed}, seed {config.seed}"
        return " ".join(text.split())  # a name in the file may have line breaks


def load_run(where: str | os.PathLike, device: torch.device | None = None) -> SavedRun:
    """Load the model of a run.

    Args:
        where: the run's folder, for its ``model.pkl``, or a model file such as ``model_step300.pkl``.
        device: where to; None for the GPU if there is one.

    Raises:
        RogaError: no such run, a run without a model, a file that is damaged or is no model, an algorithm that this
            backend does not have or whose weights are others here, weights that are not finite.
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
        saved.get("model_image_kind"),
        Calibration.from_plain(saved[calibration.KEY]) if calibration.KEY in saved else None,
        Familiarity.from_plain(saved[familiarity.KEY]) if familiarity.KEY in saved else None,
    )
    _require_layers(run)
    lay_out(algorithm, run.precision, device)
    return run


def _model_file(where: Path) -> Path:
    if where.is_file():
        return where
    if not where.is_dir():
        if where.exists():
            raise RogaError(f"{str(where)!r} is no model: it is neither a regular file nor a folder")
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
    """The content of a model's file, of the kinds that it must have; nothing in it can run code."""
    try:
        saved = load_tensors(path)
    except Malformed as error:
        raise RogaError(f"{str(path)!r} is refused as a model: {error}") from None
    except OSError as error:
        raise RogaError(f"{str(path)!r} cannot be read: {error.strerror or error}") from None
    if not isinstance(saved, dict):
        raise RogaError(f"{str(path)!r} is no model of 'train': it holds a {type(saved).__name__}")
    faults = list(_faults(saved))
    if faults:
        raise RogaError(f"{str(path)!r} is no model of 'train': {'; '.join(faults)}")
    return saved


def _faults(saved: Mapping[Any, Any]) -> Iterator[str]:
    """What is wrong with the content of a model's file, a phrase each."""
    missing = [key for key in _KEYS if key not in saved]
    if missing:
        yield f"it lacks {', '.join(missing)}"
    for key, most in (("model_num_classes", _MOST_CLASSES), ("model_num_domains", _MOST_DOMAINS)):
        yield from _unless(Allowed(kind=int, at_least=1, at_most=most), saved, key)
    shape = saved.get("model_input_shape", (3, 1, 1))
    if not (
        isinstance(shape, (tuple, list))
        and len(shape) == 3
        and all(map(_is_whole, shape))
        and 1 <= shape[0] <= _MOST_CHANNELS
        and all(1 <= length <= _LARGEST_SIDE for length in shape[1:])
    ):
        yield (
            f"model_input_shape must be (channels, height, width), at most {_MOST_CHANNELS} and "
            f"{_LARGEST_SIDE}; got {_shown(shape)}"
        )
    names, n_classes = saved.get("model_class_names"), saved.get("model_num_classes")
    is_list = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    if names is not None and not (is_list and len(names) == n_classes):
        yield f"model_class_names must be {_shown(n_classes)} names; got {_shown(names)}"
    if saved.get("model_image_kind") not in (None, FACES, FOLDERS):
        yield f"model_image_kind must be {FACES} or {FOLDERS}; got {_shown(saved['model_image_kind'])}"
    if calibration.KEY in saved:
        yield from _calibration_faults(saved[calibration.KEY])
    if familiarity.KEY in saved:
        yield from _familiarity_faults(saved[familiarity.KEY])
    for key in ("args", "model_hparams", "model_dict"):
        yield from _unless(Allowed(kind=dict), saved, key)
    args, hparams, state = (
        value if isinstance(value, dict) else {}
        for value in map(saved.get, ("args", "model_hparams", "model_dict"))
    )
    for key, values in (("args", args), ("model_hparams", hparams)):
        if not _is_plain(values):
            yield f"{key} may hold numbers of 64 bits and short text, by name; it holds something else"
        elif key == "args":
            yield from _argument_faults(values)
        else:
            for spec in _OF_ANY_RUN:
                yield from (f"among model_hparams, {fault}" for fault in _unless(spec, values, spec.name))
    unnamed = [_shown(name) for name in state if not isinstance(name, str)]
    if unnamed:
        yield f"model_dict has names that are no text: {shortened(unnamed)}"
    others = [_shown(name) for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if others:
        yield f"model_dict has {len(others)} values that are no tensors: {shortened(others)}"


def _calibration_faults(plain: Any) -> Iterator[str]:
    if not isinstance(plain, dict):
        yield f"{calibration.KEY} must be a mapping; got {_shown(plain)}"
        return
    wanted = {"temperature": Allowed(kind=float, above=0), "frames": Allowed(kind=dict)}
    wanted |= {"videos": Allowed(kind=dict)} if "videos" in plain else {}
    yield from _faults_within(calibration.KEY, plain, wanted)
    if not _is_names(plain.get("environments"), _MOST_DOMAINS):
        yield f"environments in {calibration.KEY} must be names; got {_shown(plain.get('environments'))}"
    for level in ("frames", "videos"):
        if isinstance(plain.get(level), dict):
            counts = dict.fromkeys(("n_real", "n_fake"), Allowed(kind=int, at_least=1))
            thresholds = dict.fromkeys(THRESHOLDS, Allowed(kind=float, at_least=0, at_most=1))
            yield from _faults_within(f"{level} in {calibration.KEY}", plain[level], counts | thresholds)


def _familiarity_faults(plain: Any) -> Iterator[str]:
    if not isinstance(plain, dict):
        yield f"{familiarity.KEY} must be a mapping; got {_shown(plain)}"
        return
    wanted = {"limit": Allowed(kind=float, at_least=0), "n_images": Allowed(kind=int, at_least=1)}
    yield from _faults_within(familiarity.KEY, plain, wanted)
    if not _is_names(plain.get("layers"), _MOST_LAYERS):
        yield f"layers in {familiarity.KEY} must be names; got {_shown(plain.get('layers'))}"
    mean, whitening = (plain.get(name) for name in ("mean", "whitening"))
    n = len(mean) if isinstance(mean, torch.Tensor) and mean.ndim == 1 else 0
    for name, value, shape in (("mean", mean, (n,)), ("whitening", whitening, (n, n))):
        is_good = isinstance(value, torch.Tensor) and value.dtype == torch.float32 and value.shape == shape
        if not (is_good and n and torch.isfinite(value).all()):
            yield f"{name} in {familiarity.KEY} must be finite float32 numbers, as many as it describes images by"


def _faults_within(where: str, values: Mapping[Any, Any], wanted: Mapping[str, Allowed]) -> Iterator[str]:
    """What is wrong with ``values``, which must have every name in ``wanted`` and may have others."""
    missing = [name for name in wanted if name not in values]
    if missing:
        yield f"{where} lacks {', '.join(missing)}"
    for name, allowed in wanted.items():
        yield from (f"in {where}, {fault}" for fault in _unless(allowed, values, name))


def _is_names(value: Any, most: int) -> bool:
    return (
        isinstance(value, list)
        and 0 < len(value) <= most
        and all(isinstance(name, str) and len(name) <= _LONGEST for name in value)
    )


def _unless(allowed: Allowed, saved: Mapping[Any, Any], key: str) -> Iterator[str]:
    if key not in saved:
        return
    kinds = (int, float) if allowed.kind is float else allowed.kind
    try:
        if not isinstance(saved[key], kinds):  # ``checked`` would show it, however large
            raise ValueError
        allowed.checked(saved[key])
    except ValueError:
        yield f"{key} must be {allowed}; got {_shown(saved[key])}"


def _argument_faults(args: Mapping[str, Any]) -> Iterator[str]:
    """The arguments that ``train`` does not take."""
    # Version 0.1.0 took empty paths.
    kinds = {name: replace(kind, path=False) for name, kind in arguments_of(TrainConfig).items()}
    for name, default in asdict(TrainConfig()).items():
        kinds.setdefault(name, Allowed(kind=bool if isinstance(default, bool) else str))
    problems = Problems()
    check_arguments(args, kinds, problems)
    for name, default in asdict(TrainConfig()).items():
        if default is not None and args.get(name, default) is None:
            problems.add(f"{name} is missing")
    for message in problems.messages:
        message = message.removeprefix("--")
        yield f"among args, {message if len(message) <= _LONGEST else message[: _LONGEST - 1] + '…'}"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_plain(values: Mapping[Any, Any]) -> bool:
    """Whether all names are text and all values what JSON has, or numpy's numbers; of bounded size."""
    inside, n_seen = [values], 0
    while inside:
        value = inside.pop()
        n_seen += 1
        if n_seen > _MOST_VALUES:
            return False
        if isinstance(value, dict):
            inside += [*value, *value.values()]
            if not all(isinstance(name, str) for name in value):
                return False
        elif isinstance(value, (list, tuple)):
            inside += value
        elif _is_whole(value):
            if not -(2**63) <= value < 2**63:
                return False
        elif isinstance(value, str):
            if len(value) > _LONGEST_TEXT:
                return False
        elif not isinstance(value, (bool, float, np.generic, type(None))):
            return False
    return True


def _shown(value: Any) -> str:
    """A value from a file, short."""
    plain = isinstance(value, (str, float, bool, type(None))) or (_is_whole(value) and abs(value) < 2**63)
    if plain or (isinstance(value, (list, tuple)) and len(value) < 10 and all(map(_is_whole, value))):
        with contextlib.suppress(ValueError):  # Python does not print integers of more than 4,300 digits
            text = repr(value)
            return text if len(text) <= 60 else f"{text[:59]}…"
    return f"a {type(value).__name__}"


def _build(path: Path, saved: dict[str, Any], host: Host) -> Any:
    name = saved["args"].get("algorithm")
    if name not in ALGORITHMS:
        raise RogaError(f"{str(path)!r}: {unknown_name('algorithm', str(name), ALGORITHMS.names())}")
    algorithm_class = host.algorithms.get_algorithm_class(name)
    # Its weights come from this file: none are fetched, and no other file is read.
    hparams = {**saved["model_hparams"], "pretrained": False, "weights": ""}
    n_domains = saved["model_num_domains"]
    is_upstreams = host.name == "upstream" and not ALGORITHMS.get(name).plugin
    arguments = tuple(saved["model_input_shape"]), saved["model_num_classes"], n_domains, hparams
    state = saved["model_dict"]
    _require_room(path, algorithm_class, arguments, len(state))
    try:
        algorithm = algorithm_class(*arguments)
    except RogaError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        known = defects.explain(defects.Job(name, hparams, n_domains), error)
        reason = (is_upstreams and known) or f"{type(error).__name__}: {_reason(error)}"
        raise RogaError(f"{str(path)!r}: {name} cannot be built on this backend ({reason})") from None
    try:
        if is_upstreams:
            state = defects.saved_state(name, state)
            defects.prepare_to_load(name, algorithm, state)
        _require_same_kinds(algorithm.state_dict(), state)
        algorithm.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError, KeyError) as error:
        if is_out_of_memory(error):
            raise
        raise RogaError(
            f"{str(path)!r}: its weights are not those of {name} on the backend {host.name!r} "
            f"({_reason(error)}). Load it where it was trained"
        ) from None
    odd = [
        key
        for key, value in algorithm.state_dict().items()
        if isinstance(value, torch.Tensor) and not torch.isfinite(value).all()
    ]
    if odd:
        raise RogaError(
            f"{str(path)!r} is refused: {len(odd)} of its {len(state)} tensors hold NaN or infinity: {shortened(odd)}"
        )
    return algorithm


def _require_layers(run: SavedRun) -> None:
    """Refuse a familiarity that is not of this network.

    Raises:
        RogaError: it names layers that are no convolutions here, or has numbers of others.
    """
    if run.familiarity is None:
        return
    modules = dict(run.algorithm.named_modules())
    layers = [modules.get(name) for name in run.familiarity.layers]
    n_channels = sum(layer.out_channels for layer in layers if isinstance(layer, torch.nn.Conv2d))
    if (
        not all(isinstance(layer, torch.nn.Conv2d) for layer in layers)
        or len(run.familiarity.mean) != familiarity.FIELDS**2 + 2 * n_channels
    ):
        raise RogaError(f"{str(run.path)!r}: its {familiarity.KEY} is not of its network")


def _class_names(saved: dict[str, Any]) -> tuple[str, ...] | None:
    names = saved.get("model_class_names")
    return None if names is None else tuple(names)


def _require_room(path: Path, algorithm_class: Any, arguments: tuple, n_tensors: int) -> None:
    """Refuse a network that is larger than the file that holds its weights, before any memory is taken for it."""
    depth = arguments[-1].get("mlp_depth")
    if isinstance(depth, (int, float)) and depth > n_tensors + 2:
        raise RogaError(f"{str(path)!r}: its mlp_depth is {depth}, and it has {n_tensors} tensors in all")
    try:
        with torch.device("meta"):
            network = algorithm_class(*arguments)
    except Exception:
        return  # an algorithm that needs values to be built; what is wrong is said when it is built for real
    wanted = sum(value.nbytes for value in (*network.parameters(), *network.buffers()))
    there = path.stat().st_size
    if wanted > there + _SLACK:
        raise RogaError(
            f"{str(path)!r}: the network that it describes has {wanted:,} bytes of weights, and the file has {there:,}"
        )


def _require_same_kinds(wanted: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Refuse numbers of another kind, which torch would convert without a word."""
    for name in wanted.keys() & state.keys():
        kinds = [(value.is_complex(), value.is_floating_point()) for value in (wanted[name], state[name])]
        if kinds[0] != kinds[1]:
            raise TypeError(f"{name} is {wanted[name].dtype} here and {state[name].dtype} there")


def _provenance(folder: Path) -> dict[str, Any]:
    """What the first record beside a model says, as far as it is of the kinds that it must have."""
    kinds = {"environments": list, "split": str, "precision": str, "audit": dict, "unreadable": dict}
    with contextlib.suppress(OSError, ValueError, AttributeError), open_regular(folder / RECORDS) as file:
        found = parse_json(file.readline(_LONGEST_RECORD), dict).get("provenance")
        found = {key: value for key, value in found.items() if isinstance(value, kinds.get(key, object))}
        if not all(isinstance(name, str) for name in found.get("environments", ())):
            del found["environments"]
        return found
    return {}


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # torch puts "Error(s) in loading …" first and what is wrong into the second line
    line = lines[1] if len(lines) > 1 and lines[0].endswith(":") else (lines or [type(error).__name__])[0]
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
