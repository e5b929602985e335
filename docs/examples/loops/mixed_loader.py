"""One DataLoader whose batches mix domains: a sampler gives each its share, and ``by_domain`` makes the closures.

$ python mixed_loader.py
"""

import torch
import torch.nn.functional as F
from rotated_digits import ANGLES, accuracy, small_network, turned
from torch.utils.data import DataLoader, TensorDataset

from roga_domainbed.optim import DomainBatchSampler, RoGA, by_domain

domains = [turned(angle).tensors for angle in ANGLES]
x = torch.cat([images for images, _ in domains])
y = torch.cat([labels for _, labels in domains])
domain = torch.arange(len(domains)).repeat_interleave(len(y) // len(domains))
sampler = DomainBatchSampler(domain, per_domain=32)
loader = DataLoader(TensorDataset(x, y, domain), batch_sampler=sampler)

torch.manual_seed(0)
model = small_network()
optimizer = RoGA(model.parameters(), torch.optim.Adam, lr=0.002, rho=0.02, model=model)
for step, (images, labels, domains_of_batch) in enumerate(loader):
    closures = by_domain(
        lambda part: F.cross_entropy(model(part["image"]), part["label"]),
        {"image": images, "label": labels},
        domains_of_batch,
    )
    losses = optimizer.step(closures)  # weights=closures.sizes lets every sample count alike
    if step % 20 == 0:
        print(f"step {step}: losses {' '.join(f'{loss:.2f}' for loss in losses)}", flush=True)
    if step == 40:
        break
print(f"held-out accuracy {accuracy(model):.3f}")
