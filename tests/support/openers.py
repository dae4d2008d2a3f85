"""Clients that open streams of a hundred drops without end: `python -m tests.support.openers URL DROP…`.

They are a process of their own, so that their work does not delay the client that a test measures.
"""

import asyncio
import sys
from urllib.parse import urlsplit

OPENERS, DROPS = 60, 100


async def open_again_and_again(url: str, drop_ids: list[str]) -> None:
    """Open streams of these drops one after the other, each until its SNAPSHOT has come."""
    address = urlsplit(url)
    path = "/api/events?" + "&".join(f"dropId={drop_id}" for drop_id in drop_ids)
    while True:
        reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=2**20)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert b" 200 " in await reader.readline()
        await reader.readuntil(b"event: SNAPSHOT\n")
        await reader.readuntil(b"\n\n")
        writer.transport.abort()


async def main(url: str, *drop_ids: str) -> None:
    """Run all of them, each with other drops, until the process is killed or one of them fails."""
    async with asyncio.TaskGroup() as group:
        for start in range(OPENERS):
            group.create_task(open_again_and_again(url, list(drop_ids[start : start + DROPS])))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
