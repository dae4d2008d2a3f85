"""Reads what a stream request asks for: the drops, the last event id, whether a SNAPSHOT is wanted, and whose stream it is."""

import re

from starlette.requests import HTTPConnection

from lastpair.errors import Refusal, invalid
from lastpair.realtime.feed import MAX_DROPS, Feed
from lastpair.web.components import components_of
from lastpair.web.requests import parse_uuid

HEARTBEAT_SECONDS = 15
TICKET = re.compile(r"[0-9a-f]{32}\.[0-9]{10}\.[0-9a-f]{64}")
NO_TICKET = Refusal(401, "TICKET_INVALID", "ticket: must be one that POST /stream-tickets answered")


def drop_ids_in(connection: HTTPConnection) -> set[str]:
    """The drops that the query names with `dropId`, which may be repeated. Raises VALIDATION_ERROR."""
    drop_ids = {parse_uuid("dropId", value) for value in connection.query_params.getlist("dropId")}
    if len(drop_ids) > MAX_DROPS:
        raise invalid("dropId", f"must not be more than {MAX_DROPS} drops")
    return drop_ids


async def user_of_stream(connection: HTTPConnection) -> str | None:
    """The user whose own events the stream gets: that of the ticket, or else that of a header; None without both.

    Raises TICKET_INVALID, AUTH_REQUIRED or IDENTITY_UNAVAILABLE. The user is left in the scope for the process log, as `user_id`.
    """
    components, scope = components_of(connection), connection.scope
    ticket = connection.query_params.get("ticket")
    if ticket is not None:
        if not TICKET.fullmatch(ticket):  # what cannot be a ticket does not reach the database
            raise NO_TICKET
        scope["user_id"] = user_id = await components.event_log.user_of(ticket)
        return user_id
    return None if components.identity.is_anonymous(scope) else await components.identity.user_id(scope)


def feed_for(connection: HTTPConnection, user_id: str | None) -> Feed:
    """The feed that the query asks for: `dropId` (repeatable) and `snapshot`; of this user, if any. Raises VALIDATION_ERROR."""
    query, drop_ids = connection.query_params, drop_ids_in(connection)
    if query.get("snapshot", "true") not in {"true", "false"}:
        raise invalid("snapshot", "must be true or false")
    components = components_of(connection)
    return Feed(components.hub, drop_ids, wants_snapshot=query.get("snapshot") != "false", user_id=user_id)


def last_event_id(connection: HTTPConnection) -> str | None:
    """The event that the client has: the header that a browser sends when it reconnects, else `lastEventId` of the query."""
    return connection.headers.get("last-event-id") or connection.query_params.get("lastEventId")
