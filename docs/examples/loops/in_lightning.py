"""RoGA in Lightning, by manual optimization: the closure that Lightning passes on returns the domains' closures.

$ pip install 'roga-domainbed[integrations]'
$ python in_lightning.py
"""

import lightning
import torch
import torch.nn.functional as F
from rotated_digits import ANGLES, accuracy, small_network, turned
from torch.utils.data import DataLoader

from roga_domainbed.optim import RoGA


class Detector(lightning.LightningModule):
    """A small network."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.network = small_network()

    def configure_optimizers(self):
        """The optimizer, as anywhere in Lightning."""
        return RoGA(self.network.parameters(), torch.optim.Adam, lr=0.002, rho=0.02, model=self.network)

    def training_step(self, batches, batch_idx):
        """``batches`` has one (x, y) a domain, because the loader is a list of loaders."""
        closures = [lambda x=x, y=y: F.cross_entropy(self.network(x), y) for x, y in batches]
        losses = self.optimizers().step(lambda: closures)
        self.log("loss", losses.mean(), prog_bar=True)


lightning.seed_everything(0)
detector = Detector()
loaders = [DataLoader(turned(angle), batch_size=32, shuffle=True) for angle in ANGLES]
trainer = lightning.Trainer(
    max_steps=20,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(detector, loaders)
print(f"global_step {trainer.global_step}, loss {trainer.callback_metrics['loss'].item():.3f}")
print(f"held-out accuracy {accuracy(detector.network):.3f}")
