"""RoGA's K domains one after the other, or all at once with vmapped parameters: same direction, which is faster here?

    python benchmarks/domain_forms.py [--pairs 10] [--threads N]

The direction 1/K sum of the gradients at theta + d_i of the 28x28 network (group norm: batch norm's buffers cannot be
vmapped), 3 domains, for several minibatch sizes. "loop" is what roga_domainbed.optim does; "vmap" differentiates the
K losses at theta in one call, then at K stacked copies of the parameters in another (K copies of them in memory).
Pairs in turn; the median ratio is reported, and the largest difference between the two directions.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F
from torch.func import functional_call, grad, vmap

from roga_domainbed.engine.networks import MNIST_CNN
from roga_domainbed.processes import keep_freed_memory

DOMAINS, RHO, ALPHA = 3, 0.1, 2e-4


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(MNIST_CNN((3, 28, 28)), torch.nn.Linear(128, 2))


def loop(net, x, y):
    params = list(net.parameters())
    own = [p.data for p in params]
    total = None
    for i in range(DOMAINS):
        g = torch.autograd.grad(F.cross_entropy(net(x[i]), y[i]), params)
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(g)))
        scale = (RHO / norm - ALPHA).item()
        for p, theta, d in zip(params, own, g, strict=True):
            p.data = torch.add(theta, d, alpha=scale)
        h = torch.autograd.grad(F.cross_entropy(net(x[i]), y[i]), params)
        for p, theta in zip(params, own, strict=True):
            p.data = theta
        total = list(h) if total is None else torch._foreach_add(total, h)
    return torch._foreach_div(total, DOMAINS)


def vmapped(net, x, y):
    theta = {name: p.detach() for name, p in net.named_parameters()}

    def loss(params, x, y):
        return F.cross_entropy(functional_call(net, params, (x,)), y)

    g = vmap(grad(loss), in_dims=(None, 0, 0))(theta, x, y)
    norm = sum(t.flatten(1).square().sum(1) for t in g.values()).sqrt()
    scale = RHO / norm - ALPHA
    points = {k: theta[k] + scale.view(-1, *[1] * theta[k].dim()) * t for k, t in g.items()}
    h = vmap(grad(loss))(points, x, y)
    return [t.mean(0) for t in h.values()]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = network().to(device)

    def seconds(form, x, y):
        start = time.perf_counter()
        form(net, x, y)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {device}")
    for batch in (2, 8, 32):
        x = torch.randn(DOMAINS, batch, 3, 28, 28, device=device)
        y = torch.randint(0, 2, (DOMAINS, batch), device=device)
        apart = max(
            (a - b).abs().max().item() for a, b in zip(loop(net, x, y), vmapped(net, x, y), strict=True)
        )
        pairs = [(seconds(loop, x, y), seconds(vmapped, x, y)) for _ in range(args.pairs)]
        low, middle, high = statistics.quantiles([v / t for t, v in pairs], n=4)
        print(
            f"{DOMAINS}x{batch:<3} loop {1000 * statistics.median(t for t, _ in pairs):7.1f} ms, vmap / loop "
            f"{middle:.2f} ({low:.2f} to {high:.2f}), directions differ by {apart:.1e}"
        )


if __name__ == "__main__":
    main()
