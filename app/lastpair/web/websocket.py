"""The events over WebSocket: a text frame for each event. The client may join and leave drops."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Literal

from pydantic import BaseModel
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.frames import Frame, Opcode

from lastpair.errors import Refusal, invalid
from lastpair.observability.metrics import STREAMS
from lastpair.realtime.event import Event, make_event
from lastpair.realtime.feed import Feed
from lastpair.web.components import components_of
from lastpair.web.limits import address_of
from lastpair.web.operation import STREAM_PARAMETERS
from lastpair.web.requests import check_query, parse_json, parse_uuid
from lastpair.web.responses import failure
from lastpair.web.schemas import Text
from lastpair.web.stream_requests import feed_for, last_event_id, user_of_stream
from lastpair.web.websocket_protocol import FRAMES, WebSocketProtocol

MAX_MESSAGE_BYTES = 4096
"""The largest message that a client may send."""

SERVICE_RESTART = 1012
RESTART_REASON = "This process is stopping. Connect again, and another one answers."


def message_text(event: Event) -> str:
    """The message for an event."""
    return f'{{"type":"{event.type}","id":"{event.position}","data":{event.data}}}'


def frame(event: Event) -> bytes:
    """The message as a WebSocket frame."""
    return Frame(Opcode.TEXT, message_text(event).encode()).serialize(mask=False)


def frames(batch: list[Event]) -> bytes:
    """The frames of events in one piece."""
    return b"".join([event.encoded(frame) for event in batch])


PONG = '{"type":"pong"}'
"""The answer to a ping. It is no event and has no id, so the client's position stays."""


class ClientMessage(BaseModel, extra="forbid"):
    """A message of a client: join or leave the drop `dropId`; or `ping`, without a drop."""

    type: Literal["drops:join", "drops:leave", "ping"]
    dropId: Text | None = None  # noqa: N815


async def serve_events(websocket: WebSocket) -> None:
    """Serve one client until it leaves or the process stops. A refusal is an HTTP answer to the handshake."""
    websocket.scope["route"] = websocket.scope["path"]
    with suppress(WebSocketDisconnect, OSError):  # the client left meanwhile
        try:
            check_query(websocket.scope["query_string"], STREAM_PARAMETERS)
            components, address = components_of(websocket), address_of(websocket.scope)
            components.stream_limit.count(address)
            feed = feed_for(websocket, await user_of_stream(websocket))
            slot = components.stream_slots.slot(address)
            with slot, STREAMS.labels("websocket").track_inprogress():
                await feed.open(last_event_id(websocket))
                await websocket.accept()
                protocol = websocket.scope.get("extensions", {}).get(FRAMES)
                stream = FrameStream(websocket, feed, protocol()) if protocol else WebSocketStream(websocket, feed)
                await stream.run()
        except Refusal as refusal:
            await websocket.send_denial_response(failure(websocket, refusal))


class WebSocketStream:
    """A feed as text messages, over any server."""

    def __init__(self, websocket: WebSocket, feed: Feed) -> None:
        self._websocket = websocket
        self._feed = feed
        self._sending = asyncio.Lock()  # an ERROR frame takes its id from the event before it, so sends must not interleave
        self._sent_id = feed.start_id

    async def run(self) -> None:
        """Send events until the client leaves or the process stops. Raises WebSocketDisconnect."""
        receiving = asyncio.create_task(self._receive())
        try:
            async with aclosing(self._batches()) as batches:
                async for batch in batches:
                    async with self._sending:
                        await self._send(batch)
            if not self._feed.closed:
                await self._websocket.close(SERVICE_RESTART, RESTART_REASON)
        finally:
            receiving.cancel()

    async def _receive(self) -> None:
        # Carry out the client's messages until it leaves. A message that is not valid is answered with an ERROR frame.
        try:
            while (message := await self._websocket.receive())["type"] != "websocket.disconnect":
                text = message.get("text")
                try:
                    await self._carry_out(parse_json(message["bytes"] if text is None else text, ClientMessage))
                except Refusal as refusal:
                    error = {"code": refusal.code, "message": refusal.message}
                    async with self._sending:
                        await self._send([make_event("ERROR", self._sent_id, error)])
                await asyncio.sleep(0)  # let other tasks run, because this client may send without end
        except WebSocketDisconnect:
            pass  # the client left before it got the answer
        finally:
            self._feed.close()

    def _batches(self) -> AsyncGenerator[list[Event], None]:
        return self._feed.batches()

    async def _send(self, events: list[Event]) -> None:
        for event in events:
            await self._websocket.send_text(message_text(event))
            self._sent_id = event.position

    async def _carry_out(self, message: ClientMessage) -> None:
        if message.type == "ping":
            if message.dropId is not None:
                raise invalid("dropId", "is not a field of a ping")
            async with self._sending:
                await self._websocket.send_text(PONG)
            return
        if message.dropId is None:
            raise invalid("dropId", "is required")
        drop_id = parse_uuid("dropId", message.dropId)
        if message.type == "drops:join":
            self._feed.join(drop_id)
        else:
            self._feed.leave(drop_id)


class FrameStream(WebSocketStream):
    """A feed as frames that are made once for all clients, over `WebSocketProtocol`. It is the outlet of its feed."""

    encode = staticmethod(frames)
    heartbeat = b""  # the server sends pings

    def __init__(self, websocket: WebSocket, feed: Feed, protocol: WebSocketProtocol) -> None:
        super().__init__(websocket, feed)
        self._protocol = protocol
        self.drain = protocol.writable.wait

    @property
    def is_busy(self) -> bool:
        """Whether the client has not read what was sent before."""
        return self._protocol.is_busy

    def write(self, data: bytes, position: str) -> None:
        """Send frames."""
        self._protocol.write_frames(data)
        self._sent_id = position

    def _batches(self) -> AsyncGenerator[list[Event], None]:
        return self._feed.batches(self)

    async def _send(self, events: list[Event]) -> None:
        if events:
            await self._websocket.send({"type": "websocket.send", "frames": frames(events)})
            self._sent_id = events[-1].position
