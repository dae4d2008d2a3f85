"""HTTP and WebSocket as uvicorn speaks them, but for what endless answers to many clients ask for."""

from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

FRAMES = "lastpair.frames"
"""The ASGI extension by which an application knows of `FrameProtocol`."""

STREAM_PATHS = frozenset({"/api/events", "/api/v1/events"})


class StreamProtocol(HttpToolsProtocol):
    """Cuts off a client that sends another request on a connection whose event stream is open.

    uvicorn would tell of the client's leaving and slowness only that request, which waits for ever, or the WebSocket it asks to
    become: the stream would never end, and what its client does not read would pile up.
    """

    def on_headers_complete(self) -> None:
        """A request has come."""
        running = self.cycle
        super().on_headers_complete()
        if running is not None and not running.response_complete and running.scope["path"] in STREAM_PATHS:
            self.cycle = running
            self.pipeline.clear()
            self.transport.abort()

    def handle_websocket_upgrade(self) -> None:
        """The request was one for a WebSocket."""
        if not self.transport.is_closing():
            super().handle_websocket_upgrade()


class FrameProtocol(WebSocketsSansIOProtocol):
    """Also sends frames that are ready to go: `{"type": "websocket.send", "frames": bytes}`, any number of them at once.

    An event's frame is the same for every client. Making it anew for each is what limited the fan-out: with 1,000 clients 68,000
    deliveries a second in bursts and a p99 latency of 590 ms, instead of 390,000 and 140 ms (bench/fanout.py).
    """

    def handle_connect(self, event: Request) -> None:
        """The handshake has come."""
        super().handle_connect(event)
        if self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            self.scope["extensions"][FRAMES] = {}

    async def send(self, message: Any) -> None:
        """ASGI."""
        frames: bytes | None = message.get("frames")
        if frames is None:
            await super().send(message)
            return
        await self.writable.wait()
        if self.disconnected or self.transport.is_closing():
            raise ClientDisconnected
        self.transport.write(frames)
