"""The packets of Socket.IO: how events are written, and what a client may send."""

import re

import orjson
from websockets.frames import Frame, Opcode

from lastpair.realtime.event import Event

TYPES = frozenset({"DROP_CREATED", "STOCK_UPDATED", "RESERVATION_EXPIRED", "PURCHASE_COMPLETED", "ACTIVITY_UPDATED"})
"""The events that Socket.IO clients get."""

JOIN, LEAVE = "drops:join", "drops:leave"
SEPARATOR = "\x1e"
"""What stands between the packets of an answer to a poll. JSON has no such character, because it escapes it."""

CLOSE, PROBE, PONG, UPGRADE = "1", "2probe", "3", "5"
CONNECT, DISCONNECT = "40", "41"
NAMESPACE = re.compile(r"40(/[^,?]{1,100})(,.*)?", re.DOTALL)
EVENT = re.compile(r"42([0-9]{0,15})(\[.*\])", re.DOTALL)
IGNORED = ("41/", "42", "43")
"""The beginnings of packets that are in order and change nothing: of other namespaces, other events, and acknowledgements."""


def packet(event: Event) -> bytes:
    """An event as a packet."""
    return f'42["{event.type}",{event.data}]'.encode()


def frame(event: Event) -> bytes:
    """The packet as a WebSocket frame."""
    return Frame(Opcode.TEXT, packet(event)).serialize(mask=False)


def frames(batch: list[Event]) -> bytes:
    """The frames of events in one piece."""
    return b"".join([event.encoded(frame) for event in batch if event.type in TYPES])


def payload(batch: list[Event]) -> bytes:
    """The packets of events as a part of the answer to a poll."""
    return SEPARATOR.encode().join([event.encoded(packet) for event in batch if event.type in TYPES])


def understood(text: str) -> str | None:
    """The packet of a client in the form in which python-socketio gets it; None if it is ignored.

    `drops:join` and `drops:leave` have the drop's id, or null, as their only argument. What a client says about itself when it
    connects is left out. Raises ValueError if no client for this service sends such a packet.
    """
    if text in {CLOSE, PROBE, PONG, UPGRADE, CONNECT, DISCONNECT}:
        return text
    if text.startswith(CONNECT):
        namespace = NAMESPACE.fullmatch(text)
        return f"{CONNECT}{namespace[1]}," if namespace else CONNECT
    event = EVENT.fullmatch(text)
    if event is not None:
        name, *arguments = orjson.loads(event[2]) or [None]
        if name in (JOIN, LEAVE):
            argument = arguments[0] if arguments else None
            drop_id = argument.get("dropId") if isinstance(argument, dict) else None
            text = orjson.dumps([name, drop_id if isinstance(drop_id, str) else None]).decode()
            return f"42{event[1]}{text}"
    if text.startswith(IGNORED):
        return None
    raise ValueError(text)
