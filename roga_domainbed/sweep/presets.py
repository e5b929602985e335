"""Presets: the arguments of a sweep under a name, or in a YAML file of one's own."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from roga_domainbed.errors import Problems, RogaError, unknown_name


def preset_names() -> list[str]:
    """The presets that come with the package."""
    return sorted(
        path.name.removesuffix(".yaml") for path in _folder().iterdir() if path.name.endswith(".yaml")
    )


#: The arguments that a preset may have, and what each must be.
ARGUMENTS: dict[str, str] = {
    "datasets": "a list of names",
    "algorithms": "a list of names",
    "task": "a string",
    "n_hparams_from": "a whole number",
    "n_hparams": "a whole number",
    "data_dir": "a string",
    "n_trials": "a whole number",
    "steps": "a whole number",
    "hparams": "a string",
    "holdout_fraction": "a number",
    "single_test_envs": "true or false",
    "test_envs": "a list of whole numbers",
    "split": "a string",
    "reals": "a string",
    "balance": "a string in quotes",  # YAML reads a bare 1:4 as sixty-four
    "strict": "true or false",
    "allow_leakage": "true or false",
    "checkpoint_freq": "a whole number",
    "skip_model_save": "true or false",
}


def load_preset(name: str) -> dict[str, Any]:
    """The arguments of a preset; ``hparams`` may be a mapping there and is JSON text here.

    Args:
        name: one of ``preset_names()``, or the path of a YAML file.

    Raises:
        RogaError: no such preset or file, no YAML mapping, unknown keys, values of another kind; all of the
            last two at once.
    """
    import yaml

    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise RogaError(f"--preset: no such file: {name!r}")
        text = path.read_text(encoding="utf-8")
    elif name in preset_names():
        text = (_folder() / f"{name}.yaml").read_text(encoding="utf-8")
    else:
        known = [*preset_names(), "or the path of a .yaml file"]
        raise RogaError(unknown_name("preset", name, known))
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RogaError(f"--preset {name}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise RogaError(f"--preset {name}: expected 'argument: value' lines, as in sweeps/demo.yaml")
    problems = Problems()
    if isinstance(values.get("hparams"), dict):
        values["hparams"] = json.dumps(values["hparams"])
    for key, value in values.items():
        if key not in ARGUMENTS:
            problems.add(f"--preset {name}: {unknown_name('argument', str(key), ARGUMENTS)}")
        elif not _is(value, ARGUMENTS[key]):
            problems.add(f"--preset {name}: {key} must be {ARGUMENTS[key]}; got {value!r}")
    problems.check()
    return values


def _is(value: Any, kind: str) -> bool:
    if kind.startswith("a list of "):
        item = {"names": "a string", "whole numbers": "a whole number"}[kind.removeprefix("a list of ")]
        return isinstance(value, list) and len(value) > 0 and all(_is(element, item) for element in value)
    if kind == "true or false":
        return isinstance(value, bool)
    if kind.startswith("a string"):
        return isinstance(value, str)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole or (kind == "a number" and isinstance(value, float))


def _folder() -> Any:
    try:
        return resources.files("roga_domainbed.sweeps")
    except ModuleNotFoundError:  # run from a checkout that is not installed
        return Path(__file__).resolve().parents[2] / "sweeps"
