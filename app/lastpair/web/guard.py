"""Refuses requests before anything else sees them: by the port they came to, by `Host`, and by the page that sent them."""

import asyncio
import re
from collections.abc import Awaitable
from functools import lru_cache

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from lastpair.errors import Refusal
from lastpair.settings import DEFAULT_PORTS, Settings
from lastpair.web.error_codes import NOT_FOUND
from lastpair.web.requests import headers_of
from lastpair.web.responses import failure
from lastpair.web.url_paths import PROBE_PATHS

LOCAL_HOSTS = ("localhost", "*.localhost", "127.0.0.1", "[::1]")
"""Hosts that always name this machine, because no DNS server is asked about them."""

HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+?)\.?(:[0-9]*)?")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
OTHER_SITES = frozenset({b"cross-site", b"same-site"})
MAX_QUOTED = 256

MISDIRECTED = Refusal(
    421, "MISDIRECTED_REQUEST", "Host: this service is not known by that name. If it should be, add the name to ALLOWED_HOSTS."
)
CROSS_SITE = Refusal(403, "FORBIDDEN", "Sec-Fetch-Site: a page of another origin sent this, and a form of it may not.")


class Guard:
    """Refuses what came to the wrong port (404), names another host (421), or is a page's of another origin (403).

    - With ADMIN_PORT, the probes are served on that port and nothing else is. It takes any host, because probes name addresses.
    - A host that is not ours means that a page reached this machine by DNS rebinding. A request without Host passes: it is of
      HTTP/1.0, so no browser sent it.
    - Browsers let any page send forms and open WebSockets. A request that changes something, and a handshake, therefore needs an
      Origin that is ours or in CORS_ORIGINS. One without Origin passes, as other clients send it, unless Sec-Fetch-Site says that
      it is a page's of another site. CORS alone protects reads.
    """

    def __init__(self, settings: Settings) -> None:
        self._admin_port = settings.admin_port
        takes_any_host = "*" in settings.allowed_hosts or not (settings.allowed_hosts or settings.development)
        self._hosts = None if takes_any_host else frozenset((*settings.allowed_hosts, *LOCAL_HOSTS))
        self._is_ours = lru_cache(maxsize=256)(self._is_allowed_host)
        self._origins = frozenset(normal_origin(origin) for origin in settings.cors_origins)

    def refusal(self, scope: Scope) -> Refusal | None:
        """Why this request is refused; None if it passes."""
        is_admin = False
        if self._admin_port is not None:
            is_admin = (scope.get("server") or (None, None))[1] == self._admin_port
            if is_admin != (scope["path"] in PROBE_PATHS):
                return NOT_FOUND
        headers = headers_of(scope)
        if self._hosts is not None and not is_admin and not self._is_ours(headers.get(b"host")):
            return MISDIRECTED
        if scope.get("method") in SAFE_METHODS or "*" in self._origins:
            return None
        origin = headers.get(b"origin")
        if origin is None:
            return CROSS_SITE if headers.get(b"sec-fetch-site") in OTHER_SITES else None
        return self._refusal_of(normal_origin(origin.decode("latin-1")), own_origin(scope, headers))

    def _refusal_of(self, origin: str, own: str) -> Refusal | None:
        if origin == own or origin in self._origins:
            return None
        return Refusal(
            403,
            "FORBIDDEN",
            f"Origin: {ascii(origin[:MAX_QUOTED])[1:-1]} is neither this service's own, which by Host and the proxy's"
            f" X-Forwarded-Proto is {ascii(own[:MAX_QUOTED])[1:-1]}, nor in CORS_ORIGINS",
        )

    def _is_allowed_host(self, host: bytes | None) -> bool:
        if host is None:
            return True
        match = HOST.fullmatch(host.decode("latin-1").lower())
        if match is None or self._hosts is None:
            return False
        name = match[1]
        labels = name.split(".")
        return name in self._hosts or any(
            "*." + ".".join(labels[skipped:]) in self._hosts for skipped in range(1, len(labels)) if labels[0]
        )


class Guarded:
    """An application behind the guard."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self.app = app
        self._guard = guard

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """ASGI. This is no coroutine of its own, because nearly every request passes, and one less takes less time."""
        refusal = None if scope["type"] == "lifespan" else self._guard.refusal(scope)
        return self.app(scope, receive, send) if refusal is None else self._refuse(refusal, scope, receive, send)

    async def _refuse(self, refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
        await failure(HTTPConnection(scope), refusal)(scope, receive, send)
        if scope["type"] == "websocket":
            # The server closes the connection in the next iteration. If we returned before, it would log an error.
            await asyncio.sleep(0)


def own_origin(scope: Scope, headers: dict[bytes, bytes]) -> str:
    """The origin of this service as the client sees it: its scheme, which a trusted proxy may have told, and its Host."""
    scheme = "https" if scope["scheme"] in {"https", "wss"} else "http"
    return normal_origin(f"{scheme}://{headers.get(b'host', b'').decode('latin-1')}")


def normal_origin(text: str) -> str:
    """An origin as a browser writes it: in lower case, without the scheme's own port."""
    origin = text.lower().removesuffix(":")
    return origin.removesuffix(":" + DEFAULT_PORTS.get(origin.partition("://")[0], ""))
