"""Kill a sweep's launcher and workers again and again: is every job done once, with an undisturbed sweep's records?

    python benchmarks/sweep_kills.py [--jobs 200] [--kills 5] [--seed 0]

ERM on Debug28, 5 steps a job, with the local launcher. When a random part of the jobs is done, SIGKILL ends the
launcher, or a worker, or both; then the same command is typed again, once in two terminals at the same time. The same
sweep runs undisturbed before it, in another folder. Compared are all records, without clocks and the folder's name.
Exit status 1 if anything differs, if a job has a step twice, or if a job was begun again after it was done.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kills import comparable

from roga_domainbed.launch.jobfile import attempts, read_job_file
from roga_domainbed.results.records import DONE, RECORDS, is_done


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        quiet, killed = Path(folder, "quiet"), Path(folder, "killed")
        start = time.monotonic()
        assert launch(quiet, args.jobs).wait() == 0
        seconds = time.monotonic() - start
        print(f"undisturbed: {count(quiet)} jobs in {seconds:.0f} s", flush=True)
        for number in range(args.kills):
            launchers = [launch(killed, args.jobs) for _ in range(2 if number == 2 else 1)]
            part = (number + rng.uniform(0.5, 1.5)) / (args.kills + 1)
            while count(killed) < part * args.jobs and any(x.poll() is None for x in launchers):
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 2 * seconds / args.jobs))  # anywhere in a job
            victims = kill(rng, launchers)
            print(f"{', '.join(victims)} killed with {count(killed)} jobs done", flush=True)
            for launcher in launchers:
                launcher.wait()
        statuses = []
        while count(killed) < args.jobs and len(statuses) < 10:
            statuses.append(launch(killed, args.jobs).wait())
        faults = compare(quiet, killed)
        made = [attempts(path.parent) for path in killed.glob(f"*/{RECORDS}")]
        print(
            f"{count(killed)} of {args.jobs} jobs done after {args.kills} kills and launches that ended with "
            f"{statuses}; {sum(made)} attempts, {sum(n > 1 for n in made)} jobs with more than one"
        )
        print("\n".join(faults) if faults else "every job done once; all records equal")
    return int(bool(faults))


def launch(folder: Path, jobs: int) -> subprocess.Popen:
    """The command that a user types; it leads a process group of its own."""
    trials, left = divmod(jobs, 4)
    assert not left, "jobs come by four hyper-parameter seeds"
    words = [
        "sweep",
        "launch",
        "--datasets",
        "Debug28",
        "--algorithms",
        "ERM",
        "--test_envs",
        "0",
        "--steps",
        "5",
    ]
    words += ["--n_trials", str(trials), "--n_hparams", "4", "--checkpoint_freq", "2", "--hparams"]
    words += ['{"batch_size": 8}', "--skip_model_save", "--output_dir", str(folder), "--skip_confirmation"]
    return subprocess.Popen(
        [sys.executable, "-m", "roga_domainbed", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def kill(rng: random.Random, launchers: list[subprocess.Popen]) -> list[str]:
    """SIGKILL what chance says of the launchers, one worker each, or both."""
    victims = []
    for launcher in launchers:
        what = rng.choice(["launcher", "worker", "launcher and worker"])
        workers = children(launcher.pid)
        if "worker" in what and workers:
            os.kill(rng.choice(workers), signal.SIGKILL)
        if "launcher" in what:
            launcher.kill()
        else:
            launcher.terminate()  # the next terminal's turn
        victims.append(what)
    return victims


def children(pid: int) -> list[int]:
    """The processes that ``pid`` has started and that live."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    threads = [path / "children" for path in Path(f"/proc/{pid}/task").iterdir()]
    return [int(word) for word in text.split()] or [
        int(word) for path in threads for word in path.read_text().split()
    ]


def count(folder: Path) -> int:
    """How many jobs are done."""
    return sum(1 for _ in folder.glob(f"*/{DONE}"))


def compare(quiet: Path, killed: Path) -> list[str]:
    """What is wrong with the second sweep."""
    found = []
    for path in sorted(quiet.glob(f"*/{RECORDS}")):
        name = path.parent.name
        other = killed / name
        if not is_done(other):
            found.append(f"{name} is not done")
            continue
        if comparable(path.parent) != comparable(other):
            found.append(f"{name} has other records")
        done = os.stat(other / DONE).st_mtime
        late = [n for n in range(1, attempts(other) + 1) if read_job_file(other, n).started > done]
        if late:
            found.append(f"{name} was begun again after it was done")
    return found


if __name__ == "__main__":
    sys.exit(main())
