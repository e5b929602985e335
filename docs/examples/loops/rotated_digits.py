"""What the examples share: scikit-learn's digits, enlarged and turned by an angle, and a small network."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset
from torchvision.transforms.functional import resize, rotate

ANGLES = (0.0, 30.0, 60.0)
HELD_OUT = 45.0


def turned(angle: float) -> TensorDataset:
    """1,797 images (1, 32, 32) with values from 0 to 1, and their digits."""
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    return TensorDataset(rotate(resize(x, [32, 32]), angle), torch.tensor(digits.target))


def small_network() -> nn.Module:
    """Three convolutions with batch norm, a linear layer."""
    layers: list[nn.Module] = []
    for before, after in ((1, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 16, 10))


@torch.no_grad()
def accuracy(model: torch.nn.Module, device: str = "cpu") -> float:
    """Share of the held-out domain's digits that ``model`` names; it is in evaluation mode afterwards."""
    x, y = turned(HELD_OUT).tensors
    return (model.eval()(x.to(device)).argmax(1).cpu() == y).float().mean().item()
