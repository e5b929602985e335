"""What a step of an algorithm costs against a step of ERM.

    python benchmarks/step_cost.py [--pairs 30] [--network cnn28 resnet18] [--algorithms RoGA SAM …]

ERM and the method step in turn on the same minibatches, ERM A ERM B …; each ratio is a method's step over the
ERM step just before it, and the median of the pairs is reported, so a machine that drifts drifts for both.
The base optimizer is Adam: DomainBed's for ERM, ours steps fused (--plain_adam compares without that). Data are
resident: loading is not measured.
"""

import argparse
import platform
import statistics
import time

import torch
import torchvision

from roga_domainbed.algorithms import _sharpness
from roga_domainbed.catalog import ALGORITHMS
from roga_domainbed.catalog.hparams import resolve
from roga_domainbed.catalog.registry import load
from roga_domainbed.host.backend import host
from roga_domainbed.processes import keep_freed_memory

ALL = [name for name in ALGORITHMS.names() if name != "ERM"]
#: Those that are measured if none are named.
METHODS = [info.name for info in ALGORITHMS if info.plugin and info.idea in ("flatness", "gradients")]
DOMAINS = 3
#: network → (image side, minibatch of each domain, hparams, bound on RoGA's ratio)
NETWORKS = {
    "cnn28": (28, 32, {}, 2.1),
    "resnet18": (64, 16, {"backbone": "resnet18", "pretrained": False}, 2.5),
}


def build(name, side, hparams, device):
    torch.manual_seed(0)
    cls = host().algorithms.ERM if name == "ERM" else load(ALGORITHMS.get(name).target)
    own = resolve(_sharpness.SharpnessAlgorithm.HPARAMS if name == "ERM" else cls.HPARAMS)
    defaults = host().hparams_registry.default_hparams(name, "Debug28")
    return cls((3, side, side), 2, DOMAINS, {**defaults, **own, **hparams}).to(device)


def timed(algorithm, minibatches, device):
    start = time.perf_counter()
    algorithm.update(minibatches)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(network, pairs, device, methods):
    side, batch, hparams, bound = NETWORKS[network]
    generator = torch.Generator().manual_seed(0)
    minibatches = [
        (
            torch.randn(batch, 3, side, side, generator=generator).to(device),
            torch.randint(0, 2, (batch,), generator=generator).to(device),
        )
        for _ in range(DOMAINS)
    ]
    algorithms = {name: build(name, side, hparams, device) for name in ("ERM", *methods)}
    for algorithm in algorithms.values():
        for _ in range(3):
            algorithm.update(minibatches)
    ratios = {name: [] for name in methods}
    erm_seconds = []
    for _ in range(pairs):
        for name in methods:
            erm_seconds.append(timed(algorithms["ERM"], minibatches, device))
            ratios[name].append(timed(algorithms[name], minibatches, device) / erm_seconds[-1])
    print(f"\n{network}: {DOMAINS}x{batch} images of {side}x{side}, {pairs} pairs, {device}")
    print(f"  ERM {1000 * statistics.median(erm_seconds):8.2f} ms a step")
    for name in methods:
        low, middle, high = statistics.quantiles(ratios[name], n=4)
        note = f"   bound {bound}: {'met' if middle <= bound else 'MISSED'}" if name == "RoGA" else ""
        print(f"  {name:<16} {middle:5.2f} x ERM   (quartiles {low:.2f} to {high:.2f}){note}")
    return "RoGA" not in ratios or statistics.median(ratios["RoGA"]) <= bound


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--algorithms", nargs="+", choices=ALL, default=METHODS)
    parser.add_argument(
        "--plain_adam", action="store_true", help="the methods step with torch's default Adam"
    )
    args = parser.parse_args()
    if args.plain_adam:
        _sharpness._FUSED = None
    keep_freed_memory()  # as the trainer does
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, torchvision {torchvision.__version__}, "
        f"{torch.get_num_threads()} threads, {platform.machine()}, host {host().name}"
    )
    met = [measure(network, args.pairs, device, args.algorithms) for network in args.network]
    return 0 if all(met) else 1


if __name__ == "__main__":
    raise SystemExit(main())
