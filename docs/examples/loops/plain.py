"""RoGA in a plain loop: a timm model, mixed precision on a GPU, a cosine schedule, clipping, checkpoint and resume.

$ python plain.py
$ python plain.py --steps 60    # goes on from checkpoint.pt, whenever the first was stopped
"""

import argparse
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from rotated_digits import ANGLES, accuracy, turned

from roga_domainbed.optim import RoGA

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=40)
steps = parser.parse_args().steps
on_gpu = torch.cuda.is_available()
device = "cuda" if on_gpu else "cpu"

torch.manual_seed(0)
model = timm.create_model("resnet10t", num_classes=10, in_chans=1).to(device)
optimizer = RoGA(
    model.parameters(), torch.optim.SGD, lr=0.05, momentum=0.9, rho=0.02, model=model, max_grad_norm=5.0
)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=60)
scaler = torch.amp.GradScaler(device, enabled=on_gpu)
parts = {"model": model, "optimizer": optimizer, "schedule": schedule, "scaler": scaler}
checkpoint = Path("checkpoint.pt")
if checkpoint.exists():
    for name, state in torch.load(checkpoint, map_location=device, weights_only=True).items():
        parts[name].load_state_dict(state)


def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """In half precision forward on a GPU; the optimizer goes backward outside, as torch advises."""
    # Many CPUs have no instructions for it: there bfloat16 takes thirty times as long as float32.
    with torch.autocast(device, torch.float16, enabled=on_gpu):
        return F.cross_entropy(model(x), y)


domains = [turned(angle).tensors for angle in ANGLES]
model.train()
for step in range(schedule.last_epoch, steps):
    torch.manual_seed(step)  # so that a run that resumes draws the same minibatches
    batches = []
    for x, y in domains:
        chosen = torch.randint(len(y), (32,))
        batches.append((x[chosen].to(device), y[chosen].to(device)))

    losses = optimizer.step([lambda x=x, y=y: loss(x, y) for x, y in batches], scaler=scaler)
    scaler.update()
    schedule.step()
    if (step + 1) % 20 == 0:
        print(f"step {step + 1}: loss {losses.mean().item():.3f}", flush=True)
        torch.save({name: part.state_dict() for name, part in parts.items()}, checkpoint)
print(f"held-out accuracy {accuracy(model, device):.3f}")
