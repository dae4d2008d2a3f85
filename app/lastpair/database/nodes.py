"""The nodes: the databases that drops live in. Without a router it is one, the database of the service.

Behind a router there are several. A drop lives on one node, and every id that a node makes carries the number of the node, so an
id says where its row is.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lastpair.database.liveness import Watch
from lastpair.database.node_database import NodeDatabase
from lastpair.database.pool import Database
from lastpair.database.servers import Servers, url_of
from lastpair.errors import Unavailable
from lastpair.observability.metrics import forget_node

POLL_SECONDS = 2
"""How often the router is asked for its nodes."""

FIRST_SECONDS = 1.8
"""How long a process that starts waits to learn whether its database is a router. It learns it later if that takes longer."""

IS_ROUTER = """
select exists (
  select from pg_proc f join pg_namespace s on s.oid = f.pronamespace
  where s.nspname = 'router' and f.proname = 'nodes_of_app')
"""
NODES = "select number, is_draining, address, numbered_from_ms from router.nodes_of_app()"

logger = logging.getLogger("lastpair")


@dataclass(frozen=True, eq=False)
class Node:
    """A database that drops live in."""

    number: int | None
    """Its number in the ids that it makes; None if there is no router."""

    database: Database
    """Calls the functions on this node."""

    servers: Servers
    """Where its events are heard: a router passes no notifications on."""

    @property
    def name(self) -> str:
        """What people and answers call it."""
        return f"node {self.number or 0}"

    @property
    def watch(self) -> Watch:
        """Finds connections to `servers` that are dead."""
        return self.database.watch


NodeCallback = Callable[[Node], None]
"""A function that is called with a node, in the event loop. It must not wait."""


class Nodes:
    """The nodes as this process knows them.

    A database is taken for a single one, with one node, until it says that it is a router. Then that node leaves, and those of
    the router join.
    """

    def __init__(self, database: Database, servers: Servers) -> None:
        """`servers` lead to the same database, without a pooler."""
        self.on_join: list[NodeCallback] = []
        """Called for each node: those of the start, when open() has found them, and those that come later."""

        self.on_leave: list[NodeCallback] = []
        """Called for a node that is taken out. Its database is closed afterwards."""

        self.is_router: bool | None = None
        """None until the database has said what it is."""

        self._database = database
        self._servers = servers
        self.whole = Node(None, database, servers)
        """The database of the service, which may be a router. Its functions find the node by themselves."""

        self.all = [self.whole]
        """The first node comes first. Ids that were made before there was a router belong to it."""

        self._is_open = False
        self._failure = ""
        self._first = self.whole
        self._by_digits: Mapping[str, Node] = {}
        self._numbered_from = ""
        self._addresses: dict[Node, str] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def of(self, row_id: str) -> Node:
        """The node on which the row with this id is. The id is a UUID in lower case."""
        if not self._by_digits or row_id[14:15] != "7" or row_id[:13] < self._numbered_from:
            return self._first
        return self._by_digits.get(row_id[21:23], self._first)

    async def open(self) -> None:
        """Find out what the database is, if it answers soon, and tell of its nodes. The database is open already."""
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_SECONDS):
                await self._try_to_look()
        self._is_open = True
        if not self.is_router:
            self._tell(self.on_join, self.whole)

    async def run(self) -> None:
        """Ask the router for its nodes again and again, until cancelled. A single database is only asked what it is."""
        while self.is_router is not False:
            await asyncio.sleep(POLL_SECONDS)
            await self._try_to_look()

    async def close(self) -> None:
        """Close the databases of the nodes. That of the service stays open."""
        for node in self.all:
            self._close(node)
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _try_to_look(self) -> None:
        # If the database is away, the nodes stay as they are known.
        try:
            await self._look()
        except Unavailable:
            pass
        except Exception as error:
            if str(error) != self._failure:
                logger.exception("the nodes of the router could not be read")
            self._failure = str(error)
        else:
            self._failure = ""

    async def _look(self) -> None:
        if self.is_router is None:
            [(is_router,)] = await self._database.fetch(IS_ROUTER)
            if not is_router:
                self.is_router = False
                return
        rows = await self._database.fetch(NODES)
        known = {node.number: node for node in self.all if node.number is not None}
        found = [known.get(number) or await self._node(number, address) for number, _, address, _ in rows]
        for node, (_, _, address, _) in zip(found, rows, strict=True):
            if self._addresses[node] != address:
                self._addresses[node] = address
                node.servers.move_to(url_of(address, self._direct_url))
        before, self.all = self.all, found
        self._first = found[0] if found else self.whole
        self._by_digits = {f"{node.number:02x}": node for node in found}
        milliseconds = f"{rows[0][3] or 0:012x}" if rows else ""
        self._numbered_from = f"{milliseconds[:8]}-{milliseconds[8:]}"
        was_router, self.is_router = self.is_router, True
        if self._is_open and not was_router:
            logger.info("the database is a router with %s", counted(len(found)))
        for node in before:
            if node not in found:
                self._leave(node)
        for node in found:
            if node not in before:
                if was_router:
                    logger.info("%s joined", node.name)
                self._tell(self.on_join, node)

    async def _node(self, number: int, address: str) -> Node:
        servers = Servers(url_of(address, self._direct_url))
        database = NodeDatabase(self._database, number, servers)
        await database.open()
        node = Node(number, database, servers)
        self._addresses[node] = address
        return node

    @property
    def _direct_url(self) -> str:
        return self._servers.urls[0]  # all of them have the same user and password

    def _leave(self, node: Node) -> None:
        self._addresses.pop(node, None)
        if self._is_open:
            if node.number is not None:
                logger.info("%s left", node.name)
            self._tell(self.on_leave, node)
            forget_node(node.name)
        self._close(node)

    def _close(self, node: Node) -> None:
        if node is not self.whole:
            task = asyncio.create_task(node.database.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _tell(self, functions: list[NodeCallback], node: Node) -> None:
        for function in functions:
            try:
                function(node)
            except Exception:
                logger.exception("%s: a part of the service failed to take it", node.name)


async def on_each(nodes: Nodes, work: Callable[[Node], Coroutine[Any, Any, None]]) -> None:
    """Do this work for each node, each in a task of its own, until cancelled. It begins and ends as nodes join and leave."""
    tasks: dict[Node, asyncio.Task[None]] = {}
    ended: set[asyncio.Task[None]] = set()

    def begin(node: Node) -> None:
        tasks[node] = asyncio.create_task(work(node))

    def end(node: Node) -> None:
        task = tasks.pop(node)
        task.cancel()
        ended.add(task)
        task.add_done_callback(ended.discard)

    for node in nodes.all:
        begin(node)
    nodes.on_join.append(begin)
    nodes.on_leave.append(end)
    try:
        await asyncio.Event().wait()
    finally:
        nodes.on_join.remove(begin)
        nodes.on_leave.remove(end)
        for node in list(tasks):
            end(node)
        await asyncio.gather(*ended, return_exceptions=True)


def counted(nodes: int) -> str:
    """The number of nodes in words: 1 node, 2 nodes."""
    return "1 node" if nodes == 1 else f"{nodes} nodes"
