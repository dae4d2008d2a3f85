"""/socket.io/, which the extra `socketio` serves."""

import asyncio
from importlib import import_module
from importlib.util import find_spec
from typing import NoReturn

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import ASGIApp, Receive, Scope, Send

from lastpair.errors import Refusal
from lastpair.web.components import components_in
from lastpair.web.responses import ANSWER_HEADERS
from lastpair.web.url_paths import SOCKETIO_PATH

METHODS = ("GET", "HEAD", "POST")
NOT_INSTALLED = Refusal(
    404, "NOT_FOUND", "Socket.IO is not installed here. Install the extra (pip install 'lastpair[socketio]') and restart."
)


class SocketIORoute(BaseRoute):
    """The route of requests and WebSockets alike. The packages of Socket.IO are imported when the first client comes."""

    path = SOCKETIO_PATH

    def __init__(self) -> None:
        self._is_installed = find_spec("socketio") is not None
        self._server: ASGIApp | None = None

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether the path is this route's."""
        return (Match.FULL if scope["path"] == SOCKETIO_PATH else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. Raises Refusal before anything is sent."""
        scope["route"] = SOCKETIO_PATH
        if not self._is_installed:
            raise NOT_INSTALLED
        method = scope.get("method", "GET")
        if method not in METHODS:
            raise HTTPException(405, headers={"Allow": ", ".join(METHODS)})
        if method == "HEAD":
            await Response(headers=ANSWER_HEADERS)(scope, receive, send)
            return
        server = self._server
        if server is None:
            module = await asyncio.to_thread(import_module, "lastpair.web.socketio_server")
            server = self._server = self._server or module.SocketIOServer(components_in(scope))
        await server(scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: object) -> NoReturn:
        """No name leads here."""
        raise NoMatchFound(name, path_params)
