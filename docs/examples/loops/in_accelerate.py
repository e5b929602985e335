"""RoGA with Accelerate: prepare the model first, so that the optimizer is made with the model that the ranks share.

$ pip install 'roga-domainbed[integrations]'
$ python in_accelerate.py
$ accelerate launch --cpu --num_processes 2 in_accelerate.py
"""

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from rotated_digits import ANGLES, accuracy, small_network, turned
from torch.utils.data import DataLoader

from roga_domainbed.optim import RoGA

accelerator = Accelerator(cpu=True)
set_seed(0)
network = small_network()
model = accelerator.prepare(network)
optimizer = accelerator.prepare(
    RoGA(model.parameters(), torch.optim.Adam, lr=0.002, rho=0.02, model=model, max_grad_norm=5.0)
)
loaders = [
    accelerator.prepare(DataLoader(turned(angle), batch_size=32, shuffle=True, drop_last=True))
    for angle in ANGLES
]
for step, batches in enumerate(zip(*loaders, strict=False)):
    optimizer.step([lambda x=x, y=y: F.cross_entropy(model(x), y) for x, y in batches])
    if step % 10 == 0:
        accelerator.print(f"step {step}: loss {optimizer.optimizer.report['loss']:.3f}")
    if step == 20:
        break
accelerator.print(f"held-out accuracy {accuracy(accelerator.unwrap_model(model)):.3f}")
