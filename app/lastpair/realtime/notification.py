"""Notifications: which of them have events.

Any role that may connect to the database can NOTIFY, so a notification has events only if its code (a MAC) proves that
inventory.publish wrote it. Nothing else that a notification says is used.

Any such role can listen, too. So of an event that is for one user the notification has only the id, and the log has the event.
The same goes for an event that is too large for a notification.
"""

import hmac
import re
from functools import lru_cache
from typing import NamedTuple

import orjson

from lastpair.realtime.event import Event

PUBLIC = (
    r'\{"type":"[A-Z0-9_]{1,40}","id":"[1-9][0-9]{0,17}",'
    r'"drop_id":"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}","data":[^\r\n]+\}'
)
LOGGED = r'\{"id":"[1-9][0-9]{0,17}"\}'
NOTIFICATION = re.compile(
    r'\{"mac":"(?P<mac>[0-9a-f]{64})",(?P<rest>"committedAt":(?P<committed_at>[0-9]{1,12}\.[0-9]{3}),"events":\[\n'
    rf"(?P<events>(?:{PUBLIC}|{LOGGED})(?:,\n(?:{PUBLIC}|{LOGGED}))*)\]\}})"
)
"""A notification as inventory.publish writes it: each event is a line. The code is over the rest, with its opening brace."""


class LoggedEvent(NamedTuple):
    """An event that only the log has."""

    id: int


@lru_cache(maxsize=1)
def code_by(key: bytes) -> hmac.HMAC:
    """The code of an empty text. A copy goes on from here in less time than a new one begins."""
    return hmac.new(key, digestmod="sha256")


def events_of(payload: str, key: bytes | None) -> list[Event | LoggedEvent]:
    """The events of a notification, oldest first; none if the notification does not prove that it has any.

    `key` is that of api.event_key. Without it nothing is proven.
    """
    found = NOTIFICATION.fullmatch(payload)
    if found is None or key is None:
        return []
    text = "{" + found["rest"]
    code = code_by(key).copy()
    code.update(text.encode())
    if not hmac.compare_digest(code.hexdigest(), found["mac"]):
        return []
    committed_at = float(found["committed_at"])
    try:
        return [_event_of(line, committed_at) for line in found["events"].split(",\n")]
    except orjson.JSONDecodeError:
        return []


def _event_of(line: str, committed_at: float) -> Event | LoggedEvent:
    if line.startswith('{"id"'):
        return LoggedEvent(int(line[7:-2]))
    event = Event(line, committed_at)
    orjson.loads(event.data)  # raises, if it is more than one value, for example
    return event
