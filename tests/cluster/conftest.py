"""A router with the nodes 0 and 1, for all tests that break nothing."""

from collections.abc import Iterator

import pytest

from tests.support.router import Router, running_router


@pytest.fixture(scope="session")
def router() -> Iterator[Router]:
    """A router with two nodes that no test may stop."""
    with running_router() as router:
        yield router
