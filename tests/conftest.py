"""Which tests run by default, and a line that says what was left out and how to run it."""

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes that share the processors
    os.environ.setdefault("OMP_NUM_THREADS", "1")

_ON_REQUEST = {
    "slow": "pytest -m slow",
    "long": "pytest -m long",
    "upstream": "DOMAINBED_HOME=<checkout> pytest -m upstream",
    "gpu": "pytest -m gpu",
    "cluster": "pytest -m cluster",
}
_left_out = pytest.StashKey[dict]()


def pytest_configure(config):
    if os.environ.get("DOMAINBED_HOME"):
        # The checkout's own warnings, from 2022 and on newer libraries, are not errors of ours.
        config.addinivalue_line("filterwarnings", "default")


def pytest_collection_modifyitems(config, items):
    asked_for = config.getoption("-m")
    counts = dict.fromkeys(_ON_REQUEST, 0)
    kept, dropped = [], []
    for item in items:
        marker = next((name for name in _ON_REQUEST if item.get_closest_marker(name)), None)
        if marker and marker not in asked_for:
            counts[marker] += 1
            dropped.append(item)
        else:
            kept.append(item)
            if marker == "upstream" and not os.environ.get("DOMAINBED_HOME"):
                item.add_marker(pytest.mark.skip(reason="DOMAINBED_HOME is not set to a DomainBed checkout"))
    config.stash[_left_out] = counts
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(_left_out, {})


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's, in the process that prints the summary
def pytest_testnodedown(node):
    output = getattr(node, "workeroutput", {})  # it has none if it crashed
    node.config.stash[_left_out] = output.get("left_out", {})


def pytest_terminal_summary(terminalreporter, config):
    for name, count in config.stash.get(_left_out, {}).items():
        if count:
            terminalreporter.write_line(f"left out: {count} {name} tests; run them with  {_ON_REQUEST[name]}")
