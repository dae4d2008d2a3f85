"""Webhook endpoints for tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

import httpx

from lastpair.web.schemas import WEBHOOK_TYPES
from tests.support.envelopes import as_user, assert_success
from tests.support.factories import Owner, make_user
from tests.support.row_checks import Row
from tests.support.streams import Api
from tests.support.waiting import eventually
from tests.support.webhook_receiver import Received, Receiver

PRIVATE_TARGETS = {"WEBHOOK_PRIVATE_TARGETS": "127.0.0.1"}
"""The settings of a service that may send to a receiver on this machine."""

PATIENCE_SECONDS = 120
"""How long a test waits for a message. It is longer than a lease, because a process may have been killed with one."""


@dataclass
class Endpoint:
    """An endpoint whose URL is a path of the receiver's that no other endpoint has."""

    api: Api
    receiver: Receiver
    seller: str
    path: str
    row: Row

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.row["id"])

    @property
    def secret(self) -> str:
        """Its secret."""
        return str(self.row["secret"])

    def answer(self, answer: int | str) -> None:
        """From now on the receiver answers so."""
        self.receiver.answer(self.path, answer)

    def received(self) -> list[Received]:
        """What came so far, in order."""
        return self.receiver.received(self.path)

    def taken(self) -> list[Received]:
        """The first request of each message that the receiver answered with success. A message may come again."""
        first: dict[str, Received] = {}
        for request in self.receiver.taken(self.path):
            first.setdefault(request.id, request)
        return list(first.values())

    async def comes(self, count: int = 1) -> list[Received]:
        """Wait until so many messages were taken."""
        await eventually(lambda: len(self.taken()) >= count, PATIENCE_SECONDS)
        return self.taken()

    async def ask(self, method: str, path: str = "", **more: object) -> httpx.Response:
        """A request of the seller's about the endpoint."""
        headers = as_user(self.seller) | dict(more.pop("headers", {}))  # type: ignore[call-overload]
        return await self.api.http.request(method, f"/webhook-endpoints/{self.id}{path}", headers=headers, **more)  # type: ignore[arg-type]

    async def now(self) -> Row:
        """The endpoint as it is."""
        row: Row = assert_success(await self.ask("GET"), "webhook_endpoint")
        return row

    async def deliveries(self, query: str = "") -> list[Row]:
        """A page of its deliveries."""
        rows: list[Row] = assert_success(await self.ask("GET", f"/deliveries?limit=200{query}"), "webhook_deliveries")
        return rows

    async def remove(self) -> None:
        """Delete it, if it is still there."""
        await self.ask("DELETE")


async def make_endpoint(api: Api, receiver: Receiver, event_types: Sequence[str] = WEBHOOK_TYPES) -> Endpoint:
    """A new endpoint that wants these types."""
    seller, path = await make_user(api.owner), f"/{uuid4().hex}"
    body = {"url": receiver.url + path, "event_types": list(event_types)}
    response = await api.http.post("/webhook-endpoints", json=body, headers=as_user(seller))
    return Endpoint(api, receiver, seller, path, assert_success(response, "webhook_endpoint", 201))


async def let_be_due(owner: Owner) -> None:
    """Let every attempt that waits for its time be made now."""
    await owner.execute("update inventory.webhook_lanes set next_attempt_at = now() where lease is null")
