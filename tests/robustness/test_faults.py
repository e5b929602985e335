"""A fault of the machine ends in a sentence, never in a lie; the same command afterwards completes what it began."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from commands import Case, describe, run_all
from world import CROPS, World, snapshot

CLOCKS = ("step_time", "data_time")


@dataclass(frozen=True)
class Work:
    """A command that writes.

    Attributes:
        argv: the command.
        product: what it has made in its folder, comparable; raises or returns None where that is not whole.
        seconds: how long it takes, about.
    """

    argv: list[str]
    product: Callable[[Path], Any]
    seconds: float


def trained(folder: Path) -> Any:
    """Records without clocks, and weights, of a finished run."""
    import torch

    assert (folder / "done").exists()
    records = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    for record in records:
        del record["args"]["output_dir"]
        record.pop("provenance", None)
    plain = [{key: value for key, value in record.items() if key not in CLOCKS} for record in records]
    model = folder / "model.pkl"
    weights = torch.load(model, weights_only=True)["model_dict"] if model.exists() else {}
    return plain, {name: value.numpy().tobytes() for name, value in weights.items()}


def swept(folder: Path) -> Any:
    jobs = sorted(path.parent for path in folder.glob("*/job.json"))
    assert len(jobs) == 2
    return [trained(job) for job in jobs]


def prepared(folder: Path) -> Any:
    found = snapshot(folder)
    assert "manifest.parquet" in found
    return {name: content for name, content in found.items() if name.endswith((".parquet", ".png"))}


def whole_page(path: Path) -> bool:
    text = path.read_text()
    assert text.rstrip().endswith("</html>")
    return True


def works(world: World) -> dict[str, Work]:
    run, images, sweep = str(world / "run"), str(world / "own" / "images"), str(world / "sweep")
    source = str(world / "sources" / "ffpp")
    preset = str(world / "preset.yaml")
    launch = ["sweep", "launch", "--preset", preset, "--output_dir", "new", "--skip_confirmation"]
    return {
        "train": Work(
            world.train("--steps", "6", "--checkpoint_every", "1"), lambda here: trained(here / "run"), 1
        ),
        "sweep": Work(launch, lambda here: swept(here / "new"), 6),
        "prepare": Work(
            ["prepare", "ffpp", "--source", source, "--data_dir", "new", *CROPS],
            lambda here: prepared(here / "new" / "FFPP"),
            1,
        ),
        "collect-results": Work(
            ["collect-results", "--input_dir", sweep, "--format", "csv", "--output", "table.csv"],
            lambda here: (here / "table.csv").read_bytes(),
            0.2,
        ),
        "report": Work(
            ["report", "--input_dir", sweep, "--output", "page.html"],
            lambda here: whole_page(here / "page.html"),
            1,
        ),
        "evaluate": Work(
            ["evaluate", run, "--folder", images, "--save_scores", "scores.parquet"],
            lambda here: (here / "scores.parquet").read_bytes(),
            0.3,
        ),
    }


def faults(rng: random.Random, seconds: float) -> Iterator[tuple[str, dict]]:
    """Name of a fault → what the server is told about it."""
    for code in ("ENOSPC", "EIO", "EACCES"):
        nth = rng.randrange(1, 6)
        function = rng.choice(["write", "replace", "mkdir", "rename"])
        yield f"{function} number {nth} fails with {code}", {"fault": ["fail", function, nth, code]}
    nth = rng.randrange(1, 6)
    function = rng.choice(["write", "replace"])
    yield f"killed at {function} number {nth}", {"fault": ["kill", function, nth]}
    for name in ("SIGKILL", "SIGTERM", "SIGINT"):
        after = rng.uniform(0, seconds)
        yield f"{name} after {after:.2f} s", {"kill_after": after, "kill_by": name}
    for size in (0, rng.randrange(1, 20_000)):
        yield f"no file may have more than {size} bytes", {"limits": {"RLIMIT_FSIZE": size}}
    n = rng.randrange(12, 40)
    yield f"at most {n} open files", {"limits": {"RLIMIT_NOFILE": n}}
    yield "standard output is full", {"stdout": "full"}
    yield "nobody reads standard output", {"stdout": "gone"}
    yield "standard output is closed", {"stdout": "closed"}
    environ = {
        "PYTHONIOENCODING": "ascii",
        "MPLBACKEND": "nope",
        "TMPDIR": "/nonexistent",
        "HOME": "/nonexistent",
    }
    yield "an environment of nonsense", {"environ": environ}


def drawn(every: list, work: Work, rng: random.Random) -> list:
    """All of them; of those of a command that takes seconds, a quarter."""
    return every if work.seconds < 3 else rng.sample(every, len(every) // 4)


@pytest.mark.parametrize(("rounds", "seed"), [(1, 0), pytest.param(4, 1, marks=pytest.mark.long)])
def test_faults(servers, world, tmp_path, capsys, rounds, seed):
    every = works(world)
    rng = random.Random(seed)
    (tmp_path / "sound").mkdir()
    sound = run_all(servers, [Case(name, work.argv) for name, work in every.items()], tmp_path / "sound")
    bad = [result for result in sound if result[2] or result[1]["status"]]
    assert not bad, "\n" + "\n".join(describe(*result) for result in bad)
    products = {
        name: work.product(tmp_path / "sound" / f"{number:05d}")
        for number, (name, work) in enumerate(every.items())
    }
    cases = [
        Case(f"{name}: {fault}", work.argv, extra=extra)
        for _ in range(rounds)
        for name, work in every.items()
        for fault, extra in drawn(list(faults(rng, work.seconds)), work, rng)
    ]
    (tmp_path / "faulty").mkdir()
    first = run_all(servers, cases, tmp_path / "faulty")
    failed, again = [], []
    for number, (case, answer, wrong) in enumerate(first):
        name = case.name.split(":")[0]
        folder = tmp_path / "faulty" / f"{number:05d}"
        if answer["status"] == 0 and complete(every[name], folder) != products[name]:
            wrong.append("exit 0 with the work undone")
        if wrong:
            failed.append((case, answer, wrong))
        again.append(replace(case, name=f"again after {case.name}", extra={"cwd": str(folder)}))
    (tmp_path / "again").mkdir()
    for number, (case, answer, wrong) in enumerate(run_all(servers, again, tmp_path / "again")):
        name = case.argv[0]
        if complete(every[name], tmp_path / "faulty" / f"{number:05d}") != products[name]:
            wrong.append("does not complete")
        if wrong:
            failed.append((case, answer, wrong))
    kinds = Counter(fault for _, _, wrong in failed for fault in wrong)
    with capsys.disabled():
        statuses = Counter(answer["status"] for _, answer, _ in first)
        print(f"\n{len(cases)} faults in {len(every)} commands, each command then run again")
        print(f"exit statuses {dict(statuses)}; faults: {dict(kinds) or 0}")
    assert not failed, "\n" + "\n".join(describe(*result) for result in failed)


def complete(work: Work, folder: Path) -> Any:
    try:
        return work.product(folder)
    except Exception as error:
        return f"not whole: {error!r}"
