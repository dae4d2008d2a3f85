"""A URL that names several servers: whichever takes writes is found, again when another one does, and a silent one is left."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from urllib.parse import quote

import asyncpg
import pytest

from lastpair.database import pool as calls_module
from lastpair.database.embedded import embedded_database
from lastpair.database.migrate import migrate
from lastpair.database.pool import Database as Calls
from lastpair.database.servers import Servers
from lastpair.errors import Unavailable
from lastpair.settings import InvalidSettings, load_settings
from tests.database.test_recovery import BACK_WITHIN_SECONDS, BUYERS, Rush, assert_all_sold
from tests.support.api import assert_success, assert_unavailable
from tests.support.database import client_of, connected
from tests.support.factories import make_drop, make_users
from tests.support.servers import Crashable, Standby, started
from tests.support.streams import logged, newest_id, open_stream

pytestmark = pytest.mark.slow

QUERY = "target_session_attrs=read-write"


@pytest.mark.parametrize(
    ("url", "urls"),
    [
        ("postgresql://u:p@h/db", ["postgresql://u:p@h/db"]),
        (f"postgresql://u@/db?host=/a&{QUERY}", [f"postgresql://u@/db?host=/a&{QUERY}"]),
        (
            f"postgresql://u:p,@h1:1,[::2]:2/db?{QUERY}",
            [f"postgresql://u:p,@h1:1/db?{QUERY}", f"postgresql://u:p,@[::2]:2/db?{QUERY}"],
        ),
        ("postgres://h1,h2/db", ["postgres://h1/db", "postgres://h2/db"]),
        (f"postgresql:///db?host=/a,/b&{QUERY}", [f"postgresql:///db?host=%2Fa&{QUERY}", f"postgresql:///db?host=%2Fb&{QUERY}"]),
        ("postgresql://u@/db?host=h1,/b&port=1,2", ["postgresql://u@/db?host=h1&port=1", "postgresql://u@/db?host=%2Fb&port=2"]),
        ("postgresql://u@/db?host=h1,h2&port=1", ["postgresql://u@/db?host=h1&port=1", "postgresql://u@/db?host=h2&port=1"]),
    ],
)
def test_the_servers_of_a_url(url: str, urls: list[str]) -> None:
    """One URL for each, the rest as it was."""
    assert Servers(url).urls == urls


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:p@h1:5432,h2:65535/db?{QUERY}",
        f"postgresql://u:p@h1,[::1]:5432/db?{QUERY}",
        f"postgresql://u:p:1,:x@[::1]/db?{QUERY}",
        f"postgresql://u@/db?host=/run/a,/run/b&{QUERY}",
        f"postgresql://u@/db?host=h1,h2&port=1,2&{QUERY}",
    ],
)
def test_urls_of_several_servers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str) -> None:
    """Are accepted as they are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", url)
    assert load_settings().database_url == url


@pytest.mark.parametrize("ports", ["h1:5432,h2:0", "h1:65536,h2", "h:x", "/?host=/a,/b&port=5432,0", "/?host=/a,/b&port=99999"])
def test_bad_ports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ports: str) -> None:
    """Are refused wherever they stand."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_DIRECT_URL", f"postgresql://u:5@{ports}")
    with pytest.raises(InvalidSettings, match=r"^DATABASE_DIRECT_URL: .*ports"):
        load_settings()


@pytest.fixture
async def silent_port() -> AsyncIterator[int]:
    """Where somebody takes connections and says nothing, as a machine does that is gone but for its network."""
    server = await asyncio.start_server(lambda _, writer: asyncio.sleep(3600), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


def socket_folder(url: str) -> str:
    """Where the server's socket is."""
    return url.partition("host=")[2]


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Crashable, Standby]]:
    """A migrated primary, and its standby."""
    with TemporaryDirectory(prefix="lastpair-test-") as name, embedded_database(Path(name) / "one") as url:
        asyncio.run(migrate(url))
        primary = Crashable(Path(name) / "one", url)
        with primary.standby(Path(name) / "two") as standby:
            yield primary, standby


