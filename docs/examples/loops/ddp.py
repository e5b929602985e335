"""RoGA on several ranks: DistributedDataParallel, each rank with its own part of every domain's minibatch.

$ torchrun --nproc_per_node 2 ddp.py
"""

import torch
import torch.nn.functional as F
from rotated_digits import ANGLES, accuracy, small_network, turned
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from roga_domainbed.optim import RoGA

distributed.init_process_group("gloo")
rank, n_ranks = distributed.get_rank(), distributed.get_world_size()
torch.set_num_threads(1)
torch.manual_seed(0)
network = small_network()
model = DistributedDataParallel(network)
# The wrapped model tells the optimizer which ranks there are. Closures call the wrapped model, too.
optimizer = RoGA(model.parameters(), torch.optim.Adam, lr=0.002, rho=0.02, model=model)

domains = [turned(angle).tensors for angle in ANGLES]
draws = torch.Generator().manual_seed(rank)
for step in range(20):
    closures = []
    for x, y in domains:
        chosen = torch.randint(len(y), (32 // n_ranks,), generator=draws)
        closures.append(lambda x=x[chosen], y=y[chosen]: F.cross_entropy(model(x), y))
    losses = optimizer.step(closures)  # of all ranks' samples
    if rank == 0 and step % 10 == 0:
        print(f"step {step}: loss {losses.mean().item():.3f}", flush=True)

weights = torch.cat([p.detach().flatten() for p in network.parameters()])
of_first = weights.clone()
distributed.broadcast(of_first, src=0)
assert torch.equal(weights, of_first), "every rank has the same weights, to the bit"
if rank == 0:
    print(f"held-out accuracy {accuracy(network):.3f}")
distributed.destroy_process_group()
