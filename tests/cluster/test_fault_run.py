"""A small fault run of a cluster. tests/cluster/faults.py is the large one."""

import asyncio

import pytest

from tests.cluster.faults import fault_run
from tests.support.router import another_router, running_router


@pytest.mark.slow
def test_fault_run() -> None:
    """Nodes, routers and processes fail, and in the end nothing is lost, oversold, or heard twice."""
    with running_router(0, 1) as router, another_router(router) as other:
        run = asyncio.run(fault_run([router, other], seed=23, faults=14, buyers=12))
    assert run.found == []
    assert run.counts["purchases confirmed"] > 0
    assert run.counts["events"] > 0
