"""Kill a run at twenty random instants and resume it each time: are weights and records those of the unbroken run?

    python benchmarks/kills.py [--kills 20] [--steps 60] [--seed 0]

RoGA with Adam on SynthFake, Meso-4 with its dropout of one half, on the CPU. SIGKILL comes at a uniformly random time
after each start: while data are opened, in a step, in an evaluation or while a checkpoint is written. Every second
start reads with 2 worker processes, the others with none. After each start the same command starts a second time, at
another random instant, and is killed as well. It must be refused while the first runs, or resume what the first left.
A run that ends before all kills were made is compared, and another one begins. Exit status 1 if a bit differs.

Records are compared completely except two clocks (step_time, data_time) and args.output_dir, the folder's name.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from datasets_ext.synthfake.generate import generate
from roga_domainbed.errors import RogaError
from roga_domainbed.results import records
from roga_domainbed.trainer.config import TrainConfig
from roga_domainbed.trainer.run import train

CLOCKS = ("step_time", "data_time")
REFUSED = 2


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0, help="of the kills' times")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        generate(root / "data", n_identities=6, n_frames=2)
        start = time.monotonic()
        assert run(root, "unbroken", args.steps, n_workers=0) == [0]
        seconds = time.monotonic() - start
        print(f"unbroken: {args.steps} steps in {seconds:.1f} s")
        kills = starts = refused = 0
        same = True
        for attempt in range(1000):
            name = f"broken_{attempt}"
            steps_seen = []
            while not records.is_done(root / name):
                # As long as the unbroken run took for a fifth of its steps, on average: starting takes its time too.
                draw = partial(rng.uniform, 0, 0.4 * seconds)
                kill_after = [draw(), draw()] if kills < args.kills else []
                ends = run(root, name, args.steps, 2 * (starts % 2), kill_after, second_after=draw())
                starts += 1
                assert set(ends) <= {0, REFUSED, -signal.SIGKILL}, (root / name / "err.txt").read_text()
                assert ends.count(0) <= 1, "the second command trained again what the first had finished"
                refused += REFUSED in ends
                if n := ends.count(-signal.SIGKILL):
                    kills += n
                    steps_seen.append(newest_checkpoint(root / name))
            differences = compare(root / "unbroken", root / name)
            same = same and not differences
            verdict = "differs: " + "; ".join(differences) if differences else "bit-identical"
            print(
                f"{name}: newest checkpoint after each kill {steps_seen}: {verdict}",
                flush=True,
            )
            if kills >= args.kills:
                break
    print(
        f"{kills} kills, {starts} starts, each with a second equal command ({refused} refused): "
        + ("all bit-identical" if same else "DIFFERENT")
    )
    return 0 if same else 1


def run(
    root: Path,
    name: str,
    steps: int,
    n_workers: int,
    kill_after: Sequence[float] = (),
    second_after: float | None = None,
) -> list[int]:
    """Train in a child, and once more in a second one; exit statuses in the order of ends, negative for a signal.

    Args:
        root: holds the data, and the runs' folders.
        name: the run's folder.
        steps: of the run.
        n_workers: of the run.
        kill_after: seconds from the start of each child to its SIGKILL.
        second_after: seconds from the first start to the second; None for no second one.
    """
    begin = time.monotonic()
    starts = [0.0] if second_after is None else [0.0, second_after]
    kills: dict[int, float] = {}
    running, ends = set(), []
    while running or starts:
        now = time.monotonic() - begin
        if starts and now >= starts[0]:
            starts.pop(0)
            pid = start(root, name, steps=steps, n_workers=n_workers, checkpoint_freq=10, checkpoint_every=2)
            if len(ends) + len(running) < len(kill_after):
                kills[pid] = now + kill_after[len(ends) + len(running)]
            running.add(pid)
        for pid in list(running):
            if now >= kills.get(pid, math.inf):
                os.kill(pid, signal.SIGKILL)
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                running.remove(pid)
                ends.append(os.waitstatus_to_exitcode(status))
        time.sleep(0.001)
    return ends


def start(root: Path, name: str, **config) -> int:
    """Train RoGA, or another, on ``root``/data in a child, into ``root``/``name``; its process id."""
    pid = os.fork()
    if pid == 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the whole life of the child
        status = 1
        try:
            train(
                TrainConfig(
                    data_dir=str(root / "data"),
                    dataset="SynthFake",
                    test_envs=[3],
                    hparams=json.dumps({"backbone": "meso4", "batch_size": 4}),
                    output_dir=str(root / name),
                    **{"algorithm": "RoGA", **config},
                )
            )
            status = 0
        except RogaError:
            status = REFUSED
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def newest_checkpoint(folder: Path) -> int | None:
    """Steps done in the newest checkpoint; None if there is none."""
    return max((int(path.stem.split("_")[1]) for path in folder.glob("checkpoint_*.pt")), default=None)


def compare(unbroken: Path, broken: Path) -> list[str]:
    """What differs between two finished runs."""
    a, b = (
        torch.load(folder / "model.pkl", weights_only=True)["model_dict"] for folder in (unbroken, broken)
    )
    found = [f"weights {key}" for key in a if not torch.equal(a[key], b[key])]
    one, other = (comparable(folder) for folder in (unbroken, broken))
    if one != other:
        found.append(f"records ({len(one)} and {len(other)} lines)")
    return found


def comparable(folder: Path) -> list[str]:
    """The records as JSON, without clocks and the folder's name."""
    lines = []
    for line in (folder / records.RECORDS).read_text().splitlines():
        record = json.loads(line)
        record["args"].pop("output_dir")
        lines.append(json.dumps({key: value for key, value in record.items() if key not in CLOCKS}))
    return lines


if __name__ == "__main__":
    sys.exit(main())
