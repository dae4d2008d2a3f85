"""A rush of buyers: the command `lastpair rush`, and the rush that the service starts as its child."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest

from lastpair.web.schemas import Rush
from tests.support.commands import lastpair
from tests.support.dashboard import started_at
from tests.support.database import Database
from tests.support.envelopes import as_user, assert_error, assert_invalid, assert_success
from tests.support.factories import assert_healthy, make_drop, make_user
from tests.support.servers import Service, free_port, is_running
from tests.support.streams import Api, fresh_database, serving
from tests.support.waiting import eventually, wait_for

PATH = "/internal/rush"
TOKENS = {
    "AUTH_MODE": "jwt",
    "JWT_SECRET": "a secret that only the tests know of",
    "JWT_AUDIENCE": "lastpair",
    "JWT_ISSUER": "https://id.example",
}
NOBODY = "postgresql://nobody:hunter2@127.0.0.1:1/nothing"


@pytest.fixture(scope="module")
async def api(database: Database) -> AsyncIterator[Api]:
    """A service on a database of its own. It takes two writes a minute of an address, and some more of a user."""
    limits = {"RATE_LIMIT_ADDRESS_PER_MINUTE": "2", "RATE_LIMIT_USER_PER_MINUTE": "20"}
    async with fresh_database(database) as url, serving(url, **limits) as api:
        yield api
        await assert_healthy(api.owner)


async def rush(api: Api, *arguments: str, url: str | None = None) -> tuple[int, str, str]:
    """Run the command against the service; returns its exit code and its output."""
    result = await asyncio.to_thread(lastpair, "rush", f"--url={url or api.url}", *arguments, DATABASE_URL=api.database_url)
    return result.returncode, result.stdout, result.stderr


async def sold(api: Api, drop_id: str) -> tuple[int, int]:
    """How many units the users of the drop bought, and how many are left."""
    bought = await api.owner.fetchval(
        "select count(distinct user_id) from inventory.purchases where drop_id = $1 and status = 'paid'", drop_id
    )
    left = await api.owner.fetchval("select available_stock from inventory.drops where id = $1", drop_id)
    return bought, left


@pytest.mark.parametrize(("buyers", "stock"), [(700, 20), (5, 30), (1, 1)])
async def test_command(api: Api, buyers: int, stock: int) -> None:
    """Exactly the stock is sold, and what is printed says so. The limits of the service count each buyer alone."""
    exit_code, printed, errors = await rush(api, f"--buyers={buyers}", f"--stock={stock}")
    assert (exit_code, errors) == (0, ""), printed
    begin, *seconds, summary, claim = printed.splitlines()
    expected = min(buyers, stock)
    match = re.fullmatch(rf"{buyers} buyers want one of {stock} units of the drop ([-0-9a-f]{{36}})", begin)
    assert match
    assert await sold(api, match[1]) == (expected, stock - expected)
    columns = [re.findall(r"([\d,]+) (?:s|reserved|sold|refused|requests/s)\b", line) for line in seconds]
    figures = [[int(figure.replace(",", "")) for figure in line] for line in columns]
    assert [sum(column) for column in zip(*figures, strict=True)][1:4] == [expected, expected, buyers - expected]
    codes = f"OUT_OF_STOCK {buyers - expected}" if buyers > expected else "none"
    assert re.fullmatch(
        rf"{buyers} buyers asked, {buyers - expected} were refused \({codes}\), [\d,]+ requests/s, p50 .* ms, p99 .* ms", summary
    )
    assert claim == f"{expected} sold · 0 oversold"
    await assert_healthy(api.owner)


async def test_limits_still_hold_for_others(api: Api) -> None:
    """An address that is no buyer's may not write more than it could before."""
    user = await make_user(api.owner)
    await rush(api, "--buyers=50", "--stock=10")
    answers = [await api.http.post(f"/drops/{uuid4()}/reserve", headers=as_user(user)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [404, 404, 429]


async def test_a_violation_is_noticed(database: Database) -> None:
    """If the audit finds something, the command names it and fails, although the rush itself went well."""
    async with fresh_database(database) as url, serving(url) as api:
        drop = await make_drop(api.http, await make_user(api.owner))
        await api.owner.execute("alter table inventory.drops disable trigger user")  # they refuse what does not balance
        await api.owner.execute("update inventory.drops set available_stock = available_stock - 1")
        await api.owner.execute("alter table inventory.drops enable trigger user")
        exit_code, printed, errors = await rush(api, "--buyers=10", "--stock=5")
        assert (exit_code, errors) == (1, "")
        *_, violation, wrong, claim = printed.splitlines()
        assert re.fullmatch(rf"drop {drop['id']}: total_stock = [\w +]+: expected 5, found 4", violation)
        assert (wrong, claim) == ("Something is wrong: 1 violated invariants", "5 sold · 0 oversold")


@pytest.mark.parametrize(
    ("arguments", "environment", "line"),
    [
        (["--url=https://localhost"], {}, "rush: --url must be as http://localhost:4000"),
        (["--url=localhost:4000"], {}, "rush: --url must be"),
        (["--url=http://localhost:x"], {}, "rush: --url must be"),
        (["--url=http://localhost:1/api"], {}, "rush: --url must be"),
        (["--url=http://localhost:1"], {}, "rush: the service at localhost:1 cannot be reached"),
        ([], {"DATABASE_URL": NOBODY}, "DATABASE_URL: "),
        (
            [],
            TOKENS,
            "AUTH_MODE: ",
        ),
    ],
)
def test_refusals(database: Database, arguments: list[str], environment: dict[str, str], line: str) -> None:
    """What cannot work is one line, and exit code 1."""
    result = lastpair("rush", "--buyers=1", *arguments, **{"DATABASE_URL": database.url} | environment)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1), result
    assert result.stderr.startswith(line)
    assert "hunter2" not in result.stderr


async def test_another_database(api: Api, database: Database) -> None:
    """The command refuses to claim anything from a database that is not the service's."""
    result = await asyncio.to_thread(lastpair, "rush", f"--url={api.url}", "--buyers=1", DATABASE_URL=database.url)
    assert result.returncode == 1
    assert result.stderr.startswith("rush: the service at this URL has another database")


@pytest.mark.parametrize("option", ["--buyers", "--stock"])
@pytest.mark.parametrize("value", ["0", "-1", "100001", "1e3", "many", ""])
def test_bad_numbers(option: str, value: str) -> None:
    """They are refused."""
    result = lastpair("rush", f"{option}={value}")
    assert result.returncode == 2
    assert "from 1 to 100,000" in result.stderr


@pytest.mark.slow
async def test_the_service_restarts(database: Database) -> None:
    """The buyers come back, and exactly the stock is sold."""
    port = free_port()
    async with fresh_database(database) as url, serving(url) as api:
        with started_at(port, url) as first:
            await asyncio.to_thread(first.wait_until_ready)
            running = asyncio.create_task(rush(api, "--buyers=20000", "--stock=15000", url=first.url))

            async def has_begun() -> bool:
                return bool(await api.owner.fetchval("select count(*) > 500 from inventory.purchases"))

            await eventually(has_begun, timeout_seconds=60)
            await asyncio.to_thread(first.stop)
        with started_at(port, url) as second:
            await asyncio.to_thread(second.wait_until_ready)
            exit_code, printed, errors = await running
            assert (exit_code, errors) == (0, ""), printed
            assert printed.splitlines()[-1] == "15,000 sold · 0 oversold"
            await asyncio.to_thread(second.stop)
        await assert_healthy(api.owner)


# The rush that the service starts


async def start(api: Api, buyers: int, stock: int, **headers: str) -> httpx.Response:
    """The answer to the request that starts a rush, which comes from an address of its own because of the limit."""
    address = {"X-Forwarded-For": f"192.0.2.{int.from_bytes(os.urandom(1), 'big')}", **headers}
    return await api.http.post(PATH, json={"buyers": buyers, "stock": stock}, headers=address)


async def latest(api: Api) -> Any:
    """The latest rush."""
    return assert_success(await api.http.get(PATH), "rush")


async def ended(api: Api) -> dict[str, Any]:
    """The latest rush when it has ended."""

    async def has_ended() -> bool:
        return (await latest(api))["status"] != "running"  # type: ignore[no-any-return]

    await eventually(has_ended, timeout_seconds=60)
    return await latest(api)  # type: ignore[no-any-return]


def children(service: Service) -> list[int]:
    """The process ids of the rushes that run."""
    found = psutil.Process(service.process.pid).children(recursive=True)
    return [child.pid for child in found if "rush" in child.cmdline()]


@pytest.mark.slow
async def test_a_rush_of_the_service(database: Database) -> None:
    """It is answered at once, can be watched, and ends with the claim of the database. One runs at a time."""
    async with fresh_database(database) as url, serving(url, RATE_LIMIT_ADDRESS_PER_MINUTE="5") as api:
        assert await latest(api) is None
        response = await start(api, 4000, 50, **{"Idempotency-Key": "k"})
        begun = assert_success(response, "rush", 202)
        assert (begun["status"], begun["buyers"], begun["stock"], begun["dropId"]) == ("running", 4000, 50, None)
        assert begun.keys() == set(Rush.model_fields)
        assert_error(await start(api, 4000, 50), 409, "RUSH_RUNNING")
        again = await start(api, 4000, 50, **{"Idempotency-Key": "k"})
        assert again.headers["idempotency-replayed"] == "true"
        assert assert_success(again, "rush", 202)["id"] == begun["id"]
        assert_error(await start(api, 4000, 51, **{"Idempotency-Key": "k"}), 422, "IDEMPOTENCY_KEY_REUSED")
        assert len(children(api.service)) == 1

        done = await ended(api)
        assert (done["status"], done["error"], done["id"], done["startedAt"]) == ("done", None, begun["id"], begun["startedAt"])
        assert (done["asked"], done["reserved"], done["sold"], done["refused"]) == (4000, 50, 50, 3950)
        assert (done["oversold"], done["audit"], done["refusals"]) == (0, [], {"OUT_OF_STOCK": 3950})
        assert [second["second"] for second in done["seconds"]] == list(range(1, len(done["seconds"]) + 1))
        for name in ("reserved", "sold", "refused"):
            assert sum(second[name] for second in done["seconds"]) == done[name]
        assert 0 < done["p50_ms"] <= done["p99_ms"]
        assert done["endedAt"] > done["startedAt"]
        assert await sold(api, done["dropId"]) == (50, 0)

        next_one = assert_success(await start(api, 10, 20), "rush", 202)  # at once, although the process may still be ending
        assert next_one["id"] != begun["id"]
        assert (await ended(api))["sold"] == 10


@pytest.mark.parametrize(
    ("body", "field"),
    [
        *[({"buyers": 0}, "buyers"), ({"buyers": 100_001}, "buyers"), ({"buyers": "5"}, "buyers"), ({"buyers": 1.5}, "buyers")],
        *[({"stock": 0}, "stock"), ({"stock": 100_001}, "stock"), ({"stock": None}, "stock"), ({"units": 1}, "units")],
    ],
)
async def test_bad_bodies(api: Api, body: dict[str, object], field: str) -> None:
    """They are refused, and no rush begins."""
    assert_invalid(
        await api.http.post(PATH, json=body, headers={"X-Forwarded-For": f"198.51.100.{hash(str(body)) % 256}"}), field
    )
    assert children(api.service) == []


@pytest.mark.slow
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_rush_ends_with_the_service(database: Database, signal_number: signal.Signals) -> None:
    """No rush outlives the service, neither its shutdown, which takes no longer for it, nor its being killed."""
    async with fresh_database(database) as url, serving(url) as api:
        assert (await start(api, 100_000, 100_000)).status_code == 202
        await eventually(lambda: begun(api), timeout_seconds=60)
        [child] = children(api.service)
        if signal_number == signal.SIGTERM:
            assert await asyncio.to_thread(api.service.stop) < 4
            assert not is_running(child)
        else:
            os.kill(api.service.process.pid, signal_number)
            api.service.process.wait()
            await asyncio.to_thread(wait_for, lambda: not is_running(child))
        await assert_healthy(api.owner)


async def begun(api: Api) -> bool:
    """Have buyers of the latest rush asked?"""
    return (await latest(api))["asked"] > 0  # type: ignore[no-any-return]


@pytest.mark.slow
async def test_a_rush_that_is_killed(database: Database) -> None:
    """It has failed, and another one can be started."""
    async with fresh_database(database) as url, serving(url) as api:
        await start(api, 100_000, 100)
        await eventually(lambda: begun(api), timeout_seconds=60)
        os.kill(children(api.service)[0], signal.SIGKILL)
        failed = await ended(api)
        assert (failed["status"], failed["error"]) == ("failed", "Its process ended early.")
        assert (await start(api, 10, 10)).status_code == 202
        assert (await ended(api))["status"] == "done"


@pytest.mark.slow
async def test_several_processes(database: Database) -> None:
    """Every process of the service tells of the rush that one of them has started, and none starts a second one."""
    async with fresh_database(database) as url, serving(url, WEB_CONCURRENCY="2") as api:
        assert (await start(api, 20_000, 30)).status_code == 202

        async def ask(method: str) -> httpx.Response:
            async with httpx.AsyncClient(
                base_url=f"{api.url}/api", timeout=60
            ) as client:  # a connection of its own may lead elsewhere
                return await client.request(method, PATH, json={"buyers": 1, "stock": 1} if method == "POST" else None)

        for _ in range(10):
            assert assert_success(await ask("GET"), "rush")["buyers"] == 20_000
            assert_error(await ask("POST"), 409, "RUSH_RUNNING")
        assert (await ended(api))["sold"] == 30


async def test_only_where_users_are_trusted(database: Database) -> None:
    """With tokens there is no rush, because its buyers have none."""
    async with fresh_database(database) as url, serving(url, **TOKENS) as api:
        assert_error(await api.http.get(PATH), 404, "NOT_FOUND")
