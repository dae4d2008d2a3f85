"""Notifications: which of them are events.

Any role that may connect to the database can NOTIFY, so a notification is an event only if its code (a MAC) proves that
inventory.publish wrote it. Nothing else that a notification says is used.

Any such role can listen, too. So of an event that is for one user the notification has only the id, and the log has the event.
"""

import hmac
import re
from functools import lru_cache
from typing import NamedTuple

import orjson

from lastpair.realtime.event import Event

NOTIFICATION = re.compile(
    r'\{"mac":"(?P<mac>[0-9a-f]{64})",'
    r'(?P<rest>"committedAt":[0-9]{1,12}\.[0-9]{3},"type":"[A-Z0-9_]{1,40}","id":"[1-9][0-9]{0,17}",'
    r'"drop_id":"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}","data":[^\r\n]+\})'
)
"""A notification as inventory.publish writes it. The code is over the rest, with its opening brace."""

PRIVATE_NOTIFICATION = re.compile(r'\{"mac":"(?P<mac>[0-9a-f]{64})",(?P<rest>"id":"(?P<id>[1-9][0-9]{0,17})"\})')
"""The notification of an event that is for one user. The code is over the rest, as above."""


class PrivateEvent(NamedTuple):
    """An event that is in the log, and that is for one user."""

    id: int


@lru_cache(maxsize=1)
def code_by(key: bytes) -> hmac.HMAC:
    """The code of an empty text. A copy goes on from here in less time than a new one begins."""
    return hmac.new(key, digestmod="sha256")


def event_of(payload: str, key: bytes | None) -> Event | PrivateEvent | None:
    """The event of a notification; None if the notification does not prove that it is one.

    `key` is that of api.event_key. Without it nothing is proven.
    """
    found = NOTIFICATION.fullmatch(payload) or PRIVATE_NOTIFICATION.fullmatch(payload)
    if found is None or key is None:
        return None
    text = "{" + found["rest"]
    code = code_by(key).copy()
    code.update(text.encode())
    if not hmac.compare_digest(code.hexdigest(), found["mac"]):
        return None
    if found.re is PRIVATE_NOTIFICATION:
        return PrivateEvent(int(found["id"]))
    event = Event(text)
    try:
        orjson.loads(event.data)
    except orjson.JSONDecodeError:
        return None
    return event
