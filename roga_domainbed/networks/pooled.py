"""A network without its classifier, with what DomainBed puts after it: dropout, a slot, frozen batch norms."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class PooledFeaturizer(nn.Module):
    """``network``, then dropout (``hparams['resnet_dropout']``), then ``activation``.

    Attributes:
        n_outputs: width of the features.
        network: the backbone; gives (B, n_outputs).
        activation: applied last; the identity, a slot that some DomainBed algorithms replace.
    """

    def __init__(self, network: nn.Module, n_outputs: int, hparams: dict[str, Any]):
        super().__init__()
        self.n_outputs = n_outputs
        self.network = network
        self.dropout = nn.Dropout(hparams.get("resnet_dropout", 0.0))
        self.activation = nn.Identity()
        self._freeze_bn = hparams.get("freeze_bn", False)
        self.train()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, n_outputs)."""
        return self.activation(self.dropout(self.network(x)))

    def train(self, mode: bool = True) -> PooledFeaturizer:
        """As ``nn.Module.train``, but with ``freeze_bn`` the batch norms keep their running statistics."""
        super().train(mode)
        if self._freeze_bn:
            for module in self.network.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self
