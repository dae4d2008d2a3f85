"""A Stripe to test with: localstripe, which keeps its state, behind a proxy that can break what passes to and from the service.

The proxy adds what localstripe lacks and the service relies on: a request with an Idempotency-Key is carried out once, and is
answered the same when it comes again.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from json import dumps, loads
from typing import Any
from uuid import uuid4

import httpx
import stripe
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.support.in_process import server_for, url_of
from tests.support.row_checks import Row
from tests.support.servers import started
from tests.support.waiting import eventually

SECRET_KEY = "sk_test_lastpair"  # noqa: S105
PUBLISHABLE_KEY = "pk_test_lastpair"
WEBHOOK_SECRET = "whsec_lastpair"  # noqa: S105
VISA, DECLINED = "pm_card_visa", "pm_card_chargeCustomerFail"


class Stripe:
    """What buyers, and people at Stripe's dashboard, do there, and what happens between Stripe and the service."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self.url = ""
        """Where the service finds Stripe."""

        self.webhook_url = ""
        """Where the service takes what Stripe tells."""

        self.asked: list[tuple[str, str]] = []
        """The requests that reached Stripe: method and path."""

        self.fails = False
        """Whether the service's requests are answered 503 and not carried out."""

        self.loses_answers = False
        """Whether the service's requests that change something are carried out, and answered as by a Stripe that fails then."""

        self.answers_are_held = asyncio.Event()
        """The service's requests are carried out, and their answers wait for this."""

        self.answers_are_held.set()
        self.delivers = True
        """Whether webhooks go on to the service by themselves."""

        self.passed_on: set[int] = set()
        """The places of the webhooks that were brought to the service, or were not to be."""

        self.webhooks: list[tuple[bytes, dict[str, str]]] = []
        """Every webhook that Stripe sent."""

        self._answers: dict[str, asyncio.Task[Response]] = {}

    async def pass_on(self, request: Request) -> Response:
        """A request of the service."""
        if self.fails:
            return Response(dumps({"error": {"type": "api_error"}}), 503, {"content-type": "application/json"})
        key, body = request.headers.get("idempotency-key", uuid4().hex), await request.body()
        if key not in self._answers:
            self.asked.append((request.method, request.url.path))
            self._answers[key] = asyncio.create_task(self._carry_out(request, body))
        answer = await self._answers[key]
        await self.answers_are_held.wait()
        if self.loses_answers and request.method == "POST":
            raise ConnectionError("the answer is lost")
        return answer

    async def _carry_out(self, request: Request, body: bytes) -> Response:
        headers = {name: value for name, value in request.headers.items() if name in {"authorization", "content-type"}}
        url = f"{request.url.path}?{request.url.query}"
        answer = await self._http.request(request.method, url, content=body, headers=headers)
        return Response(answer.content, answer.status_code, {"content-type": answer.headers["content-type"]})

    def forget_keys(self) -> None:
        """Forget the idempotency keys, as Stripe does after a day."""
        self._answers.clear()

    async def pass_webhook_on(self, request: Request) -> Response:
        """A webhook of Stripe."""
        number = len(self.webhooks)
        self.webhooks.append((await request.body(), dict(request.headers)))
        if self.delivers:
            await self.deliver(number)
        self.passed_on.add(number)
        return Response()

    async def deliver(self, number: int) -> httpx.Response:
        """Bring a webhook that was sent, by its place in `webhooks`, to the service."""
        body, headers = self.webhooks[number]
        async with httpx.AsyncClient(timeout=60) as http:
            return await http.post(
                self.webhook_url, content=body, headers={name: headers[name] for name in ("stripe-signature", "content-type")}
            )

    async def has_told(self, payment: Row, kind: str) -> int:
        """Wait until a webhook of this type was sent of the payment, and brought to the service if it is. Returns its place.

        localstripe sends each a second after its event.
        """
        reference = payment["provider_reference"].encode()
        found: list[int] = []

        def is_there() -> bool:
            of_payment = [n for n, (body, _) in enumerate(self.webhooks) if reference in body and loads(body)["type"] == kind]
            found[:] = [n for n in of_payment if n in self.passed_on]
            return bool(found)

        await eventually(is_there, timeout_seconds=60)
        return found[-1]

    async def ask(self, method: str, path: str, body: Row | None = None, status: int = 200) -> Row:
        """What Stripe answers to somebody else than the service."""
        answer = await self._http.request(method, path, json=body, headers={"authorization": f"Bearer {SECRET_KEY}"})
        assert answer.status_code == status, answer.text
        found: Row = answer.json() if answer.content else {}
        return found

    async def pay(self, payment: Row, method: str = VISA) -> None:
        """Confirm a payment as its buyer's browser does."""
        path = f"/v1/payment_intents/{payment['provider_reference']}"
        # localstripe does not forget the last charge by itself when another payment method is tried.
        await self.ask("POST", path, {"payment_method": method, "latest_charge": None})
        await self.ask("POST", f"{path}/confirm", status=402 if method == DECLINED else 200)

    async def refund(self, payment: Row, amount: int | None = None) -> None:
        """Refund a payment as a person at Stripe's dashboard does. The amount is in the smallest unit."""
        body: Row = {"payment_intent": payment["provider_reference"]} | ({} if amount is None else {"amount": amount})
        await self.ask("POST", "/v1/refunds", body)

    async def intent(self, payment: Row) -> Row:
        """The payment as Stripe has it."""
        return await self.ask("GET", f"/v1/payment_intents/{payment['provider_reference']}")

    async def tell(self, kind: str, found: Row, event_id: str = "", *, livemode: bool = False, **signing: Any) -> httpx.Response:
        """Send an event that localstripe does not send by itself, signed as Stripe signs."""
        event = {"id": event_id or f"evt_{uuid4().hex}", "object": "event", "type": kind, "livemode": livemode}
        body = dumps(event | {"data": {"object": found}})
        async with httpx.AsyncClient(timeout=60) as http:
            return await http.post(self.webhook_url, content=body, headers=signed(body, **signing))

    async def tell_refunded(self, payment: Row) -> httpx.Response:
        """Send `charge.refunded` with the charge as it is now."""
        return await self.tell("charge.refunded", (await self.intent(payment))["latest_charge"])


