"""A dataset: a list of environments, an input shape and a number of classes."""

import math

import torch
from torch.utils.data import TensorDataset

from roga_domainbed.host.backend import host


class TwoMoons(host().datasets.MultipleDomainDataset):
    """Two interleaved half circles of 300 points each, seen under three rotations."""

    ENVIRONMENTS = ["0", "45", "90"]
    N_STEPS = 300
    CHECKPOINT_FREQ = 100
    N_WORKERS = 0

    def __init__(self, root, test_envs, hparams):
        super().__init__()
        self.datasets = [
            _moons(math.radians(float(name)), seed) for seed, name in enumerate(self.ENVIRONMENTS)
        ]
        self.input_shape = (2,)
        self.num_classes = 2


def _moons(angle, seed):
    generator = torch.Generator().manual_seed(seed)
    t = torch.rand(600, generator=generator) * math.pi
    y = torch.arange(600) % 2
    x = torch.stack([torch.cos(t) * (1 - 2 * y) + y, torch.sin(t) * (1 - 2 * y) + y / 2], 1)
    x += 0.1 * torch.randn(x.shape, generator=generator)
    rotation = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return TensorDataset(x @ rotation.T, y)
