"""A whole training run, DomainBed's own train against ours: wall time and memory of all its processes.

    DOMAINBED_HOME=… python benchmarks/whole_job.py [--network meso4 resnet18] [--sides upstream ours engine network]

ERM on four environments of 2 classes × 200 JPEG files of 256 × 256 pixels, 8 images of each environment a step; the
files are made first, with a fixed seed. Both sides are a command of this package in a process of its own:

    upstream   roga-domainbed upstream train   the checkout's unmodified script with its loaders
    ours       roga-domainbed train            on the same checkout: the same classes, data set and transforms
    engine     roga-domainbed train            without a checkout
    network    the same steps and evaluations as ours on one resident minibatch: what is left when images cost nothing

meso4 takes 200 steps and is evaluated at steps 0, 100 and 199; resnet18 (random weights) takes 40 and is evaluated at
0 and 39. Processor time is of all processes together. Memory is the proportional set size of all processes of the
command, sampled each second: memory that processes share counts once. Sampling 89 processes takes half a core, so
memory is taken from a second run of a fifth of the steps (of meso4 alone), and nothing disturbs the run that is timed.
The network's side has the time of the steps and evaluations alone and the memory of its process, which excludes the
decoded images.
"""

import argparse
import contextlib
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from roga_domainbed.processes import keep_freed_memory
from roga_domainbed.trainer.precision import prepare
from roga_domainbed.upstream import bridge

ENVIRONMENTS = ("art_painting", "cartoon", "photo", "sketch")  # PACS' folders, with two classes
CLASSES = ("dog", "elephant")
SIDES = ("upstream", "ours", "engine", "network")
IMAGES, SIDE = 200, 256
#: network → (hparams, steps, evaluation every, bound on the wall time, bound on memory)
JOBS = {
    "meso4": ({"backbone": "meso4", "lr": 1e-3}, 200, 100, 0.25, 0.25),
    "resnet18": ({"backbone": "resnet18", "pretrained": False}, 40, 40, 0.7, None),
}


