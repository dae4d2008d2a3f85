"""The shop without a server and without HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from lastpair.database.nodes import Nodes
from lastpair.settings import Settings
from lastpair.shop.shop import Shop
from tests.support.database import calling


@asynccontextmanager
async def opened_shop(url: str, sessions: int = 4, **settings: Any) -> AsyncIterator[Shop]:
    """A shop on this database, with these settings."""
    async with calling(url, sessions) as database:
        nodes = Nodes(database, database.servers)
        await nodes.open()
        yield Shop(nodes, Settings.model_construct(**settings))
