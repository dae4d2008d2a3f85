"""A small fault run of payments with each provider. tests/payments/faults.py is the large one."""

import pytest

from tests.payments.faults import fault_run
from tests.support.database import Database
from tests.support.streams import fresh_database


@pytest.mark.slow
@pytest.mark.parametrize("provider", ["stripe", "webhook"])
async def test_fault_run(database: Database, provider: str) -> None:
    """Processes are killed, and the provider fails in all ways; in the end both agree to the cent."""
    async with fresh_database(database) as url:
        run = await fault_run(url, provider, seed=17, payments=75, buyers=25)
    assert run.found == []
    assert run.counts["paid at the provider"] > 0
