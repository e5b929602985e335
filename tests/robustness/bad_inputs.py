"""Cases of every subcommand: odd arguments, files that are no files, damaged bytes, well-formed nonsense."""

from __future__ import annotations

import argparse
import importlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import evil
from commands import Case
from world import CROPS, World


@dataclass(frozen=True)
class Target:
    """A file that a command reads.

    Attributes:
        name: the file, for people.
        file: the file in the case's folder.
        copy: the folder of the world that is copied, and which parts of it (none: all).
        command: the command line.
        form: what is in it: json, jsonl, csv, yaml, parquet, model, or empty for pixels and the like.
        required: the command can do nothing without it.
        same: the command, on damaged content, gives the output of sound content or fails.
    """

    name: str
    file: str
    copy: tuple[str, ...]
    command: str
    form: str = ""
    required: bool = True
    same: str | None = None


OWN, OWN_IMAGES, CLIP = ("data", "Own"), ("own", "images"), ("sources", "clip.mp4")
DFDC, FFPP, CELEB = ("sources", "dfdc"), ("sources", "ffpp"), ("sources", "celebdf2")
MANIFEST, PICTURE = "data/Own/manifest.parquet", "own/images/real/1.png"
CELEB_LIST = "sources/celebdf2/List_of_testing_videos.txt"
NEW = "--data_dir new"


def targets(world: World) -> list[Target]:
    job = f"sweep/{next(path.parent.name for path in sorted((world / 'sweep').glob('*/results.jsonl')))}"
    run, images = world / "run", world / "own" / "images"
    model = ("run", "model.pkl", "results.jsonl", "done")
    dfdc = "sources/dfdc/dfdc_train_part_0"
    one_job = partial(Target, copy=("sweep",), required=False)
    crops = " ".join(CROPS)
    return [
        Target("records", "run/results.jsonl", model, "collect-results --input_dir run", "jsonl"),
        one_job("records", f"{job}/results.jsonl", command="collect-results --input_dir sweep", form="jsonl"),
        one_job(
            "records",
            f"{job}/results.jsonl",
            command="report --input_dir sweep --output a.html",
            form="jsonl",
        ),
        one_job(
            "scores",
            f"{job}/scores.parquet",
            command="report --input_dir sweep --output a.html",
            form="parquet",
        ),
        *(
            Target("packed records", "packed/records.parquet", ("packed",), command, "parquet")
            for command in (
                "collect-results --input_dir packed",
                "sweep status --output_dir packed",
                "sweep unpack --output_dir new --from packed",
            )
        ),
        *(
            Target("packed scores", "packed/scores.parquet", ("packed",), command, "parquet", required=False)
            for command in (
                "report --input_dir packed --output a.html",
                "sweep unpack --output_dir new --from packed",
            )
        ),
        one_job("job.json", f"{job}/job.json", command="sweep status --output_dir sweep", form="json"),
        one_job(
            "job.json",
            f"{job}/job.json",
            command=f"sweep delete_incomplete --output_dir sweep --skip_confirmation --preset {world / 'preset.yaml'}",
            form="json",
        ),
        Target(
            "preset",
            "preset.yaml",
            ("preset.yaml",),
            "sweep launch --preset preset.yaml --output_dir new --dry-run",
            "yaml",
        ),
        Target("model", "run/model.pkl", model, f"evaluate run --folder {images}", "model", same="evaluate"),
        Target("model", "run/model.pkl", model, f"predict run {images} --no_detect", "model", same="predict"),
        Target("records", "run/results.jsonl", model, "evaluate run --part test", "jsonl", required=False),
        Target("manifest", MANIFEST, OWN, "data verify Own --data_dir data", "parquet"),
        Target("manifest", MANIFEST, OWN, "data stats Own --data_dir data", "parquet"),
        Target("manifest", MANIFEST, OWN, f"evaluate {run} --folder data/Own", "parquet"),
        Target("image", PICTURE, OWN_IMAGES, f"predict {run} own/images --no_detect", required=False),
        Target("image", PICTURE, OWN_IMAGES, f"evaluate {run} --folder own/images", required=False),
        Target("image", "data/Own/A/0_real/real0/0000.png", OWN, "data verify Own --data_dir data"),
        Target(
            "video", "sources/clip.mp4", CLIP, f"predict {run} sources/clip.mp4 --detector squares --size 32"
        ),
        Target(
            "list",
            "own/list.csv",
            ("own",),
            "prepare csv --list own/list.csv --name New --data_dir new --link symlink",
            "csv",
        ),
        Target(
            "metadata.json",
            f"{dfdc}/metadata.json",
            DFDC,
            f"prepare dfdc --source sources/dfdc {NEW} {crops}",
            "json",
        ),
        Target(
            "video",
            f"{dfdc}/aaaa.mp4",
            DFDC,
            f"prepare dfdc --source sources/dfdc {NEW} {crops}",
            required=False,
        ),
        Target(
            "splits",
            "sources/ffpp/splits/train.json",
            FFPP,
            f"prepare ffpp --source sources/ffpp {NEW} {crops}",
            "json",
        ),
        Target("list", CELEB_LIST, CELEB, f"prepare celebdf2 --source sources/celebdf2 {NEW} {crops}"),
    ]