def signed(body: str, secret: str = WEBHOOK_SECRET, age_seconds: int = 0) -> dict[str, str]:
    """The headers of a webhook of Stripe with this body."""
    moment = int(time.time()) - age_seconds
    signature = stripe.WebhookSignature.generate_signature_header(body, secret, timestamp=moment)
    return {"stripe-signature": signature, "content-type": "application/json; charset=utf-8"}


@asynccontextmanager
async def local_stripe() -> AsyncIterator[Stripe]:
    """localstripe and the proxy before it, in the event loop of the test."""
    with started("localstripe", "--from-scratch", "--port", "PORT") as process:
        async with httpx.AsyncClient(base_url=process.url, timeout=30) as http:
            found = Stripe(http)

            async def answers() -> bool:
                assert process.process.poll() is None, process.log()
                try:
                    return (await http.get("/js.stripe.com/v3/")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(answers, timeout_seconds=60)
            app = Starlette(
                routes=[
                    Route("/webhook", found.pass_webhook_on, methods=["POST"]),
                    Route("/{path:path}", found.pass_on, methods=["GET", "POST", "DELETE"]),
                ]
            )
            server = server_for(app)
            serving = asyncio.create_task(server.serve())
            try:
                await eventually(lambda: server.started or serving.done())
                found.url = url_of(server)
                await found.ask("POST", "/_config/webhooks/lastpair", {"url": f"{found.url}/webhook", "secret": WEBHOOK_SECRET})
                yield found
            finally:
                server.should_exit = True
                await serving
