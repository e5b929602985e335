"""Presets: the arguments of a sweep under a name, or in a YAML file of one's own."""

from __future__ import annotations

from collections.abc import Collection
from importlib import resources
from pathlib import Path
from typing import Any

from roga_domainbed.errors import Problems, RogaError, unknown_name


def preset_names() -> list[str]:
    """The presets that come with the package."""
    return sorted(
        path.name.removesuffix(".yaml") for path in _folder().iterdir() if path.name.endswith(".yaml")
    )


def load_preset(name: str, keys: Collection[str]) -> dict[str, Any]:
    """The arguments of a preset.

    Args:
        name: one of ``preset_names()``, or the path of a YAML file.
        keys: the arguments that a preset may have.

    Raises:
        RogaError: no such preset or file, no YAML mapping, unknown keys; all of those at once.
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
    for key in values:
        if key not in keys:
            problems.add(f"--preset {name}: {unknown_name('argument', str(key), keys)}")
    problems.check()
    return values


def _folder() -> Any:
    try:
        return resources.files("roga_domainbed.sweeps")
    except ModuleNotFoundError:  # run from a checkout that is not installed
        return Path(__file__).resolve().parents[2] / "sweeps"
