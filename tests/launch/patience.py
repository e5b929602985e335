"""Waiting for what other processes do."""

import os
import time

PATIENCE_S = float(os.environ.get("ROGA_DOMAINBED_TEST_PATIENCE_S", "120"))  # for what takes seconds


def wait_for(condition, patience_s=PATIENCE_S):
    """Wait until ``condition()`` is true; what it gave."""
    deadline = time.monotonic() + patience_s
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found
