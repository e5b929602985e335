"""A multilayer perceptron, for inputs that are vectors."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class MLP(nn.Module):
    """Linear layers, each but the last followed by dropout and ReLU.

    Needs ``mlp_width``, ``mlp_depth`` (at least 2 layers) and ``mlp_dropout`` in ``hparams``.
    """

    def __init__(self, n_inputs: int, n_outputs: int, hparams: dict[str, Any]):
        super().__init__()
        width = hparams["mlp_width"]
        self.input = nn.Linear(n_inputs, width)
        self.dropout = nn.Dropout(hparams["mlp_dropout"])
        self.hiddens = nn.ModuleList(nn.Linear(width, width) for _ in range(hparams["mlp_depth"] - 2))
        self.output = nn.Linear(width, n_outputs)
        self.n_outputs = n_outputs
        self.activation = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, n_inputs) to (B, n_outputs)."""
        for layer in (self.input, *self.hiddens):
            x = torch.relu(self.dropout(layer(x)))
        return self.activation(self.output(x))