def make_images(root):
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((SIDE, SIDE, 3), dtype=np.float32)
    for environment in ENVIRONMENTS:
        for label, name in enumerate(CLASSES):
            folder = root / "PACS" / environment / name
            folder.mkdir(parents=True)
            for number in range(IMAGES):
                small = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                image = np.asarray(Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
                noisy = image + (6 + 3 * label) * np.roll(noise, rng.integers(SIDE, size=2), (0, 1))
                Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(
                    folder / f"{number:03d}.jpg", quality=95
                )


def schedule(network):
    """(steps, evaluation every, the steps that are evaluated) of a job."""
    steps, every = JOBS[network][1:3]
    return steps, every, sorted({*range(0, steps, every), steps - 1})


def machine():
    """What a measurement was taken on, for its first line."""
    return (
        f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; Python "
        f"{platform.python_version()}, torch {torch.__version__}"
    )


def erm(hparams, device):
    """ERM on PACS' images and two classes, as ``train`` prepares it."""
    host = bridge.register()
    hparams = {**host.hparams_registry.default_hparams("ERM", "PACS"), **hparams}
    algorithm = host.algorithms.get_algorithm_class("ERM")((3, 224, 224), 2, 3, hparams).to(device)
    prepare(algorithm, "fp32", device, compiled=False)
    return algorithm


def command(side, data_dir, out, network, fraction=1):
    """The command of a side; ``fraction`` 5 takes a fifth of the steps, evaluated as often."""
    hparams, *numbers = JOBS[network][:3]
    steps, every = (number // fraction for number in numbers)
    script = ["upstream", "train"] if side == "upstream" else ["train"]
    arguments = [
        *("--data_dir", data_dir, "--dataset", "PACS", "--algorithm", "ERM", "--test_envs", "0"),
        *("--steps", steps, "--checkpoint_freq", every, "--output_dir", out, "--skip_model_save"),
        *("--hparams", json.dumps({"batch_size": 8, **hparams})),
    ]
    return [sys.executable, "-m", "roga_domainbed", *script, *map(str, arguments)]


def network_alone(network):
    """Print the wall and processor seconds of a job's steps and evaluations, and the process's peak in MiB."""
    steps, _, evaluated = schedule(network)
    keep_freed_memory()
    algorithm = erm(JOBS[network][0], torch.device("cpu"))
    minibatches = [(torch.randn(8, 3, 224, 224), torch.randint(2, (8,))) for _ in ENVIRONMENTS[1:]]
    x = torch.cat([x for x, _ in minibatches])[:16]  # as many as our evaluation takes at once
    start = time.perf_counter(), time.process_time()
    for step in range(steps):
        if step in evaluated:
            algorithm.eval()
            with torch.inference_mode():
                for _ in range(8 * IMAGES // len(x)):
                    algorithm.predict(x)
            algorithm.train()
        algorithm.update(minibatches)
    wall, processor = time.perf_counter() - start[0], time.process_time() - start[1]
    print(wall, processor, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def timed(argv, environment):
    """(wall seconds, processor seconds) of a command and everything it starts."""
    start, before = time.perf_counter(), processor_seconds()
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(argv)}\n{done.stderr[-3000:]}")
    return time.perf_counter() - start, processor_seconds() - before


def processor_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def watched(argv, environment):
    """(peak MiB, most processes) of a command and everything it starts."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(argv, env=environment, start_new_session=True, **quiet)
    peak, most = 0, 0
    while process.poll() is None:
        kib = proportional_kib(process.pid)
        peak, most = max(peak, sum(kib)), max(most, len(kib))
        time.sleep(1)
    if process.returncode:
        sys.exit(f"{' '.join(argv)} ended with {process.returncode}")
    return peak / 1024, most


def proportional_kib(session):
    """The proportional set size of each process of a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                found += re.findall(r"^Pss: +(\d+)", (folder / "smaps_rollup").read_text(), re.MULTILINE)
    return [int(kib) for kib in found]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    # How this script calls itself for the network's side.
    parser.add_argument("--network-alone", choices=JOBS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.network_alone:
        return network_alone(args.network_alone)
    sides = args.sides
    if "DOMAINBED_HOME" not in os.environ:
        sides = [side for side in sides if side in ("engine", "network")]
        print("DOMAINBED_HOME is not set: only the engine is measured")
    print(f"{machine()}, CUDA {torch.cuda.is_available()}")
    with tempfile.TemporaryDirectory(prefix="whole-job-") as scratch:
        make_images(Path(scratch, "data"))
        met = [compare(network, sides, Path(scratch)) for network in args.network]
    sys.exit(not all(met))


def measure(network, side, scratch):
    """Wall s, processor s, peak MiB, processes and ms a step of one side; NaN where it is not measured."""
    environment = dict(os.environ)
    if side == "network":
        argv = [sys.executable, __file__, "--network-alone", network]
        alone = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
        return *map(float, alone.stdout.split()), 1, float("nan")
    if side == "engine":
        environment.pop("DOMAINBED_HOME", None)
    out = scratch / f"{network}-{side}"
    spent = timed(command(side, scratch / "data", out, network), environment)
    records = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == schedule(network)[2]
    memory = float("nan"), float("nan")
    if JOBS[network][4]:
        shorter = command(side, scratch / "data", out.with_suffix(".memory"), network, fraction=5)
        memory = watched(shorter, environment)
    return *spent, *memory, 1000 * float(np.mean([record["step_time"] for record in records[1:]]))


def compare(network, sides, scratch):
    wall_bound, memory_bound = JOBS[network][3:]
    steps, _, evaluated = schedule(network)
    found = {side: measure(network, side, scratch) for side in sides}
    print(f"\n{network}: {steps} steps of 3 x 8 images, {len(evaluated)} evaluations of {8 * IMAGES}")
    titles = ("wall, s", "CPU, s", "peak, MiB", "processes", "ms a step", "wall", "CPU", "memory")
    print(" " * 12 + "".join(f"{title:>11}" for title in titles))
    base = found.get("upstream")
    met = True
    for side, values in found.items():
        ratios = [value / of for value, of in zip(values[:3], base[:3], strict=True)] if base else []
        formats = [".1f"] * 2 + [".0f"] * 3 + [".2f"] * len(ratios)
        cells = [
            "–" if x != x else format(x, how) for x, how in zip((*values, *ratios), formats, strict=True)
        ]
        print(f"{side:<12}" + "".join(f"{cell:>11}" for cell in cells))
        if base and side == "ours":
            met = ratios[0] <= wall_bound and (memory_bound is None or ratios[2] <= memory_bound)
    if base and "ours" in found:
        bounds = f"wall {wall_bound}" + (f", memory {memory_bound}" if memory_bound else "")
        print(f"bounds on ours: {bounds}: {'met' if met else 'MISSED'}")
    return met


if __name__ == "__main__":
    main()
