"""Does a long run grow? Resident memory over 1,000 steps with evaluation and checkpoints on.

    python benchmarks/flat_memory.py [--steps 1000] [--algorithm RoGA]

RoGA, or another, on SynthFake with Meso-4, an evaluation and a checkpoint every 50 steps, on the CPU. The resident
memory of the training process is read ten times a second; a row of the table is the mean over the steps between two
records. Exit status 1 if after the first fifth of the run any row is more than 2 % from the first of those rows.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import torch
from kills import start

from datasets_ext.synthfake.generate import generate
from roga_domainbed.catalog import ALGORITHMS
from roga_domainbed.results import records

TOLERANCE = 0.02
EVERY = 50


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--algorithm", choices=ALGORITHMS.names(), default="RoGA")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        generate(root / "data", n_identities=6, n_frames=2)
        often = {"checkpoint_freq": EVERY, "checkpoint_every": EVERY}
        pid = start(root, "run", algorithm=args.algorithm, steps=args.steps, n_workers=0, **often)
        resident: dict[int, list[int]] = {}
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            resident.setdefault(n_records(root / "run"), []).append(resident_bytes(pid))
            time.sleep(0.1)
        assert records.is_done(root / "run"), (root / "run" / "err.txt").read_text()
    # What comes after the last record is the end of the process.
    steps_of = {n: values for n, values in resident.items() if 0 < n <= -(-args.steps // EVERY)}
    means = {n: sum(values) / len(values) for n, values in steps_of.items()}
    warm = {n: mean for n, mean in means.items() if n * EVERY > args.steps / 5}
    first = next(iter(warm.values()))
    worst = max(abs(mean / first - 1) for mean in warm.values())
    for n, mean in means.items():
        print(f"steps {(n - 1) * EVERY:5d} to {min(n * EVERY, args.steps):5d}: {mean / 2**20:7.1f} MiB")
    print(
        f"after step {args.steps // 5}: at most {100 * worst:.2f} % from the first row (bound {100 * TOLERANCE:.0f} %)"
    )
    return 0 if worst <= TOLERANCE else 1


def n_records(folder: Path) -> int:
    """Lines of the records file."""
    path = folder / records.RECORDS
    return path.read_bytes().count(b"\n") if path.exists() else 0


def resident_bytes(pid: int) -> int:
    """Resident memory of a process, 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    sys.exit(main())
