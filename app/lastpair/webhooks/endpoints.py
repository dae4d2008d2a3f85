"""The class `Webhooks`: what a seller does with webhook endpoints and deliveries. It knows no HTTP that comes in."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from lastpair.database.pool import Database
from lastpair.errors import invalid
from lastpair.shop.outcome import CREATED, DONE, Caller, Outcome
from lastpair.shop.shared_calls import page_by_time
from lastpair.shop.shop import Shop
from lastpair.shop.statements import Statements, refused
from lastpair.webhooks.targets import NotAllowed, Targets


def with_secret(call: str) -> str:
    """A statement for a call whose answer has the secret of the endpoint."""
    return f"""
select made.replayed, to_json(shown)
from {call} made
cross join lateral (select (made.endpoint).*, made.secret) shown
"""  # noqa: S608 - only of the constants here


CREATE = with_secret("api.create_webhook_endpoint($1, $2, $3, $4)")
ROTATE = with_secret("api.rotate_webhook_secret($1, $2, $3)")
UPDATE = "select to_json(e) from api.update_webhook_endpoint($1, $2) e"
DELETE = "select to_json(e) from api.delete_webhook_endpoint($1) e"
GET = "select to_json(e) from api.get_webhook_endpoint($1) e"
LIST = page_by_time("api.list_webhook_endpoints", at="createdAt", arguments="$1 + 1", cursor="$2")
DELIVERIES = page_by_time("api.list_webhook_deliveries", at="createdAt", arguments="$2, $4, $5, $6, $1 + 1")
REPLAY = "select d.replayed, to_json(d.delivery) from api.replay_webhook_delivery($1, $2, $3) d"
TEST = "select d.replayed, to_json(d.delivery) from api.send_test_webhook($1, $2, $3) d"

ACCEPTED = 202
"""The status of a request whose delivery follows."""


class OfEndpoint(NamedTuple):
    """What a list of deliveries has: those of this endpoint, and only those of this status, type or drop, if given."""

    endpoint_id: str
    status: str | None = None
    type: str | None = None
    drop_id: str | None = None


class Webhooks(Statements):
    """What a seller does with webhook endpoints. Each method returns an Outcome, and raises what those of Shop raise."""

    def __init__(self, database: Database, shop: Shop, targets: Targets, wake: Callable[[], None]) -> None:
        super().__init__(database)
        self._shop = shop
        self._targets = targets
        self._wake = wake

    async def create(self, caller: Caller, url: str, event_types: Sequence[str], idempotency_key: str | None) -> Outcome:
        """Tell a URL what happens from now on. Data: the endpoint with its secret."""
        if refusal := self._refusal_of(url):
            return refusal
        return await self._act(caller, CREATED, CREATE, url, event_types, caller.id, idempotency_key)

    async def update(self, caller: Caller, endpoint_id: str, changes: str, url: str | None) -> Outcome:
        """Change those fields of an endpoint that are in `changes`, a JSON object; `url` is the one in it. Data: the endpoint."""
        if url is not None and (refusal := self._refusal_of(url)):
            return refusal
        return await self._shop.act_for(caller, lambda: self.single(UPDATE, endpoint_id, changes))

    async def delete(self, caller: Caller, endpoint_id: str) -> Outcome:
        """Remove an endpoint with its deliveries. Data: the endpoint."""
        return await self._shop.act_for(caller, lambda: self.single(DELETE, endpoint_id))

    async def get(self, endpoint_id: str) -> Outcome:
        """One endpoint. Data: the endpoint."""
        return await self.single(GET, endpoint_id)

    async def list(self, limit: int, cursor: str | None) -> Outcome:
        """The endpoints. Data: a page of endpoints, newest first."""
        return await self.page(LIST, limit, cursor)

    async def rotate_secret(self, caller: Caller, endpoint_id: str, idempotency_key: str | None) -> Outcome:
        """Give an endpoint a new secret. Data: the endpoint with its secret."""
        return await self._act(caller, DONE, ROTATE, endpoint_id, caller.id, idempotency_key)

    async def deliveries(self, of_endpoint: OfEndpoint, limit: int, cursor: str | None) -> Outcome:
        """What was sent, or is to be sent. Data: a page of deliveries, newest first."""
        return await self._shop.page_of_all(DELIVERIES, limit, of_endpoint.endpoint_id, cursor, *of_endpoint[1:])

    async def replay(self, caller: Caller, delivery_id: str, idempotency_key: str | None) -> Outcome:
        """Send a message once more. Data: the delivery."""
        return await self._act(caller, ACCEPTED, REPLAY, delivery_id, caller.id, idempotency_key)

    async def test(self, caller: Caller, endpoint_id: str, idempotency_key: str | None) -> Outcome:
        """Send a message that says nothing. Data: the delivery."""
        return await self._act(caller, ACCEPTED, TEST, endpoint_id, caller.id, idempotency_key)

    async def _act(self, caller: Caller, status: int, statement: str, *arguments: object) -> Outcome:
        outcome = await self._shop.act_for(caller, lambda: self.repeatable(status, statement, *arguments))
        self._wake()
        return outcome

    def _refusal_of(self, url: str) -> Outcome | None:
        try:
            self._targets.check_url(url)
        except NotAllowed as error:
            return refused(invalid("url", str(error)))
        return None
