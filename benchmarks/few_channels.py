"""Batch norm's backward pass in channels-last on a processor: torch's own against the one for few channels.

    python benchmarks/few_channels.py [--batch 24] [--side 112]

Wall time of one backward pass, the two in turns, median of pairs; with one thread and with all. Of 16 float32 channels
or more, and on one thread, ``FewChannelsBatchNorm2d`` leaves the pass to torch, so there both are the same.
"""

import argparse
import statistics
import time

import torch
from torch import nn
from whole_job import machine

from roga_domainbed.networks.few_channels import FewChannelsBatchNorm2d
from roga_domainbed.trainer.memory import keep_freed_memory


def seconds(layer, x, towards):
    y = layer(x)
    start = time.perf_counter()
    torch.autograd.grad(y, (x, layer.weight, layer.bias), towards)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--side", type=int, default=112)
    parser.add_argument("--pairs", type=int, default=15)
    args = parser.parse_args()
    keep_freed_memory()
    print(f"{machine()}\n{args.batch} images of {args.side} x {args.side}, ms")
    print("threads  channels    torch     ours  torch / ours")
    for threads in sorted({1, torch.get_num_threads()}):
        torch.set_num_threads(threads)
        for channels in (4, 8, 16, 32):
            x = torch.randn(args.batch, channels, args.side, args.side)
            x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
            towards = torch.randn_like(x)
            layers = nn.BatchNorm2d(channels), FewChannelsBatchNorm2d(channels)
            pairs = [[seconds(layer, x, towards) for layer in layers] for _ in range(args.pairs + 2)][2:]
            theirs, ours = (1000 * statistics.median(times) for times in zip(*pairs, strict=True))
            ratio = statistics.median(a / b for a, b in pairs)
            print(f"{threads:7} {channels:9} {theirs:8.2f} {ours:8.2f} {ratio:13.2f}")


if __name__ == "__main__":
    main()
