"""Steps that ranks take together, each with its part of every minibatch; run as a script it is one of the ranks.

python replica_cases.py RANK WORLD_SIZE RENDEZVOUS_FILE OUTPUT_FILE
"""

import sys
from functools import partial

import optim_problems as P
import torch
import torch.nn.functional as F
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from roga_domainbed.optim import ASAM, GSAM, SAGM, SAM, LookSAM, PCGrad, RoGA
from roga_domainbed.optim.cheaper import CheaperRoGA

#: name → (optimizer, whether it tells domains apart)
METHODS = {
    "SAM": (partial(SAM, rho=0.2), False),
    "ASAM": (partial(ASAM, rho=0.5), False),
    "GSAM": (partial(GSAM, rho=0.2, alpha=0.3), False),
    "SAGM": (partial(SAGM, rho=0.2, alpha=0.05), False),
    "LookSAM": (partial(LookSAM, rho=0.2, every=3), False),
    "RoGA": (partial(RoGA, rho=0.2, alpha=0.05), True),
    "RoGA, pooled anchor": (partial(RoGA, rho=0.2, alpha=0.05, anchor="pooled"), True),
    "RoGA, every third": (partial(CheaperRoGA, rho=0.2, alpha=0.05, every=3), True),
}
K = (1, 3, 4)
STEPS = 10
PER_RANK = 4  # samples of a domain


def minibatches(step, k, n_ranks):
    """K minibatches of the whole step, of which rank r has samples r·4 to r·4 + 3."""
    return P.make_domains(k, n=PER_RANK * n_ranks, seed=step)


def part(batch, rank):
    x, y = batch
    own = slice(rank * PER_RANK, (rank + 1) * PER_RANK)
    return x[own], y[own]


def take_step(optimizer, per_domain, net, batches, **kwargs):
    closures = [
        None if batch is None else lambda batch=batch: F.cross_entropy(net(batch[0]), batch[1])
        for batch in batches
    ]
    if per_domain:
        return optimizer.step(closures, **kwargs)
    return optimizer.step(lambda: sum(closure() for closure in closures) / len(closures), **kwargs)


def alone(name, k, n_ranks):
    """The weights after the steps of one process with all samples."""
    make, per_domain = METHODS[name]
    net = P.make_net()
    optimizer = make(net.parameters(), torch.optim.Adam, lr=0.01, weight_decay=0.1)
    losses = [take_step(optimizer, per_domain, net, minibatches(step, k, n_ranks)) for step in range(STEPS)]
    return {"weights": P.weights(net), "losses": torch.stack(losses)}


def together(name, k, group, *, wrap=True, ascent="global", batch_norm=False, seed=0, scaler=None):
    make, per_domain = METHODS[name]
    inner = P.make_net(seed, batch_norm=batch_norm)
    net = DistributedDataParallel(inner, process_group=group) if wrap else inner
    found = {"model": net} if wrap else {"model": net, "process_group": group}
    optimizer = make(inner.parameters(), torch.optim.Adam, lr=0.01, weight_decay=0.1, ascent=ascent, **found)
    losses = []
    for step in range(STEPS):
        batches = [part(batch, group.rank()) for batch in minibatches(step, k, group.size())]
        losses.append(take_step(optimizer, per_domain, net, batches))
    state = torch.cat([t.double().flatten() for t in inner.state_dict().values()])
    return {"weights": P.weights(inner), "losses": torch.stack(losses), "state": state}


def unequal_parts(group, weighted):
    """Domain 0 has all its samples on the first rank, domain 1 has 3 samples there and 5 on the second."""
    net = P.make_net()
    optimizer = RoGA(net.parameters(), lr=0.1, rho=0.2, model=net, process_group=group)
    (x0, y0), (x1, y1), _ = P.make_domains(3, n=8)
    parts = [[(x0, y0), (x1[:3], y1[:3]), None], [None, (x1[3:], y1[3:]), None]][group.rank()]
    weights = [0 if batch is None else len(batch[0]) for batch in parts]
    take_step(optimizer, True, net, parts, **({"weights": weights} if weighted else {}))
    return P.weights(net)


def refusals(group):
    """The messages of what cannot be."""
    net = P.make_net()
    found = {}

    def message(name, act):
        try:
            act()
        except (ValueError, TypeError) as error:
            found[name] = str(error)

    plain = SAM(net.parameters(), lr=0.1)
    message("unknown ranks", lambda: plain.step(P.pooled_closure(net, P.make_domains(1))))
    message("PCGrad", lambda: PCGrad(net.parameters(), lr=0.1, process_group=group))
    message("exact", lambda: RoGA(net.parameters(), lr=0.1, process_group=group, gradient="exact"))
    roga = RoGA(net.parameters(), lr=0.1, process_group=group)
    message("share", lambda: roga.share_domains(group))
    message("closures", lambda: roga.step(P.closures(net, P.make_domains(2 + group.rank()))))
    return found


def main(rank, world_size, rendezvous, output):
    distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world_size
    )
    results = {}
    for n in (2, 3):
        group = distributed.new_group(range(n))
        if rank >= n:
            continue
        for name, (_, per_domain) in METHODS.items():
            for k in K if per_domain else (3,):
                results[name, n, k] = together(name, k, group)
        for name in ("SAM", "RoGA"):
            results["by group", name, n] = together(name, 3, group, wrap=False, seed=rank)
            results["batch norm", name, n] = together(name, 3, group, batch_norm=True)
            results["local", name, n] = together(name, 3, group, ascent="local")
        if n == 2:
            results["unequal"] = unequal_parts(group, weighted=False)
            results["unequal, weighted"] = unequal_parts(group, weighted=True)
            results["refusals"] = refusals(group)
    torch.save(results, output)
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
