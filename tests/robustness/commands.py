"""The pytest side of server.py: starts servers, runs cases on all processors, says what is wrong with an answer."""

from __future__ import annotations

import itertools
import json
import os
import queue
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
TIMEOUT_S = 60  # a loaded machine may take half of it for the data that a command makes


@dataclass
class Case:
    """A command with something wrong in its input.

    Attributes:
        name: what is wrong, for people.
        argv: the command line.
        prepare: called with the case's own folder, its working directory, to make what the command reads.
        must_fail: exit status 0 is a fault.
        same: exit status 0 is a fault unless the output is that of the command on sound input.
        extra: further fields of the server's case.
    """

    name: str
    argv: list[str]
    prepare: Callable[[Path], None] | None = None
    must_fail: bool = False
    same: str | None = None
    extra: dict = field(default_factory=dict)


class Server:
    """One process that runs commands in forked children."""

    def __init__(self):
        environ = dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=os.pathsep.join(sys.path))
        environ.pop("DOMAINBED_HOME", None)
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environ,
        )
        assert self._process.stdout.readline() == "ready\n"

    def run(self, argv: list[str], cwd: str | Path, **extra) -> dict:
        """Run one command; see server.py for ``extra`` and what comes back."""
        case = {"argv": argv, "cwd": str(cwd), "timeout": TIMEOUT_S, **extra}
        print(json.dumps(case), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        with self._process:
            self._process.stdin.close()


FOREIGN = {
    "out.txt": b"a diary\n",
    "model-best.pkl": b"weights of somebody",
    "movie.mkv.part": b"half a film",
}


def run_all(servers: list[Server], cases: Iterable[Case], folder: Path) -> list[tuple[Case, dict, list[str]]]:
    """Run every case in a folder of its own, among foreign files; (case, answer, what is wrong with it)."""
    idle: queue.SimpleQueue = queue.SimpleQueue()
    for server in servers:
        idle.put(server)

    def run_one(number: int, case: Case) -> tuple[Case, dict, list[str]]:
        here = folder / f"{number:05d}"
        here.mkdir()
        for name, content in FOREIGN.items():
            (here / name).write_bytes(content)
        if case.prepare is not None:
            case.prepare(here)
        server = idle.get()
        try:
            answer = server.run(case.argv, **{"cwd": str(here), **case.extra})
        finally:
            idle.put(server)
        return case, answer, faults_of(case, answer, here)

    with ThreadPoolExecutor(len(servers)) as pool:
        return list(pool.map(run_one, itertools.count(), cases))


def faults_of(case: Case, answer: dict, here: Path) -> list[str]:
    """What no input may bring about."""
    wrong = []
    text = answer["stdout"] + answer["stderr"]
    if answer["hang"]:
        wrong.append("hangs")
    elif (
        answer["status"] < 0 and "kill_after" not in case.extra and case.extra.get("fault", [""])[0] != "kill"
    ):
        wrong.append(f"ended by signal {-answer['status']}")
    if "Traceback (most recent call last)" in text:
        wrong.append("traceback")
    if answer["status"] == 0 and case.must_fail:
        wrong.append("exit 0 on error")
    if answer["status"] == 0 and case.same is not None and answer["stdout"] != case.same:
        wrong.append("exit 0 with other numbers")
    if answer["status"] > 0 and not text.strip() and case.extra.get("stdout") is None:
        wrong.append("fails without a word")
    if "\x1b" in text:
        wrong.append("an escape sequence reaches the terminal")
    for name, content in FOREIGN.items():
        path = here / name
        if not path.is_file() or path.read_bytes() != content:
            wrong.append(f"foreign {name} changed")
    return wrong


def describe(case: Case, answer: dict, wrong: list[str]) -> str:
    """A failed case, to read and to repeat."""
    error = "\n    ".join(answer["stderr"].strip().splitlines()[-6:])
    argv = [argument if len(argument) < 200 else f"{argument[:200]!r}…" for argument in case.argv]
    head = f"{case.name}: {', '.join(wrong)} (status {answer['status']}, {answer['seconds']:.1f} s)"
    return f"{head}\n    {argv}\n    {error}"
