"""The JavaScript client in Node, with Node's own test runner, and its types."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from tests.support.debian import needed
from tests.support.in_process import InProcess

FOLDER = Path(__file__).with_name("js")


def find_node() -> str:
    """The path of Node."""
    return needed(lambda: shutil.which("node"), "Node", "nodejs")


@pytest.mark.parametrize("name", ["rest", "live"])
async def test_in_node(service: InProcess, name: str) -> None:
    """Each method and what happens to a request that fails; the state of drops, and what happens to a stream that fails."""
    process = await asyncio.create_subprocess_exec(
        find_node(),
        "--test",
        str(FOLDER / f"{name}.test.js"),
        env=os.environ | {"LASTPAIR_URL": service.url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
