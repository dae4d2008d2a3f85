"""Streams of a service behind a router: events of both nodes, while one of them is away, and over reconnects."""

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from json import dumps
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tests.support.clusters import Cluster
from tests.support.database import connected
from tests.support.factories import make_user
from tests.support.in_process import InProcess, served, settings_for
from tests.support.positions import Position
from tests.support.router import Router, running_router
from tests.support.streams import TRANSPORTS, Message, open_stream
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

SLOW_SECONDS = 60
CREATE = "select id from api.create_drop($1, 1, 5, $2, now())"


@pytest.fixture(scope="module")
def own_router() -> Iterator[Router]:
    """A router whose nodes these tests stop."""
    with running_router() as router:
        yield router


@pytest.fixture
async def service(own_router: Router, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[InProcess]:
    """A process of the service, which hears of both nodes. Its streams have the patience of a slow machine."""
    monkeypatch.setattr("lastpair.realtime.feed.PATIENCE_SECONDS", SLOW_SECONDS)
    async with served(settings_for(own_router.url)) as service:
        await eventually(lambda: hears(service, 0) and hears(service, 1), SLOW_SECONDS)
        yield service


def hears(service: InProcess, number: int) -> bool:
    """Whether the process hears of the node's commits."""
    return any(track.number == number and track.hearing.is_set() for track in service.components.hub.tracks)


async def make_drop(node: Cluster) -> str:
    """A live drop on this node."""
    async with connected(node.url_with_password) as owner:
        return str(await owner.fetchval(CREATE, "Air", UUID(await make_user(owner))))


async def rename(node: Cluster, drop_id: str) -> str:
    """Rename the drop, which one DROP_UPDATED announces; returns the new name."""
    name = uuid4().hex
    async with connected(node.url_with_password) as owner:
        await owner.fetch("select from api.update_drop($1, $2)", UUID(drop_id), dumps({"name": name}))
    return name


async def newest_id(node: Cluster) -> int:
    """The id of the latest event."""
    async with connected(node.url_with_password) as owner:
        found: int = await owner.fetchval("select max(id) from inventory.events")
        return found


@asynccontextmanager
async def frozen(node: Cluster) -> AsyncIterator[None]:
    """The node's processes stand still."""

    def send(number: signal.Signals) -> None:
        children = Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split()
        for pid in [node.pid, *map(int, children)]:
            os.kill(pid, number)

    send(signal.SIGSTOP)
    try:
        yield
    finally:
        send(signal.SIGCONT)


def name_of(message: Message) -> str:
    """The name that a DROP_UPDATED tells."""
    return str(message.data["drop"]["name"])


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_two_nodes(own_router: Router, service: InProcess, transport: str) -> None:
    """A stream has the drops and the events of both, and goes on from a position on both, or on the first one alone."""
    nodes = own_router.nodes
    drops = {number: await make_drop(node) for number, node in nodes.items()}
    stream = await open_stream(transport, service.url)
    snapshot = await stream.receive_any(SLOW_SECONDS)
    assert {*drops.values()} <= {drop["id"] for drop in snapshot.data["drops"]}
    starts = [drop["starts_at"] for drop in snapshot.data["drops"]]
    assert starts == sorted(starts, reverse=True)
    assert "incomplete" not in snapshot.data
    assert snapshot.id == f"0:{await newest_id(nodes[0])},1:{await newest_id(nodes[1])}"
    names = []
    for number in (0, 1, 1, 0):
        names.append(await rename(nodes[number], drops[number]))
        event = await stream.receive(SLOW_SECONDS)
        assert name_of(event) == names[-1]
    assert event.id == f"0:{await newest_id(nodes[0])},1:{await newest_id(nodes[1])}"
    await stream.close()
    stream = await open_stream(transport, service.url, [drops[1]], last_event_id=snapshot.id)
    assert [name_of(await stream.receive(SLOW_SECONDS)) for _ in range(2)] == names[1:3]
    await stream.close()
    stream = await open_stream(transport, service.url, last_event_id=snapshot.id)
    assert {name_of(await stream.receive(SLOW_SECONDS)) for _ in range(4)} == {*names}
    await stream.close()
    stream = await open_stream(transport, service.url, [drops[0]], last_event_id=snapshot.id.partition(",")[0][2:])
    assert [name_of(await stream.receive(SLOW_SECONDS)) for _ in range(2)] == [names[0], names[3]]
    await stream.close()
    for nonsense in ("0:1,0:2", "256:1", "0:1,", "00:1", "-1:4", "0:1;1:1", "0:1," * 999 + "1:1"):
        stream = await open_stream(transport, service.url, last_event_id=nonsense)
        assert (await stream.receive_any(SLOW_SECONDS)).type == "RESYNC_REQUIRED"
        assert (await stream.receive_any(SLOW_SECONDS)).type == "SNAPSHOT"
        await stream.close()


async def test_a_stream_goes_on_from_an_activity(own_router: Router, service: InProcess) -> None:
    """The position that GET /activity answers is one on both nodes."""
    nodes = own_router.nodes
    drops = {number: await make_drop(node) for number, node in nodes.items()}
    position = (await service.http.get("/activity")).json()["data"]["activity"]["position"]
    names = [await rename(node, drops[number]) for number, node in nodes.items()]
    stream = await open_stream("sse", service.url, last_event_id=position)
    assert {name_of(await stream.receive(SLOW_SECONDS)) for _ in names} == {*names}
    await stream.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_node_that_dies_and_comes_back(own_router: Router, service: InProcess, transport: str) -> None:
    """Streams of the other node's drops open and go on. A stream of all drops says what is missing, and gets it afterwards."""
    nodes = own_router.nodes
    drops = {number: await make_drop(node) for number, node in nodes.items()}
    before = await open_stream(transport, service.url)
    first = await before.receive_any(SLOW_SECONDS)
    nodes[1].crash()
    try:
        await eventually(lambda: not hears(service, 1), SLOW_SECONDS)
        narrow = await open_stream(transport, service.url, [drops[0]])
        assert "incomplete" not in (await narrow.receive_any(SLOW_SECONDS)).data
        wide = await open_stream(transport, service.url)
        snapshot = await wide.receive_any(SLOW_SECONDS)
        assert snapshot.data["incomplete"] == ["node 1"]
        assert Position.of(snapshot.id).ids == {0: await newest_id(nodes[0])}
        both = await open_stream(transport, service.url, drops.values())
        assert [drop["id"] for drop in (await both.receive_any(SLOW_SECONDS)).data["drops"]] == [drops[0]]
        name = await rename(nodes[0], drops[0])
        for stream in (before, narrow, wide, both):
            event = await stream.receive(SLOW_SECONDS)
            assert name_of(event) == name
            assert Position.of(event.id).ids[0] == await newest_id(nodes[0])
        assert (await service.http.get(f"{service.url}/readyz")).status_code == 200
        metrics = (await service.http.get(f"{service.url}/metrics")).text
        assert 'lastpair_node_listener_connected{node="1"} 0.0' in metrics
        assert 'lastpair_node_listener_connected{node="0"} 1.0' in metrics
        await wide.close()
        again = await open_stream(transport, service.url, last_event_id=first.id)  # the memory has what it lacks of the node
        assert name_of(await again.receive(SLOW_SECONDS)) == name
    finally:
        nodes[1].start()
    completing = await both.receive(SLOW_SECONDS)
    assert (completing.type, completing.data["completes"]) == ("SNAPSHOT", ["node 1"])
    assert [drop["id"] for drop in completing.data["drops"]] == [drops[1]]
    names = [await rename(node, drops[number]) for number, node in nodes.items()]
    for stream in (before, again, both):
        assert {name_of(await stream.receive(SLOW_SECONDS)) for _ in names} == {*names}
        await stream.close()
    assert name_of(await narrow.receive(SLOW_SECONDS)) == names[0]
    await narrow.close()


async def test_a_node_that_is_frozen(own_router: Router, service: InProcess) -> None:
    """Streams of the other node's drops lose no time. A stream of all drops opens soon."""
    nodes = own_router.nodes
    drops = {number: await make_drop(node) for number, node in nodes.items()}
    before = await open_stream("sse", service.url)
    await before.receive_any(SLOW_SECONDS)
    async with frozen(nodes[1]):
        wide = await open_stream("sse", service.url)
        assert (await wide.receive_any(SLOW_SECONDS)).data["incomplete"] == ["node 1"]
        narrow = await open_stream("sse", service.url, [drops[0]])
        await narrow.receive_any(SLOW_SECONDS)
        for _ in range(5):
            name = await rename(nodes[0], drops[0])
            for stream in (before, narrow, wide):
                assert name_of(await stream.receive(SLOW_SECONDS)) == name
    completing = await wide.receive(SLOW_SECONDS)
    assert (completing.type, completing.data["completes"]) == ("SNAPSHOT", ["node 1"])
    name = await rename(nodes[1], drops[1])
    for stream in (before, wide):
        assert name_of(await stream.receive(SLOW_SECONDS)) == name
    for stream in (before, narrow, wide):
        await stream.close()


async def test_a_drop_of_a_node_that_is_away_is_joined(own_router: Router, service: InProcess) -> None:
    """The stream goes on meanwhile, and gets the drop when the node is back."""
    nodes = own_router.nodes
    drops = {number: await make_drop(node) for number, node in nodes.items()}
    stream = await open_stream("ws", service.url, [drops[0]])
    await stream.receive_any(SLOW_SECONDS)
    nodes[1].crash()
    try:
        await eventually(lambda: not hears(service, 1), SLOW_SECONDS)
        await stream.join(drops[1])
        for _ in range(3):
            name = await rename(nodes[0], drops[0])
            assert name_of(await stream.receive(SLOW_SECONDS)) == name
    finally:
        nodes[1].start()
    snapshot = await stream.receive(SLOW_SECONDS)
    assert [drop["id"] for drop in snapshot.data["drops"]] == [drops[1]]
    names = [await rename(node, drops[number]) for number, node in nodes.items()]
    assert {name_of(await stream.receive(SLOW_SECONDS)) for _ in names} == {*names}
    await stream.close()


async def test_a_process_that_starts_while_a_node_is_away(own_router: Router, service: InProcess) -> None:
    """It is ready, gives the other node's events, and all that a client missed as soon as the node is back."""
    nodes = own_router.nodes
    drops = {number: await make_drop(node) for number, node in nodes.items()}
    stream = await open_stream("sse", service.url)
    position = (await stream.receive_any(SLOW_SECONDS)).id
    await stream.close()
    missed = [await rename(node, drops[number]) for number, node in nodes.items()]
    nodes[1].crash()
    try:
        async with served(settings_for(own_router.url)) as other:
            await eventually(lambda: hears(other, 0), SLOW_SECONDS)
            stream = await open_stream("sse", other.url, last_event_id=position)
            assert name_of(await stream.receive(SLOW_SECONDS)) == missed[0]
            assert (await other.http.get(f"{other.url}/readyz")).status_code == 200
            nodes[1].start()
            assert name_of(await stream.receive(SLOW_SECONDS)) == missed[1]
            await stream.close()
    finally:
        if not (nodes[1].folder / "data" / "postmaster.pid").exists():
            nodes[1].start()