def cases(world: World, n: int, seed: int) -> Iterator[Case]:
    """``n`` cases: a fifth arguments, a fifth things that are no files, the rest damaged and odd content."""
    rng = random.Random(seed)
    every = list(targets(world))
    kinds = [(target, kind) for target in every for kind in evil.KINDS]
    yield from _sample(kinds, n // 5, rng, lambda pair: _no_file(world, *pair))
    options = list(_options(world))
    yield from _sample(options, n // 5, rng, lambda option: _argument(world, *option, rng.choice(evil.TEXTS)))
    for _ in range(n - 2 * (n // 5)):
        target = rng.choice(every)
        change = _CHANGES.get(target.form) if rng.random() < 0.6 else None
        yield _content(world, target, rng.randrange(2**32), change)


def _sample(things: list, n: int, rng: random.Random, case: Callable[[Any], Case]) -> Iterator[Case]:
    """Each of ``things`` as often as any other, in a drawn order."""
    drawn: list = []
    while len(drawn) < n:
        drawn += rng.sample(things, len(things))
    yield from map(case, drawn[:n])


def _no_file(world: World, target: Target, kind: str) -> Case:
    def prepare(here: Path) -> None:
        _copied(world, target, here)
        evil.put(kind, here / target.file)

    fails = target.required and kind not in ("empty", "large", "dangling link")
    return Case(
        f"{target.name} of {target.command.split()[0]} is {kind}",
        target.command.split(),
        prepare,
        must_fail=fails,
    )


def _copied(world: World, target: Target, here: Path) -> None:
    source = world / target.copy[0]
    if source.is_file():
        (here / target.copy[0]).write_bytes(source.read_bytes())
    else:
        world.copy(target.copy[0], here, *target.copy[1:])


def _content(world: World, target: Target, seed: int, change: Callable | None) -> Case:
    case = Case(f"{target.name} of {target.command.split()[0]}, drawn by {seed}", target.command.split())

    def prepare(here: Path) -> None:
        _copied(world, target, here)
        rng = random.Random(seed)
        path = here / target.file
        if change is not None:
            what = change(path, rng)
        else:
            what, content = evil.bytes_of(path.read_bytes(), rng)
            path.write_bytes(content)
        case.name = f"{target.name} of {target.command.split()[0]}: {what}"

    case.prepare = prepare
    if target.same is not None:
        case.same = world.clean[target.same]
    return case


def _text(change: Callable[[str, random.Random], tuple[str, str]], path: Path, rng: random.Random) -> str:
    what, text = change(path.read_text(), rng)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return what


def _lines(path: Path, rng: random.Random) -> str:
    lines = path.read_text().splitlines()
    number = rng.randrange(len(lines))
    what, lines[number] = evil.json_of(lines[number], rng)
    path.write_text("\n".join(lines) + "\n")
    return f"line {number + 1}: {what}"


def _yaml(path: Path, rng: random.Random) -> str:
    import yaml

    plain = json.dumps(yaml.safe_load(path.read_text()))  # JSON is YAML
    what, text = evil.json_of(plain, rng)
    if rng.random() < 0.3:
        key, value = rng.choice(list(json.loads(plain))), rng.choice(evil.YAML_VALUES)
        what, text = (
            f"{key}: {value}",
            f"{plain[:-1]}, other: 0}}".replace(f'"{key}"', f'"{key}": {value}, "x"'),
        )
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return what


def _parquet(path: Path, rng: random.Random) -> str:
    import pandas as pd

    rows = pd.read_parquet(path)
    column = rng.choice(list(rows.columns))
    values = {
        "missing": None,
        "lists": [[1, 2]] * len(rows),
        "mappings": [{"a": 1}] * len(rows),
        "bytes": [b"\xff"] * len(rows),
        "numbers": range(len(rows)),
        "NaN": [float("nan")] * len(rows),
        "None": [None] * len(rows),
        "dates": pd.Timestamp("2020-01-01"),
        "escapes": ["\x1b[31m"] * len(rows),
        "above": ["../../../etc/passwd"] * len(rows),
        "absolute": ["/etc/passwd"] * len(rows),
        "long": ["x" * 100_000] * len(rows),
        "negative": [-1] * len(rows),
        "huge": [2**63 - 1] * len(rows),
        "true": [True] * len(rows),
        "categories": pd.Categorical(["a"] * len(rows)),
    }
    way = rng.choice([*values, "rows twice", "no rows", "order turned round"])
    if way == "missing":
        rows = rows.drop(columns=column)
    elif way == "rows twice":
        rows = pd.concat([rows, rows])
    elif way == "no rows":
        rows = rows[:0]
    elif way == "order turned round":
        rows[column] = list(rows[column])[::-1]
    else:
        rows[column] = values[way]
    rows.to_parquet(path, index=False)
    return f"{column}: {way}"


def _model(path: Path, rng: random.Random) -> str:
    import torch

    saved = torch.load(path, weights_only=True)
    values = [None, True, -1, 0, 10**400, 1e999, "", "\x1b[31m", "../../x", [], {}, [1, "x"], (0, 0, 0)]
    values += [(3, 10**6, 10**6), {"a": [1]}, torch.full((3,), float("nan")), torch.zeros(0)]
    values += [torch.zeros(2, 2, dtype=torch.int8)]
    path_of = [(key,) for key in saved]
    path_of += [(key, inner) for key, value in saved.items() if isinstance(value, dict) for inner in value]
    keys = rng.choice(path_of)
    parent = saved
    for key in keys[:-1]:
        parent = parent[key]
    way = rng.choice(["value"] * 5 + ["missing", "NaN"])
    if way == "missing":
        del parent[keys[-1]]
    elif way == "NaN" and isinstance(parent[keys[-1]], torch.Tensor) and parent[keys[-1]].is_floating_point():
        parent[keys[-1]].data[(0,) * parent[keys[-1]].dim()] = float("nan")
    else:
        value = rng.choice(values)
        way, parent[keys[-1]] = str(value)[:30], value
    torch.save(saved, path)
    return f"{'.'.join(map(str, keys))}: {way}"


_CHANGES = {
    "json": partial(_text, evil.json_of),
    "jsonl": _lines,
    "csv": partial(_text, evil.csv_of),
    "yaml": _yaml,
    "parquet": _parquet,
    "model": _model,
}


def _options(world: World) -> Iterator[tuple[list[str], argparse.Action]]:
    """Every option of every subcommand, with a command line that is otherwise sound."""
    from roga_domainbed.cli import COMMANDS

    run, images, sweep = world / "run", world / "own" / "images", world / "sweep"
    new = f"--list {world / 'own' / 'list.csv'} --name New --data_dir new --link symlink"
    bases = {
        "demo": "demo --output_dir demo-out --steps nothing",
        "list": "list",
        "data": f"data stats Own --data_dir {world / 'data'}",
        "audit": f"audit {world / 'data'} --dataset SynthFake",
        "sweep": f"sweep launch --preset {world / 'preset.yaml'} --output_dir new --dry-run",
        "collect-results": f"collect-results --input_dir {sweep} --output table.txt",
        "report": f"report --input_dir {sweep} --output page.html",
        "evaluate": f"evaluate {run} --folder {images}",
        "predict": f"predict {run} {images} --no_detect",
        "export": f"export {run} --format torchscript --output detector.pt",
        "doctor": "doctor",
        "upstream": "upstream",
        "prepare": f"prepare csv {new}",
    }
    lines = {command: line.split() for command, line in bases.items()} | {
        "train": world.train("--steps", "1")
    }
    for command, base in lines.items():
        module = importlib.import_module(COMMANDS[command][0])
        parser = argparse.ArgumentParser()
        module.add_arguments(parser)
        for action in _leaves(parser, base[1:]):
            if action.dest not in ("help", "full", "overwrite", "compile"):  # compiling takes minutes
                yield base, action


def _leaves(parser: argparse.ArgumentParser, words: list[str]) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield action
            for word in words:
                if word in action.choices:
                    yield from _leaves(action.choices[word], [])
        else:
            yield action


def _argument(world: World, base: list[str], action: argparse.Action, text: str) -> Case:
    def prepare(here: Path) -> None:
        evil.put("pipe", here / "pipe")
        evil.put("link to itself", here / "loop")
        evil.put("empty", here / "empty")

    option = max(action.option_strings, key=len, default=None)
    argv = [*base, f"{option}={text}"] if option else [base[0], text, *base[2:]]
    if option and action.nargs == 0:
        argv = [*base, option]
    number = action.type in (int, float)
    fails = number and _not_a_number(action.type, text)
    return Case(f"{base[0]} {option or action.dest} {text[:30]!a}", argv, prepare, must_fail=fails)


def _not_a_number(kind: type, text: str) -> bool:
    try:
        kind(text)
    except ValueError:
        return True
    return False
