"""Steps that processes share, and the same steps in one process; run as a script it is one of the processes.

python parallel_cases.py RANK WORLD_SIZE RENDEZVOUS_FILE OUTPUT_FILE
"""

import sys

import optim_problems as P
import torch
from torch import distributed

from roga_domainbed.errors import RogaError
from roga_domainbed.optim import NonFiniteError, RoGA

#: name → (processes, domains, settings of RoGA)
CASES = {
    "2 processes, 2 domains": (2, 2, {}),
    "2 processes, 3 domains": (2, 3, {}),
    "3 processes, 3 domains": (3, 3, {}),
    "3 processes, 4 domains": (3, 4, {}),
    "3 processes, 2 domains": (3, 2, {}),
    "3 processes, 1 domain": (3, 1, {}),
    "1 process, 3 domains": (1, 3, {}),
    "pooled anchor": (2, 3, {"anchor": "pooled"}),
    "exact": (2, 3, {"gradient": "exact"}),
    "exact, pooled anchor": (3, 3, {"gradient": "exact", "anchor": "pooled"}),
    "the same mask": (2, 3, {"replay_rng": True}),
}
STEPS = 3


def make(k, settings):
    net = P.make_net(batch_norm=True, dropout=0.3)
    # Not Adam: the bias before batch norm has no gradient but rounding, which Adam makes a step of.
    optimizer = RoGA(net.parameters(), lr=0.3, momentum=0.9, rho=0.2, alpha=0.05, model=net, **settings)
    return net, optimizer, P.make_domains(k)


def outcome(k, settings, group=None):
    """Everything that a few steps leave behind; with ``group`` only the process's own closures exist."""
    net, optimizer, domains = make(k, settings)
    if group is not None:
        if group.rank() > 0:  # the first process's weights count
            with torch.no_grad():
                for tensor in (*net.parameters(), *net.buffers()):
                    tensor.zero_()
        optimizer.share_domains(group)
    reports, losses = [], []
    for step in range(STEPS):
        torch.manual_seed(step)
        own = optimizer.own_domains(k)
        closures = [c if i in own else None for i, c in enumerate(P.closures(net, domains))]
        losses.append(optimizer.step(closures))
        reports.append(dict(optimizer.report))
    state = {**net.state_dict(), "losses": torch.stack(losses), "next draw": torch.rand(3)}
    return {"state": state, "reports": reports}


def a_domain_without_a_finite_loss(group):
    """(message, whether the weights are those from before) in each process; domain 1 belongs to the second."""
    net, optimizer, domains = make(3, {})
    optimizer.share_domains(group)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    closures = P.closures(net, domains)
    closures[1] = lambda c=closures[1]: c() * float("nan")
    try:
        optimizer.step(closures)
    except NonFiniteError as error:
        same = all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
        return str(error), same
    return "", False


def different_steps(group):
    """The message in each process when the first one is ahead, as after a checkpoint that it alone has read."""
    net, optimizer, domains = make(3, {})
    optimizer.share_domains(group)
    optimizer.steps_taken = 10 if group.rank() == 0 else 0
    try:
        optimizer.step(P.closures(net, domains))
    except RogaError as error:
        return str(error)
    return ""


def main(rank, world_size, rendezvous, output):
    distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world_size
    )
    groups = {n: distributed.new_group(range(n)) for n in range(1, world_size + 1)}
    calls = []
    all_reduce = distributed.all_reduce
    distributed.all_reduce = lambda *args, **kwargs: calls.append(1) or all_reduce(*args, **kwargs)
    results = {}
    for name, (n, k, settings) in CASES.items():
        if rank < n:
            calls.clear()
            results[name] = outcome(k, settings, groups[n])
            results[name]["all-reduces a step"] = len(calls) / STEPS
    results["not finite"] = a_domain_without_a_finite_loss(groups[world_size])
    results["different steps"] = different_steps(groups[world_size])
    torch.save(results, output)
    distributed.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
