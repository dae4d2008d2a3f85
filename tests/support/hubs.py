"""What the tests of the hub and of the feeds share: small bounds, and events of a few drops."""

from uuid import UUID

import pytest

from lastpair.realtime.event import Event, make_event
from lastpair.realtime.hub import Hub

MEMORY, QUEUE, BATCH = 64, 16, 8
DROPS = [str(UUID(int=n)) for n in range(4)]
TYPES = ["DROP_UPDATED", "STOCK_UPDATED", "PURCHASE_COMPLETED", "ACTIVITY_UPDATED"]


@pytest.fixture
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that they are met often."""
    for name, value in [("MEMORY_EVENTS", MEMORY), ("QUEUE_EVENTS", QUEUE), ("BATCH_EVENTS", BATCH)]:
        monkeypatch.setattr(f"lastpair.realtime.hub.{name}", value)
    monkeypatch.setattr("lastpair.realtime.feed.RETRY_SECONDS", 0)


def event_of(event_type: str, event_id: int, drop_id: str) -> Event:
    """An event of a drop."""
    content = {"drop": {"id": drop_id}} if event_type.startswith("DROP") else {"dropId": drop_id}
    return make_event(event_type, event_id, content)


def started_hub(position: int = 0) -> Hub:
    """A hub whose relay has read the log."""
    hub = Hub()
    hub.restart(position)
    return hub
