"""Processes that share a step's domains make the step that one process makes."""

import subprocess
import sys
from pathlib import Path

import optim_problems as P
import pytest
import torch
from parallel_cases import CASES, outcome

from roga_domainbed.optim.cheaper import CheaperRoGA

SCRIPT = Path(__file__).with_name("parallel_cases.py")
WORLD_SIZE = 3


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """What each of three processes found, in the order of their ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    outputs = [folder / f"{rank}.pt" for rank in range(WORLD_SIZE)]
    ranks = [
        subprocess.Popen(
            [
                sys.executable,
                str(SCRIPT),
                str(rank),
                str(WORLD_SIZE),
                str(folder / "rendezvous"),
                str(output),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, output in enumerate(outputs)
    ]
    try:
        errors = [rank.communicate(timeout=300)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0] * WORLD_SIZE, "\n".join(errors)
    return [torch.load(output, weights_only=False) for output in outputs]


@pytest.mark.parametrize("case", CASES)
def test_the_shared_steps_are_those_of_one_process(shared, case):
    n, k, settings = CASES[case]
    alone = outcome(k, settings)
    for results in shared[:n]:
        for name, value in alone["state"].items():
            assert torch.allclose(
                results[case]["state"][name].double(), value.double(), rtol=0, atol=1e-12
            ), name
        for report, theirs in zip(alone["reports"], results[case]["reports"], strict=True):
            assert theirs == pytest.approx(report, abs=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_all_processes_hold_the_same_bits(shared, case):
    n = CASES[case][0]
    first = shared[0][case]["state"]
    for results in shared[1:n]:
        for name, value in first.items():
            assert torch.equal(results[case]["state"][name], value), name


@pytest.mark.parametrize("case", CASES)
def test_a_step_has_one_all_reduce_and_the_pooled_anchor_one_for_each_mean(shared, case):
    settings = CASES[case][2]
    means = (settings.get("anchor") == "pooled") * (2 if settings.get("gradient") == "exact" else 1)
    assert shared[0][case]["all-reduces a step"] == 1 + means


def test_a_loss_that_is_not_finite_stops_every_process_with_its_domain(shared):
    for results in shared:
        message, untouched = results["not finite"]
        assert message.startswith("step 0: the loss of domain 1 is nan")
        assert untouched


def test_processes_at_different_steps_stop_instead_of_averaging_what_does_not_belong_together(shared):
    for rank, results in enumerate(shared):
        assert f"are at different steps, this one at {0 if rank else 10}" in results["different steps"]


def test_displacements_to_be_reused_are_refused_where_processes_share_domains():
    class Group:
        def size(self):
            return 2

    with pytest.raises(
        ValueError, match=r"every above 1 keeps each domain's displacement .* use one process"
    ):
        CheaperRoGA(P.make_net().parameters(), lr=0.1, every=2).share_domains(Group())
