"""Reads the parameters of a stream request: the drops, the last event id, and whether a SNAPSHOT is wanted."""

from starlette.requests import HTTPConnection

from lastpair.errors import invalid
from lastpair.realtime.feed import MAX_DROPS, Feed
from lastpair.web.components import components_of
from lastpair.web.requests import parse_uuid

HEARTBEAT_SECONDS = 15


def drop_ids_in(connection: HTTPConnection) -> set[str]:
    """The drops that the query names with `dropId`, which may be repeated. Raises VALIDATION_ERROR."""
    drop_ids = {parse_uuid("dropId", value) for value in connection.query_params.getlist("dropId")}
    if len(drop_ids) > MAX_DROPS:
        raise invalid("dropId", f"must not be more than {MAX_DROPS} drops")
    return drop_ids


def feed_for(connection: HTTPConnection) -> Feed:
    """The feed that the query asks for: `dropId` (repeatable) and `snapshot`. Raises VALIDATION_ERROR."""
    query, drop_ids = connection.query_params, drop_ids_in(connection)
    if query.get("snapshot", "true") not in {"true", "false"}:
        raise invalid("snapshot", "must be true or false")
    components = components_of(connection)
    return Feed(components.hub, components.event_log, drop_ids, wants_snapshot=query.get("snapshot") != "false")


def last_event_id(connection: HTTPConnection) -> str | None:
    """The event that the client has: the header that a browser sends when it reconnects, else `lastEventId` of the query."""
    return connection.headers.get("last-event-id") or connection.query_params.get("lastEventId")
