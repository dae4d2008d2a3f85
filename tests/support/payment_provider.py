"""A payment provider of one's own, as docs/payments.md describes it: it takes the service's messages and sends its own."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from json import dumps, loads
from typing import Any
from uuid import uuid4

import httpx
from standardwebhooks import Webhook
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.in_process import server_for, url_of
from tests.support.row_checks import Row
from tests.support.waiting import eventually

SECRET = "whsec_bGFzdHBhaXIncyBzZWNyZXQgb2YgMzIgYnl0ZXMh"  # noqa: S105


class OwnProvider:
    """What the provider knows, and what it is told."""

    def __init__(self) -> None:
        self.url = ""
        self.webhook_url = ""
        self.told: list[Row] = []
        """The messages of the service, each carried out once by its id."""

        self.statuses: dict[str, Row] = defaultdict(lambda: {"status": "pending"})
        """How each payment stands here."""

        self.fails = False
        """Whether messages are answered 503 and not carried out."""

        self.created: Row | None = None
        """What is answered to `create` instead of a reference and a URL of the payment's own."""

        self.bomb = b""
        """Compressed bytes that every message is answered with, if any."""

        self._answers: dict[str, Row] = {}

    async def take(self, request: Request) -> Response:
        """A message of the service."""
        body = (await request.body()).decode()
        Webhook(SECRET).verify(body, dict(request.headers))
        if self.fails:
            return Response(status_code=503)
        if self.bomb:
            assert request.headers["accept-encoding"] == "identity"
            return Response(self.bomb, headers={"content-encoding": "gzip"})
        key, message = request.headers["webhook-id"], loads(body, parse_float=Decimal)
        if key not in self._answers:
            self.told.append(message)
            self._answers[key] = self._answer(message)
        return JSONResponse(self._answers[key])

    def _answer(self, message: Row) -> Row:
        payment_id = message["payment"]["id"]
        status = self.statuses[payment_id]
        match message["action"]:
            case "create":
                return self.created or {"provider_reference": f"own-{payment_id}", "url": f"https://pay.example/{payment_id}"}
            case "status":
                return status
            case "refund":
                refunded = Decimal(status.get("refunded_amount", 0)) + message["amount"]
                status |= {"status": "refunded", "refunded_amount": str(refunded)}
            case "cancel":
                status["status"] = "cancelled"
        return {}

    async def tell(self, payment: Row, status: str, message_id: str = "", **more: Any) -> httpx.Response:
        """Send a notice of a payment. `secret`, `age_seconds` and `body` make it a wrong one."""
        secret, age_seconds = more.pop("secret", SECRET), more.pop("age_seconds", 0)
        notice = {"payment_id": payment["id"], "status": status, "provider_reference": f"own-{payment['id']}"} | more
        body = more.pop("body", None) or dumps(notice)
        headers = signed(body, message_id or f"msg_{uuid4().hex}", secret, age_seconds)
        async with httpx.AsyncClient(timeout=60) as http:
            return await http.post(self.webhook_url, content=body, headers=headers)


def signed(body: str, message_id: str, secret: str = SECRET, age_seconds: int = 0) -> dict[str, str]:
    """The headers of a message with this body."""
    moment = datetime.now(UTC) - timedelta(seconds=age_seconds)
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, moment, body),
    }


@asynccontextmanager
async def own_provider() -> AsyncIterator[OwnProvider]:
    """A provider that serves in the event loop of the test."""
    found = OwnProvider()
    server = server_for(Starlette(routes=[Route("/lastpair", found.take, methods=["POST"])]))
    serving = asyncio.create_task(server.serve())
    try:
        await eventually(lambda: server.started or serving.done())
        found.url = f"{url_of(server)}/lastpair"
        yield found
    finally:
        server.should_exit = True
        await serving
