"""A URL that names several servers: the one that takes writes is found, also after a failover; a silent one is passed over."""

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

from lastpair.database import pool
from lastpair.database.embedded import embedded_database
from lastpair.database.migrate import migrate
from lastpair.database.servers import Servers
from lastpair.errors import Unavailable
from lastpair.settings import InvalidSettings, load_settings
from tests.support.buyers import Buyers, sell_through
from tests.support.database import calling, client_of, connected
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
    """Each server gets a URL of its own, the rest of which is as it was."""
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
    """The setting accepts them as they are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", url)
    assert load_settings().database_url == url


@pytest.mark.parametrize("ports", ["h1:5432,h2:0", "h1:65536,h2", "h:x", "/?host=/a,/b&port=5432,0", "/?host=/a,/b&port=99999"])
def test_bad_ports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ports: str) -> None:
    """They are refused, in the authority as in the query."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_DIRECT_URL", f"postgresql://u:5@{ports}")
    with pytest.raises(InvalidSettings, match=r"^DATABASE_DIRECT_URL: .*ports"):
        load_settings()


@pytest.fixture
async def silent_port() -> AsyncIterator[int]:
    """A port that accepts connections and never answers, as a machine does whose network alone still works."""
    server = await asyncio.start_server(lambda _, writer: asyncio.sleep(3600), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


def socket_folder(url: str) -> str:
    """The folder of the server's socket."""
    return url.partition("host=")[2]


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Crashable, Standby]]:
    """A migrated primary and its standby."""
    with TemporaryDirectory(prefix="lastpair-test-") as name, embedded_database(Path(name) / "one") as url:
        asyncio.run(migrate(url))
        primary = Crashable(Path(name) / "one", url)
        with primary.standby(Path(name) / "two") as standby:
            yield primary, standby


async def test_a_standby_and_a_silent_server_are_passed_over(pair: tuple[Crashable, Standby], silent_port: int) -> None:
    """Neither takes more than its share of the time; the next time, the primary is asked first."""
    primary, standby = pair
    hosts = f"127.0.0.1,{socket_folder(standby.url)},{socket_folder(primary.url)}"
    servers = Servers(f"postgresql://lastpair@/lastpair?host={hosts}&port={silent_port},5432,5432&{QUERY}")
    for seconds in (8.9, 2.9):
        begin = monotonic()
        session = await servers.connect(timeout=9)  # of which the silent one may take 3
        assert not await session.fetchval("select pg_is_in_recovery()")
        await session.close()
        assert monotonic() - begin < seconds
    assert quote(socket_folder(primary.url), safe="") in servers.urls[0]


async def test_no_server_takes_writes(pair: tuple[Crashable, Standby]) -> None:
    """A URL that asks for one that does gets no session."""
    with pytest.raises(asyncpg.TargetServerAttributeNotMatched):
        await Servers(f"{pair[1].url}&{QUERY}").connect(timeout=2)


async def test_a_session_on_a_server_that_takes_no_writes_is_given_up(pair: tuple[Crashable, Standby]) -> None:
    """As when the primary comes back as a standby behind the same address: the call fails, and the next session is a new one."""
    async with calling(pair[1].url) as calls:
        pids = set()
        for _ in range(2):
            pids.add(await calls.value("select pg_backend_pid()"))
            with pytest.raises(Unavailable):
                await calls.fetch("select * from api.advance_drops()")
        assert len(pids) == 2


async def test_a_standby_keeps_no_page(pair: tuple[Crashable, Standby]) -> None:
    """Its snapshot does not say what runs on the primary, so the version of the drops on sale is another one each time."""
    async with connected(pair[1].url) as session:
        seen = await session.fetchval("select api.on_sale_version()")
        for _ in range(20):
            seen, before = await session.fetchval("select api.on_sale_version(p_seen => $1)", seen), seen
            assert seen != before


async def test_after_a_silence_no_session_is_used_again(pair: tuple[Crashable, Standby], monkeypatch: pytest.MonkeyPatch) -> None:
    """One call finds out that its session is dead; the calls that follow need not wait for the same."""
    monkeypatch.setattr(pool, "COMMAND_TIMEOUT_SECONDS", 2)
    async with calling(pair[0].url, sessions=4) as calls:
        answers = await asyncio.gather(*(calls.fetch("select pg_backend_pid() from pg_sleep(0.1)") for _ in range(4)))
        pids = [pid for [(pid,)] in answers]
        assert len(set(pids)) == 4
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            with pytest.raises(Unavailable):
                await calls.value("select 1")
            assert await asyncio.gather(*(calls.value("select 1") for _ in range(4))) == [1] * 4
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)


async def test_failover(pair: tuple[Crashable, Standby]) -> None:
    """The primary is killed under load, the standby promoted: all goes on there without help, and nothing confirmed is lost."""
    primary, standby = pair
    with started(DATABASE_URL=standby.either_url, EXPIRY_POLL_MS="50") as service:
        service.wait_until_ready()
        async with client_of(service.url) as http:
            async with connected(primary.url) as owner:
                buyers = await Buyers.make(owner, http)
                before = await newest_id(owner)
            stream = await open_stream("sse", service.url, snapshot=False)
            await sell_through(service, http, buyers, break_down=primary.kill, repair=standby.promote)
            async with connected(standby.url) as owner:
                await buyers.assert_all_served_once(owner)
                log = await logged(owner, before)
                assert log
                received = [await stream.receive() for _ in log]
                if received[0].type == "DROP_CREATED":  # the stream may have been open before that was relayed
                    received = [*received[1:], await stream.receive()]
                assert received == log
            await stream.close()
        service.stop()
    # A new process finds the server that is left, behind the dead one; so do migrations.
    hosts = f"{socket_folder(primary.url)},{socket_folder(standby.url)}"
    await migrate(f"postgresql://lastpair@/lastpair?host={hosts}&{QUERY}")
    await asyncio.to_thread(primary.start)  # the fixture stops it
