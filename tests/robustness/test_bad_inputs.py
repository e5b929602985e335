"""No input ends in a traceback, a hang, a silent failure, or somebody else's file lost."""

from collections import Counter

import pytest
from bad_inputs import cases
from commands import describe, run_all
from world import snapshot


@pytest.mark.parametrize(
    ("n", "seed"), [(1000, 0), *(pytest.param(3000, seed, marks=pytest.mark.long) for seed in (1, 2))]
)
def test_bad_inputs(servers, world, tmp_path, capsys, n, seed):
    before = snapshot(world.root)
    results = run_all(servers, cases(world, n, seed), tmp_path)
    failed = [result for result in results if result[2]]
    commands = Counter(case.argv[0] for case, _, _ in results)
    kinds = Counter(fault for _, _, wrong in failed for fault in wrong)
    with capsys.disabled():
        print(f"\n{len(results)} bad inputs of {len(commands)} commands: {dict(commands)}")
        print(
            f"exit statuses {dict(Counter(answer['status'] for _, answer, _ in results))}; faults: {dict(kinds) or 0}"
        )
    assert not failed, "\n" + "\n".join(describe(*result) for result in failed)
    assert snapshot(world.root) == before
