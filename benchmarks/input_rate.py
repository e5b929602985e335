"""What reading costs: processor time of an image on each input path, and what of it a training loop feels.

    python benchmarks/input_rate.py [--steps 12] [--network meso4]

Three environments of 400 JPEG files of 256 × 256, DomainBed's augmentation to 224 × 224, minibatches of 8 each.

First part, one thread, processor time: ``exact`` is torchvision's transform on PIL images, what DomainBed does;
``fast`` decodes once and augments minibatches, its first reading apart from the later ones. Second part, wall time:
images a second of ERM's step on a resident minibatch against the same steps fed by the fast path, in turns, so that a
machine that drifts drifts for both.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path

import torch
from whole_job import erm, machine, make_images

from roga_domainbed.engine.datasets import MultipleEnvironmentImageFolder
from roga_domainbed.input.minibatches import IndexSampler
from roga_domainbed.input.path import InputOptions, InputPath
from roga_domainbed.processes import keep_freed_memory

BATCH = 8
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def stream(dataset, mode, steps, n_workers=0):
    reader = InputPath(dataset, InputOptions(mode), name="PACS", seed=0, n_workers=n_workers, device=DEVICE)
    draws = [IndexSampler(range(len(dataset[env])), BATCH) for env in (1, 2, 3)]
    return reader.minibatches((1, 2, 3), draws, "minibatch", steps)


def processor_ms(batches, steps):
    """Median processor time of an image."""
    spent = []
    for _ in range(steps):
        start = time.process_time()
        next(batches)
        spent.append(1000 * (time.process_time() - start) / (3 * BATCH))
    return statistics.median(spent)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--network", default="meso4")
    args = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory(prefix="input-rate-") as scratch:
        make_images(Path(scratch))
        measure(MultipleEnvironmentImageFolder(Path(scratch, "PACS"), [0], True, {}), args)


def measure(dataset, args):
    print(f"{machine()}, {DEVICE}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    exact = processor_ms(stream(dataset, "exact", range(args.steps)), args.steps)
    once = itertools.cycle([0])  # the same step again: all its images are kept
    first = processor_ms(stream(dataset, "fast", range(args.steps)), args.steps)
    again = stream(dataset, "fast", itertools.islice(once, args.steps + 1))
    next(again)
    kept = processor_ms(again, args.steps)
    print("\nprocessor time of a training image, ms")
    for name, value in (("exact", exact), ("fast, first reading", first), ("fast, kept", kept)):
        print(f"  {name:<20} {value:6.2f}   {exact / value:4.1f} x exact")

    torch.set_num_threads(threads)
    algorithm = erm({"backbone": args.network, "pretrained": False}, DEVICE)
    batches = stream(dataset, "fast", range(args.steps + 3), n_workers=1)
    resident = next(batches)
    bare, fed = [], []
    for step in range(args.steps + 2):
        start = time.perf_counter()
        algorithm.update(resident)
        between = time.perf_counter()
        algorithm.update(next(batches))
        if step >= 2:
            bare.append(between - start)
            fed.append(time.perf_counter() - between)
    images = 3 * BATCH
    print(f"\nERM, {args.network}, images a second ({threads} threads)")
    print(f"  bare step, resident data   {images / statistics.median(bare):8.1f}")
    print(
        f"  fed by the fast path       {images / statistics.median(fed):8.1f}   "
        f"{statistics.median(bare) / statistics.median(fed):.2f} of the bare step"
    )


if __name__ == "__main__":
    main()
