"""Processes that share a step's domains make the step that one process makes."""

from pathlib import Path

import optim_problems as P
import pytest
import torch
from parallel_cases import CASES, outcome
from ranks import results_of

from roga_domainbed.optim.cheaper import CheaperRoGA

SCRIPT = Path(__file__).with_name("parallel_cases.py")
WORLD_SIZE = 3


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """What each of three processes found, in the order of their ranks."""
    return results_of(SCRIPT, WORLD_SIZE, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("case", CASES)
def test_the_shared_steps_are_those_of_one_process_and_the_same_bits_in_all(shared, case):
    n, k, settings = CASES[case]
    alone = outcome(k, settings)
    for results in shared[:n]:
        state = results[case]["state"]
        for name, value in alone["state"].items():
            assert torch.allclose(state[name].double(), value.double(), rtol=0, atol=1e-12), name
            assert torch.equal(state[name], shared[0][case]["state"][name]), name
        for report, theirs in zip(alone["reports"], results[case]["reports"], strict=True):
            assert theirs == pytest.approx(report, abs=1e-12)
    # One all-reduce a step, and with the pooled anchor one for each mean.
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
