"""Values, bytes and files that nobody expects, drawn from a seeded generator."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: As JSON text: what a field may hold instead of its value.
JSON_VALUES = [
    "null",
    "true",
    "-1",
    "0",
    "1.5",
    "NaN",
    "-Infinity",
    "1e999",
    str(2**63),
    str(2**64),
    "1" + "0" * 400,
    "9" * 5000,
    '""',
    '"nan"',
    '"../../../../tmp/x"',
    '"/etc/passwd"',
    r'"\u001b[31mred\u001b[0m"',
    r'"\ud800"',
    r'"a\u0000b"',
    '"=1+1"',
    '"' + "x" * 100_000 + '"',
    "[]",
    "{}",
    "[1, 2]",
    '[null, "x"]',
    '{"a": 1}',
    "[" * 3000 + "]" * 3000,
    "[" + ",".join("0" * 20_000) + "]",
]

YAML_VALUES = [
    "!!int foo",
    "!!set {x, y}",
    "!!binary aGVsbG8=",
    "2020-01-01",
    "&a [*a]",
    "!!python/object:os.system {}",
]

#: For options of the command line; lone surrogates stand for bytes that are not UTF-8.
TEXTS = [
    "",
    " ",
    "-1",
    "0",
    "1.5",
    "nan",
    "inf",
    "-inf",
    "1e400",
    str(2**64),
    "9" * 400,
    "9" * 5000,
    "None",
    "[]",
    "{}",
    "[" * 5000,
    '{"a": ' * 3000,
    '{"lr": 1e999}',
    '{"lr": ' + "1" * 5000 + "}",
    '{"batch_size": 1000000000}',
    '{"\\ud800": 1}',
    "../../nowhere",
    "/dev/null",
    "/dev/full",
    "/proc/self/mem",
    "/nonexistent/x",
    "a\x1b[31mb",
    "a\nb",
    "\udc80\udcff",
    "é😀",
    "=1+1",
    "$(touch x)",
    "--",
    "x" * 5000,
    "pipe",
    "loop",
    "empty",
    "out.txt",
]


def bytes_of(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """``content`` damaged in one of the ways of broken disks, transfers and editors; what was done, the result."""
    n = len(content)
    place = rng.randrange(n + 1)
    length = rng.randrange(1, max(2, n // 4))
    ways: dict[str, Callable[[], bytes]] = {
        "cut off": lambda: content[:place],
        "bytes flipped": lambda: _flipped(content, rng, min(n, 200)),
        "one bit flipped": lambda: _flipped(content, rng, min(n, 1), bit=True),
        "a piece missing": lambda: content[:place] + content[place + length :],
        "a piece twice": lambda: content[: place + length] + content[place:],
        "a piece of zeros": lambda: content[:place] + bytes(length) + content[place + length :],
        "noise inside": lambda: content[:place] + rng.randbytes(length) + content[place:],
        "noise at the end": lambda: content + rng.randbytes(100),
        "noise": lambda: rng.randbytes(max(n, 10)),
        "empty": lambda: b"",
        "UTF-16": lambda: content.decode("latin-1").encode("utf-16"),
        "a line of Latin-1": lambda: content[:place] + b"\xe9\xe8\n" + content[place:],
        "line ends of Windows": lambda: content.replace(b"\n", b"\r\n"),
        "NUL bytes": lambda: content[:place] + b"\0" * 10 + content[place:],
        "twice": lambda: content + content,
    }
    name = rng.choice(list(ways))
    return name, ways[name]()


def _flipped(content: bytes, rng: random.Random, n: int, bit: bool = False) -> bytes:
    changed = bytearray(content)
    for place in rng.sample(range(len(content)), n) if content else ():
        changed[place] ^= 1 << rng.randrange(8) if bit else rng.randrange(1, 256)
    return bytes(changed)


def json_of(text: str, rng: random.Random) -> tuple[str, str]:
    """JSON with one field changed, missing, renamed or twice; what was done, the text."""
    value = json.loads(text)
    places = list(_places(value, ()))
    if not places:
        return "nothing in it", rng.choice(JSON_VALUES)
    path = rng.choice(places)
    way = rng.choice(["value"] * 6 + ["missing", "renamed", "twice"])
    where = ".".join(map(str, path))
    marker, evil = "\u2603evil\u2603", rng.choice(JSON_VALUES)
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    if way == "missing":
        del parent[path[-1]]
        return f"{where} missing", json.dumps(value)
    if way == "renamed" and isinstance(parent, dict):
        parent["env10000000_in_auc"] = parent.pop(path[-1])
        return f"{where} renamed", json.dumps(value)
    if way == "twice" and isinstance(parent, dict):
        parent[path[-1]] = marker
        twice = f"{evil}, {json.dumps(path[-1])}: {evil}"
        return f"{where} twice", json.dumps(value).replace(json.dumps(marker), twice)
    parent[path[-1]] = marker
    return f"{where} = {evil[:30]}", json.dumps(value).replace(json.dumps(marker), evil)


def _places(value: Any, path: tuple) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from _places(inner, (*path, key))


def csv_of(text: str, rng: random.Random) -> tuple[str, str]:
    """A CSV file with one cell changed."""
    rows = list(csv.reader(io.StringIO(text)))
    row, column = rng.randrange(len(rows)), rng.randrange(len(rows[0]))
    cell = rng.choice(
        ["", "-1", "2", "nan", "9" * 5000, "../../x", "/etc/passwd", "a\x1b[31m", "a\nb", 'a"b', "=1+1", "é"]
    )
    rows[row][column] = cell
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return f"cell {row},{column} = {cell[:20]!r}", out.getvalue()


#: What may stand in place of a file.
KINDS = (
    "pipe",
    "folder",
    "dangling link",
    "link to itself",
    "link to an endless device",
    "socket",
    "empty",
    "large",
)


def put(kind: str, path: Path) -> None:
    """Put a thing of ``KINDS`` in place of ``path``."""
    if path.is_dir() and not path.is_symlink():
        path.rename(path.with_name(f"{path.name}-before"))
    else:
        path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "dangling link":
        path.symlink_to("nowhere")
    elif kind == "link to itself":
        path.symlink_to(path)
    elif kind == "link to an endless device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as it:
            # A socket's path has at most 107 bytes.
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                it.bind(f"/proc/self/fd/{folder}/{path.name}")
            finally:
                os.close(folder)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "large":  # a sparse gigabyte of zeros
        with open(path, "wb") as file:
            file.truncate(2**30)
