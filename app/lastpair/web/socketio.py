"""/socket.io/, which the extra `socketio` serves."""

import asyncio
from importlib import import_module
from importlib.util import find_spec

from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from lastpair.errors import Refusal
from lastpair.web.components import components_in
from lastpair.web.responses import ANSWER_HEADERS
from lastpair.web.url_paths import SOCKETIO_PATH

NOT_INSTALLED = Refusal(
    404,
    "NOT_FOUND",
    "Socket.IO is not installed here. Install the extra socketio (pip install 'lastpair[socketio]') and restart.",
)


class SocketIO:
    """The server of Socket.IO, as an ASGI application. Its packages are imported when the first client comes."""

    def __init__(self) -> None:
        self._is_installed = find_spec("socketio") is not None
        self._server: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Raises Refusal before anything is sent."""
        scope["route"] = SOCKETIO_PATH
        if not self._is_installed:
            raise NOT_INSTALLED
        if scope.get("method") == "HEAD":
            await Response(headers=ANSWER_HEADERS)(scope, receive, send)
            return
        if self._server is None:
            module = await asyncio.to_thread(import_module, "lastpair.web.socketio_server")
            self._server = self._server or module.SocketIOServer(components_in(scope))
        assert self._server is not None  # noqa: S101 - mypy does not see it
        await self._server(scope, receive, send)


def socketio_routes() -> list[BaseRoute]:
    """The routes of Socket.IO."""
    application = SocketIO()
    return [Route(SOCKETIO_PATH, application, methods=["GET", "POST"]), WebSocketRoute(SOCKETIO_PATH, application)]
