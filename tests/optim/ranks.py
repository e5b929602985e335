"""Processes of a script that find each other through a file."""

import subprocess
import sys

import torch


def results_of(script, world_size, folder):
    """What each rank of ``script`` saved, in the order of the ranks."""
    outputs = [folder / f"{rank}.pt" for rank in range(world_size)]
    ranks = [
        subprocess.Popen(
            [
                sys.executable,
                str(script),
                str(rank),
                str(world_size),
                str(folder / "rendezvous"),
                str(output),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, output in enumerate(outputs)
    ]
    try:
        errors = [rank.communicate(timeout=300)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0] * world_size, "\n".join(errors)
    return [torch.load(output, weights_only=False) for output in outputs]
