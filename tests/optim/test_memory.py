"""How many copies of the parameters a step needs more than a step of ERM: for RoGA three, however many domains."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from roga_domainbed import optim
from roga_domainbed.optim.per_domain import PerDomain

WIDTH, DEPTH, SAMPLES = 256, 6, 12


def make_net(device="cpu"):
    torch.manual_seed(0)
    layers = [layer for _ in range(DEPTH) for layer in (nn.Linear(WIDTH, WIDTH), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 2)).to(device)


def make_step(name, k, device="cpu"):
    """One step on the same samples as the others, and the bytes of the parameters."""
    net = make_net(device)
    x, y = torch.randn(SAMPLES, WIDTH, device=device), torch.zeros(SAMPLES, dtype=torch.long, device=device)
    if name == "ERM":
        optimizer = torch.optim.Adam(net.parameters())

        def step():
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()

    else:
        optimizer = getattr(optim, name)(net.parameters(), torch.optim.Adam)
        parts = zip(x.chunk(k), y.chunk(k), strict=True)
        closures = [lambda x=x, y=y: F.cross_entropy(net(x), y) for x, y in parts]

        def step():
            optimizer.step(closures if isinstance(optimizer, PerDomain) else closures[0])

    return step, sum(p.numel() * p.element_size() for p in net.parameters())


def peak(step, path, n):
    """The most bytes that ``n`` steps had allocated above what was there between two of them."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        step()  # the profiler sees only those buffers freed that it saw allocated, the last gradients among them
        with torch.profiler.record_function("measured"):
            for _ in range(n):
                step()
    profile.export_chrome_trace(str(path))
    events = json.loads(path.read_text())["traceEvents"]
    start = next(event["ts"] for event in events if event.get("name") == "measured")
    totals = sorted(
        (event["ts"], event["args"]["Total Allocated"]) for event in events if event.get("name") == "[memory]"
    )
    before = [total for ts, total in totals if ts < start][-1]
    return max(total for ts, total in totals if ts >= start) - before


@pytest.mark.parametrize(
    ("name", "k", "copies"),
    [
        ("RoGA", 2, 3),
        ("RoGA", 3, 3),
        ("RoGA", 6, 3),
        ("SAM", 1, 2),
        ("LookSAM", 1, 4),
        ("GAM", 1, 6),
        ("FAD", 1, 5),
        ("DGSAM", 6, 2),
        ("GACFAS", 3, 8),
        ("PCGrad", 3, 4),
        ("CAGrad", 3, 4),
    ],
)
def test_on_a_cpu_a_step_peaks_within_so_many_copies_of_the_parameters_above_erm(name, k, copies, tmp_path):
    erm, parameters = make_step("ERM", 1)
    step, _ = make_step(name, k)
    for warm in (erm, step):  # Adam makes its state
        warm()
    above = (peak(step, tmp_path / "step.json", 10) - peak(erm, tmp_path / "erm.json", 10)) / parameters
    # Ten steps: one of them measures the cosine between the domains.
    assert copies - 1 < above <= copies


@pytest.mark.gpu
@pytest.mark.parametrize("k", [2, 3, 6])
def test_on_a_gpu_a_step_peaks_within_three_copies_of_the_parameters_above_erm(k):
    found = {}
    for name in ("ERM", "RoGA"):
        step, parameters = make_step(name, k, "cuda")
        step()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        for _ in range(10):
            step()
        torch.cuda.synchronize()
        found[name] = torch.cuda.max_memory_allocated() - before
    assert found["RoGA"] <= found["ERM"] + 3 * parameters