async def test_a_standby_and_a_silent_server_are_passed_over(pair: tuple[Crashable, Standby], silent_port: int) -> None:
    """Neither has the other waited for without end; the next time, the right one is asked first."""
    primary, standby = pair
    hosts = f"127.0.0.1,{socket_folder(standby.url)},{socket_folder(primary.url)}"
    servers = Servers(f"postgresql://lastpair@/lastpair?host={hosts}&port={silent_port},5432,5432&{QUERY}")
    for seconds in (6, 2.5):
        begin = monotonic()
        session = await servers.connect(timeout=9)  # of which the silent one may take 3
        assert not await session.fetchval("select pg_is_in_recovery()")
        await session.close()
        assert monotonic() - begin < seconds
    assert quote(socket_folder(primary.url), safe="") in servers.urls[0]


async def test_nobody_takes_writes(pair: tuple[Crashable, Standby]) -> None:
    """Then there is no session."""
    with pytest.raises(asyncpg.TargetServerAttributeNotMatched):
        await Servers(f"{pair[1].url}&{QUERY}").connect(timeout=2)


async def test_a_session_on_a_server_that_takes_no_writes_is_given_up(pair: tuple[Crashable, Standby]) -> None:
    """As when the primary comes back as a standby behind the same address: 503, and the next session is a new one."""
    calls = Calls(pair[1].url, 1, pooled=False, max_pending=100)
    await calls.open()
    try:
        pids = []
        for _ in range(2):
            pids.append(await calls.value("select pg_backend_pid()"))
            with pytest.raises(Unavailable):
                await calls.fetch("select * from api.advance_drops()")
        assert len(set(pids)) == 2
    finally:
        await calls.close()


async def test_after_a_silence_no_session_is_used_again(pair: tuple[Crashable, Standby], monkeypatch: pytest.MonkeyPatch) -> None:
    """One call finds out; those that follow need not wait for the same."""
    monkeypatch.setattr(calls_module, "COMMAND_TIMEOUT_SECONDS", 2)
    calls = Calls(pair[0].url, 4, pooled=False, max_pending=100)
    await calls.open()
    pids: list[int] = []
    try:
        answers = await asyncio.gather(*(calls.fetch("select pg_backend_pid() from pg_sleep(0.1)") for _ in range(4)))
        pids = [pid for [(pid,)] in answers]
        assert len(set(pids)) == 4
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        with pytest.raises(Unavailable):
            await calls.value("select 1")
        assert await asyncio.gather(*(calls.value("select 1") for _ in range(4))) == [1] * 4
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        await calls.close()


async def test_failover(pair: tuple[Crashable, Standby]) -> None:
    """The primary is killed under load, the standby promoted: all goes on there by itself, and nothing confirmed is lost."""
    primary, standby = pair
    with started(DATABASE_URL=standby.either_url, EXPIRY_POLL_MS="50") as service:
        service.wait_until_ready()
        async with client_of(service.url) as http:
            async with connected(primary.url) as owner:
                users = await make_users(owner, BUYERS)
            rush = Rush(await make_drop(http, users[0], total_stock=100), [http])
            stream = await open_stream("sse", service.url, snapshot=False)
            load = asyncio.create_task(rush.run(users))
            await rush.confirmed_some(20)
            async with connected(primary.url) as owner:
                before = await newest_id(owner)
            await asyncio.to_thread(primary.kill)
            assert_unavailable(await http.get(f"{service.url}/readyz"))
            assert_success(await http.get(f"{service.url}/healthz"), "status")

            await asyncio.to_thread(standby.promote)
            promoted = monotonic()
            await asyncio.to_thread(service.wait_until_ready)
            assert monotonic() - promoted < BACK_WITHIN_SECONDS
            await load
            assert rush.latest_seconds - promoted < BACK_WITHIN_SECONDS
            assert rush.lost == 0
            async with connected(standby.url) as owner:
                await assert_all_sold(owner, rush, users)
                log = await logged(owner, 0)
                assert int(log[-1].id) > before
                log = [message for message in log if message.type != "DROP_CREATED"]
                received = [await stream.receive() for _ in log]
                if received[0].type == "DROP_CREATED":  # the stream may have been open before that was relayed
                    received = [*received[1:], await stream.receive()]
                assert received == log
            await stream.close()
        service.stop()
    # A new process finds the one that is left, behind the dead one; so do migrations.
    hosts = f"{socket_folder(primary.url)},{socket_folder(standby.url)}"
    await migrate(f"postgresql://lastpair@/lastpair?host={hosts}&{QUERY}")
    await asyncio.to_thread(primary.start)  # to be stopped
