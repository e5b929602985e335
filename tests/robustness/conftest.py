"""A server a core, and the sound world that cases damage."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def servers():
    from commands import Server

    from roga_domainbed.processes import usable_cpus

    with ThreadPoolExecutor() as pool:
        made = list(pool.map(lambda _: Server(), range(min(4, usable_cpus()))))
    yield made
    for server in made:
        server.close()


@pytest.fixture(scope="session")
def world(servers, tmp_path_factory):
    from world import make_world

    return make_world(tmp_path_factory.mktemp("world"), servers[0])
