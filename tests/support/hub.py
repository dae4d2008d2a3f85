"""Hubs with small bounds, and the events that tests publish to them."""

from uuid import UUID

from lastpair.realtime.event import Event, make_event
from lastpair.realtime.hub import Hub

MEMORY, QUEUE, BATCH = 64, 16, 8
"""The bounds that the fixture `small_bounds` sets, so that tests reach them often."""

DROPS = [str(UUID(int=n)) for n in range(4)]
TYPES = ["DROP_UPDATED", "STOCK_UPDATED", "PURCHASE_COMPLETED", "ACTIVITY_UPDATED"]


def event_of(event_type: str, event_id: int, drop_id: str = DROPS[0], variants: str = "") -> Event:
    """An event of a drop, and of these variants of one letter; besides them its data is empty."""
    data = {"variants": [{"id": variant} for variant in variants]} if variants else {}
    return make_event(event_type, event_id, data, drop_id)


def started_hub(event_id: int = 0) -> Hub:
    """A hub whose relay has read the log up to this event."""
    hub = Hub()
    hub.restart(event_id)
    return hub
