"""Drafts are the seller's: the public finds them neither by their id nor on a stream, until they are published."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from tests.support.database import Database
from tests.support.envelopes import as_user, assert_error, assert_success
from tests.support.factories import assert_healthy, make_drop, make_user
from tests.support.row_checks import Row
from tests.support.streams import TRANSPORTS, Api, fresh_database, open_stream, serving


@pytest.fixture(scope="module")
async def api(database: Database) -> AsyncIterator[Api]:
    """A service on a database of its own."""
    async with fresh_database(database) as url, serving(url) as api:
        yield api
        await assert_healthy(api.owner)


@pytest.fixture(scope="module")
async def seller(api: Api) -> str:
    """The user who makes the drops."""
    return await make_user(api.owner)


async def make_draft(api: Api, seller: str) -> Row:
    """A new draft."""
    drop = await make_drop(api.http, seller, starts_at=None)
    assert drop["status"] == "draft"
    return drop


async def change(api: Api, seller: str, drop: Row, **changes: object) -> Row:
    """The drop after a PATCH."""
    changed: Row = assert_success(await api.http.patch(f"/drops/{drop['id']}", json=changes, headers=as_user(seller)), "drop")
    return changed


async def test_the_public_finds_no_draft(api: Api, seller: str) -> None:
    """404 as if there were none, with every kind of request that names nobody; who may change drops finds it."""
    draft = await make_draft(api, seller)
    path = f"/drops/{draft['id']}"
    for headers in ({}, {"If-None-Match": "*"}):
        assert_error(await api.http.get(path, headers=headers), 404, "DROP_NOT_FOUND")
    assert_error(await api.http.get(path, headers={"X-User-Id": "nobody"}), 401, "AUTH_REQUIRED")
    assert (await api.http.head(path)).status_code == 404
    assert assert_success(await api.http.get(path, headers=as_user(seller)), "drop") == draft
    published = await change(api, seller, draft, status="live")
    assert assert_success(await api.http.get(path), "drop") == published


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("names_it", [False, True])
async def test_a_stream_hears_of_a_draft_when_it_is_published(api: Api, seller: str, transport: str, names_it: bool) -> None:
    """Neither SNAPSHOT nor events have it before. Then it comes as DROP_CREATED, and goes as DROP_REMOVED."""
    draft = await make_draft(api, seller)
    drop_ids = [draft["id"]] if names_it else []
    stream = await open_stream(transport, api.url, drop_ids)
    try:
        snapshot = await stream.receive()
        assert draft["id"] not in {drop["id"] for drop in snapshot.data["drops"]}
        await change(api, seller, draft, name="Secret", total_stock=9)
        scheduled = await change(api, seller, draft, starts_at="2999-01-01T00:00:00Z", status="scheduled")
        assert await next_of(stream, draft) == ("DROP_CREATED", {"drop": scheduled})
        again = await change(api, seller, draft, name="Public")
        assert await next_of(stream, draft) == ("DROP_UPDATED", {"drop": again})
        await change(api, seller, draft, status="draft", name="Secret again")
        assert await next_of(stream, draft) == ("DROP_REMOVED", {"dropId": draft["id"]})
        await change(api, seller, draft, price=7)
        live = await change(api, seller, draft, status="live")
        assert await next_of(stream, draft) == ("DROP_CREATED", {"drop": live})
        await api.owner.execute("delete from inventory.drops where id = $1", UUID(draft["id"]))
        assert await next_of(stream, draft) == ("DROP_REMOVED", {"dropId": draft["id"]})
    finally:
        await stream.close()


async def next_of(stream: Any, drop: Row) -> tuple[str, Row]:
    """The type and data of the next event of this drop."""
    while True:
        message = await stream.receive()
        if drop["id"] in (message.data.get("dropId"), message.data.get("drop", {}).get("id")):
            return message.type, message.data


async def test_what_is_never_seen_is_never_announced(api: Api, seller: str) -> None:
    """A draft that is cancelled, or deleted by hand, leaves nothing in the log."""
    cancelled, deleted = await make_draft(api, seller), await make_draft(api, seller)
    await change(api, seller, cancelled, status="cancelled")
    await api.owner.execute("delete from inventory.drops where id = $1", UUID(deleted["id"]))
    ids = [UUID(cancelled["id"]), UUID(deleted["id"])]
    assert await api.owner.fetchval("select count(*) from inventory.events where drop_id = any ($1)", ids) == 0
