"""One attempt to deliver a message: signed by the scheme of Standard Webhooks, and bounded in every way."""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import httpcore
import httpx
from standardwebhooks import Webhook

from lastpair import __version__
from lastpair.webhooks.targets import CheckedBackend, NotAllowed, Targets

ATTEMPT_SECONDS = 10
"""The longest time of an attempt: to resolve, to connect, to send, and to read the answer."""

MAX_ANSWER_BYTES = 64 * 1024
"""Of a longer answer the status counts, the rest is not read, and the connection is closed."""

MAX_CONNECTIONS = 100
KEEP_ALIVE_SECONDS = 15
GONE = 410


@dataclass(frozen=True)
class Attempt:
    """What became of an attempt."""

    status: int | None
    """The status of the answer; None if there was none."""

    error: str | None
    """Why it failed, for people; None if the endpoint took the message."""


class Sender:
    """Sends messages. Connections are kept for the next message to the same endpoint."""

    def __init__(self, targets: Targets, attempt_seconds: float = ATTEMPT_SECONDS) -> None:
        self._targets = targets
        self._attempt_seconds = attempt_seconds
        self._tls: ssl.SSLContext | None = None
        self._connections: httpcore.AsyncConnectionPool | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._connections is not None:
            await self._connections.aclose()

    async def send(self, url: str, secrets: Sequence[str], webhook_id: str, body: bytes) -> Attempt:
        """Send a message once."""
        try:
            self._targets.check_url(url)
            async with asyncio.timeout(self._attempt_seconds):
                status = await self._post(url, headers(secrets, webhook_id, body), body)
        except TimeoutError:
            return Attempt(None, f"no answer within {self._attempt_seconds:g} seconds")
        except NotAllowed as error:
            return Attempt(None, f"the URL {error}")
        except (OSError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            return Attempt(None, reason(error))
        if 200 <= status < 300:
            return Attempt(status, None)
        return Attempt(status, f"answered {status}" + (", and redirects are not followed" if 300 <= status < 400 else ""))

    async def _post(self, url: str, fields: list[tuple[str, str]], body: bytes) -> int:
        async with self._pool().stream("POST", url, headers=fields, content=body) as response:
            read_bytes = 0
            async for piece in response.aiter_stream():
                read_bytes += len(piece)
                if read_bytes > MAX_ANSWER_BYTES:
                    break
            return response.status

    def _pool(self) -> httpcore.AsyncConnectionPool:
        if self._connections is None:
            self._connections = httpcore.AsyncConnectionPool(
                ssl_context=httpx.create_ssl_context(),  # made once, because it takes 20 ms
                max_connections=MAX_CONNECTIONS,
                keepalive_expiry=KEEP_ALIVE_SECONDS,
                network_backend=CheckedBackend(self._targets),
            )
        return self._connections


def headers(secrets: Sequence[str], webhook_id: str, body: bytes) -> list[tuple[str, str]]:
    """The headers of an attempt now. Each secret makes a signature, and one that fits is enough for the receiver."""
    now = datetime.now(UTC)
    signatures = [Webhook(secret).sign(webhook_id, now, body.decode()) for secret in secrets]
    return [
        ("content-type", "application/json"),
        ("user-agent", f"Lastpair/{__version__}"),
        ("webhook-id", webhook_id),
        ("webhook-timestamp", str(int(now.timestamp()))),
        ("webhook-signature", " ".join(signatures)),
    ]


def reason(error: Exception) -> str:
    """An error of the connection, for people."""
    said = str(error) or (str(error.__cause__) if error.__cause__ else "") or type(error).__name__
    return f"cannot be reached: {said}"
