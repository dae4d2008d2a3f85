"""Stream tickets: a minute's proof of who opens a stream, in a URL, which is written down in many places."""

import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.support.database import connected as owner_of
from tests.support.envelopes import as_user, assert_error
from tests.support.factories import make_drop_by_sql, make_user
from tests.support.in_process import InProcess, served, settings_for
from tests.support.streams import TRANSPORTS, newest_id, open_stream, publish, serving
from tests.support.tokens import AUDIENCE, ISSUER, SECRET, bearer, token
from tests.support.waiting import eventually

SIGNED = "select $1 || '.' || encode(inventory.ticket_code($1), 'hex')"
JWT = {"AUTH_MODE": "jwt", "JWT_SECRET": SECRET, "JWT_AUDIENCE": AUDIENCE, "JWT_ISSUER": ISSUER}


@pytest.fixture
async def service(own_database_url: str) -> AsyncIterator[InProcess]:
    """The service in this process, on a database of these tests' own."""
    async with served(settings_for(own_database_url)) as service:
        yield service


@pytest.fixture
async def owner(own_database_url: str) -> AsyncIterator[asyncpg.Pool]:
    """Sessions of its owner."""
    async with asyncpg.create_pool(own_database_url, min_size=1, max_size=2) as pool:
        yield pool


@pytest.fixture
async def user(owner: asyncpg.Pool) -> str:
    """A user."""
    return await make_user(owner)


async def ticket_for(http: httpx.AsyncClient, user: str) -> str:
    """A ticket of this user."""
    response = await http.post("/stream-tickets", headers=as_user(UUID(user)))
    assert response.status_code == 201
    ticket: str = response.json()["data"]["ticket"]
    return ticket


async def assert_gets_own(owner: asyncpg.Pool, user: str, stream: Any) -> None:
    """The next event of the stream is one that is for the user."""
    await publish(owner, await make_drop_by_sql(owner, 1), "PAYMENT_UPDATED", ["{}"], user)
    while (message := await stream.receive()).type != "PAYMENT_UPDATED":
        pass
    assert message.id == str(await newest_id(owner))
    await stream.close()


async def refusal_of_stream(transport: str, url: str, **options: Any) -> httpx.Response:
    """The answer to a stream that is refused."""
    try:
        await open_stream(transport, url, **options)
    except httpx.HTTPStatusError as error:
        return error.response
    except InvalidStatus as error:
        answer = error.response
        return httpx.Response(answer.status_code, headers=list(answer.headers.raw_items()), content=bytes(answer.body))
    raise AssertionError("it is not refused")


