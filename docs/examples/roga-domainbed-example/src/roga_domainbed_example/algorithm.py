"""An algorithm: a subclass of the ERM of whichever DomainBed is in use."""

import torch
import torch.nn.functional as F

from roga_domainbed.catalog.hparams import HParam, uniform
from roga_domainbed.host.backend import host


class LabelSmoothingERM(host().algorithms.ERM):
    """ERM whose targets are smoothed (Szegedy et al., arXiv:1512.00567, Section 7)."""

    HPARAMS = (
        HParam(
            "smoothing",
            0.1,
            uniform(0.0, 0.3),
            "probability mass spread over all classes",
            at_least=0,
            below=1,
        ),
    )

    def update(self, minibatches, unlabeled=None):
        """One step on the pooled minibatches."""
        x = torch.cat([x for x, _ in minibatches])
        y = torch.cat([y for _, y in minibatches])
        loss = F.cross_entropy(self.predict(x), y, label_smoothing=self.hparams["smoothing"])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.item()}