async def test_the_answer(service: InProcess, owner: asyncpg.Pool, user: str) -> None:
    """A ticket and when it ends. An Idempotency-Key changes nothing."""
    for headers in ({}, {"Idempotency-Key": "x"}):
        response = await service.http.post("/stream-tickets", headers=as_user(UUID(user)) | headers)
        assert response.status_code == 201
        assert response.headers["cache-control"] == "no-store"
        data = response.json()["data"]
        assert list(data) == ["ticket", "expires_at"]
        left = datetime.fromisoformat(data["expires_at"]) - await owner.fetchval("select now()")
        assert timedelta(0) < left <= timedelta(seconds=60)
    assert_error(await service.http.post("/stream-tickets"), 401, "AUTH_REQUIRED")
    assert_error(await service.http.post("/stream-tickets", headers={"X-User-Id": "x"}), 401, "AUTH_REQUIRED")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_ticket_opens_a_stream(
    service: InProcess, owner: asyncpg.Pool, own_database_url: str, user: str, transport: str
) -> None:
    """In the process that made it, and in any other one, such as the next after a restart, more than once."""
    ticket = await ticket_for(service.http, user)
    async with served(settings_for(own_database_url)) as other:
        for each in (service, other, service):
            stream = await open_stream(transport, each.url, snapshot=False, query=[("ticket", ticket)])
            await assert_gets_own(owner, user, stream)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_header_says_whose_stream_it_is(service: InProcess, owner: asyncpg.Pool, user: str, transport: str) -> None:
    """It needs no ticket. A header that is not acceptable is refused, as everywhere; a ticket counts more."""
    stream = await open_stream(transport, service.url, snapshot=False, headers={"X-User-Id": user.upper()})
    await assert_gets_own(owner, user, stream)
    refused = await refusal_of_stream(transport, service.url, headers={"X-User-Id": "x"})
    assert_error(refused, 401, "AUTH_REQUIRED")
    query = [("ticket", await ticket_for(service.http, user))]
    stream = await open_stream(transport, service.url, snapshot=False, headers={"X-User-Id": str(uuid4())}, query=query)
    await assert_gets_own(owner, user, stream)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_tickets_that_are_refused(service: InProcess, owner: asyncpg.Pool, user: str, transport: str) -> None:
    """Forged, too old, or no tickets at all. The answer repeats nothing of them."""
    good = await ticket_for(service.http, user)
    other = uuid4().hex
    old = await owner.fetchval(SIGNED, f"{UUID(user).hex}.{int(time.time()) - 3600}")
    code = good.rpartition(".")[2]
    changed = code[:-1] + ("0" if code[-1] != "0" else "1")
    bad = [
        other + good[32:],
        good[:-64] + changed,
        good[:33] + "9999999999" + good[43:],
        old,
        good.upper(),
        good + "0",
        good[:-1],
        "x",
        "",
        f"{good}\n",
        "٣" * 32 + good[32:],
        "'; select 1; --",
        "x" * 4000,
    ]
    for ticket in bad:
        refused = await refusal_of_stream(transport, service.url, query=[("ticket", ticket)])
        assert_error(refused, 401, "TICKET_INVALID")
        assert not ticket or ticket not in refused.text
    refused = await refusal_of_stream(transport, service.url, query=[("ticket", good), ("ticket", good)])
    assert_error(refused, 400, "VALIDATION_ERROR")
    assert good not in refused.text
    await service.has_streams(0)
    await service.has_subscribers(0)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_is_no_ticket_does_not_reach_the_database(
    service: InProcess, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    """Only what has the form of a ticket is looked at there."""
    asked: list[str] = []
    log = service.components.event_log
    redeem = log.user_of
    monkeypatch.setattr(log, "user_of", lambda ticket: asked.append(ticket) or redeem(ticket))
    forged = f"{uuid4().hex}.{int(time.time()) + 30}.{'0' * 64}"
    for ticket in ("x", forged.upper(), forged + "0", forged):
        await refusal_of_stream(transport, service.url, query=[("ticket", ticket)])
    assert asked == [forged]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_tries_are_limited(own_database_url: str, transport: str) -> None:
    """A ticket that is refused counts as a stream that is opened."""
    async with served(settings_for(own_database_url, rate_limit_streams_per_minute=3)) as service:
        forged = f"{uuid4().hex}.{int(time.time()) + 30}.{'0' * 64}"
        for _ in range(3):
            assert_error(await refusal_of_stream(transport, service.url, query=[("ticket", forged)]), 401, "TICKET_INVALID")
        assert_error(await refusal_of_stream(transport, service.url, query=[("ticket", forged)]), 429, "RATE_LIMITED")


async def test_making_tickets_is_limited(own_database_url: str, user: str) -> None:
    """It is a write of the user."""
    async with served(settings_for(own_database_url, rate_limit_user_per_minute=2)) as service:
        for _ in range(2):
            await ticket_for(service.http, user)
        response = await service.http.post("/stream-tickets", headers=as_user(UUID(user)))
        assert_error(response, 429, "RATE_LIMITED")


async def test_a_ticket_is_written_nowhere(own_database_url: str, user: str) -> None:
    """Neither a good ticket nor a bad one is in the log of a process, at any level."""
    async with serving(own_database_url, LOG_LEVEL="debug") as api:
        good = await ticket_for(api.http, user)
        forged = f"{uuid4().hex}.{good[33:43]}.{'0' * 64}"
        for transport in TRANSPORTS:
            stream = await open_stream(transport, api.url, snapshot=False, query=[("ticket", good)])
            await stream.receive_any()
            await stream.close()
            for ticket in (forged, good + "x"):
                await refusal_of_stream(transport, api.url, query=[("ticket", ticket)])
        await api.http.get("/events/nothing", params={"ticket": good})
        await api.http.get("/drops", params={"ticket": good})
        await eventually(lambda: api.service.log().count("TICKET_INVALID") >= 4)
        log = api.service.log()
    for ticket in (good, forged):
        assert ticket not in log
        assert ticket[33:] not in log


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_tokens(own_database_url: str, owner: asyncpg.Pool, transport: str) -> None:
    """With AUTH_MODE=jwt a bearer token says whose stream it is, and makes tickets. X-User-Id says nothing."""
    user = await make_user(owner)
    async with serving(own_database_url, **JWT) as service:
        good = bearer(token(SECRET, user))
        stream = await open_stream(transport, service.url, snapshot=False, headers=good)
        await assert_gets_own(owner, user, stream)
        made = (await service.http.post("/stream-tickets", headers=good)).json()["data"]
        stream = await open_stream(transport, service.url, snapshot=False, query=[("ticket", made["ticket"])])
        await assert_gets_own(owner, user, stream)
        for bad in ({"Authorization": "Bearer x"}, {"Authorization": "Basic eDp4"}):
            assert_error(await refusal_of_stream(transport, service.url, headers=bad), 401, "AUTH_REQUIRED")
        assert_error(await service.http.post("/stream-tickets", headers={"X-User-Id": user}), 401, "AUTH_REQUIRED")
        stream = await open_stream(transport, service.url, snapshot=False, headers={"X-User-Id": user})
        await publish(owner, drop := await make_drop_by_sql(owner, 1), "PAYMENT_UPDATED", ["{}"], user)
        await publish(owner, drop, "END", ["{}"])
        types = []
        while "END" not in types:
            types.append((await stream.receive()).type)
        assert "PAYMENT_UPDATED" not in types
        await stream.close()


async def test_a_key_of_the_database_alone(own_database_url: str, service: InProcess, user: str) -> None:
    """Without the key no ticket is good; with a new key the old ones are not."""
    old = await ticket_for(service.http, user)
    async with owner_of(own_database_url) as owner:
        await owner.execute("update inventory.ticket_key set inner_key = outer_key, outer_key = inner_key")
        try:
            assert_error(await refusal_of_stream("sse", service.url, query=[("ticket", old)]), 401, "TICKET_INVALID")
            stream = await open_stream("sse", service.url, query=[("ticket", await ticket_for(service.http, user))])
            await stream.close()
        finally:
            await owner.execute("update inventory.ticket_key set inner_key = outer_key, outer_key = inner_key")
