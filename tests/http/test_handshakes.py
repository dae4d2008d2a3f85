"""WebSocket handshakes: which are accepted, and that a refusal is an answer with the envelope and leaves no line in the log."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import pytest

from tests.support.database import Database
from tests.support.in_process import InProcess, served, settings_for
from tests.support.raw_http import connected, read_answer
from tests.support.streams import fresh_database

KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
VERSION = "Sec-WebSocket-Version: 13"


@pytest.fixture(scope="module")
async def service(database: Database) -> AsyncIterator[InProcess]:
    """The service in this process, on a database of its own."""
    async with fresh_database(database) as url, served(settings_for(url)) as service:
        yield service


async def answer_to(service: InProcess, *headers: str, path: str = "/api/ws") -> tuple[int, dict[str, str], bytes]:
    """The answer to a handshake that has these headers besides those that every handshake has."""
    lines = [f"GET {path} HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: websocket", "X-Request-Id: mine-1", *headers]

    def talk() -> tuple[int, dict[str, str], bytes]:
        with connected(service.url) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            return read_answer(connection)

    return await asyncio.to_thread(talk)


def assert_refused(answer: tuple[int, dict[str, str], bytes], status: int, code: str, named: str) -> None:
    """The envelope, with the request's id, the code, and a message that names this."""
    assert answer[0] == status
    assert (answer[1]["content-type"], answer[1]["x-request-id"]) == ("application/json", "mine-1")
    body = json.loads(answer[2])
    assert (body["success"], body["error"]["code"], body["meta"]) == (False, code, {"requestId": "mine-1"})
    assert named in body["error"]["message"]


BAD_HANDSHAKES = {
    "without a key": ([VERSION], "Sec-WebSocket-Key"),
    "an empty key": (["Sec-WebSocket-Key:", VERSION], "Sec-WebSocket-Key"),
    "a short key": (["Sec-WebSocket-Key: dGhlIHNhbXBsZQ==", VERSION], "Sec-WebSocket-Key"),
    "no base64": (["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ!==", VERSION], "Sec-WebSocket-Key"),
    "letters that are not ASCII": (["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZé==", VERSION], "Sec-WebSocket-Key"),
    "two keys": ([KEY, KEY, VERSION], "Sec-WebSocket-Key"),
    "a bad subprotocol": ([KEY, VERSION, "Sec-WebSocket-Protocol: a b,,"], "Sec-WebSocket-Protocol"),
}


@pytest.mark.parametrize("kind", BAD_HANDSHAKES)
async def test_a_handshake_that_is_not_valid(service: InProcess, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    """It is refused with 400, and the message names the header."""
    headers, named = BAD_HANDSHAKES[kind]
    answer = await answer_to(service, *headers)
    assert_refused(answer, 400, "VALIDATION_ERROR", named)
    assert answer[1]["connection"] == "close"
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("versions", [[], [""], ["12"], ["8"], ["0"], ["013"], ["13, 8"], ["13", "13"], ["x"]])
async def test_a_version_that_is_not_spoken(service: InProcess, caplog: pytest.LogCaptureFixture, versions: list[str]) -> None:
    """It is refused with 426, and the answer says which version is spoken."""
    answer = await answer_to(service, KEY, *(f"Sec-WebSocket-Version: {version}" for version in versions))
    assert_refused(answer, 426, "UPGRADE_REQUIRED", "Sec-WebSocket-Version")
    assert (answer[1]["sec-websocket-version"], answer[1]["upgrade"]) == ("13", "websocket")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("path", ["/api", "/api/wss", "/api/ws/", "/nowhere?snapshot=false", "/%FF"])
async def test_a_path_without_a_websocket(service: InProcess, caplog: pytest.LogCaptureFixture, path: str) -> None:
    """A handshake where there is nothing is answered with 404, and logs no error."""
    assert_refused(await answer_to(service, KEY, VERSION, path=path), 404, "NOT_FOUND", "nothing at this path")
    await asyncio.sleep(0)  # uvicorn logs after the answer
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    "offer",
    [
        "Sec-WebSocket-Protocol: graphql-ws, mqtt",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        "Sec-WebSocket-Extensions: ;;nonsense",
    ],
)
async def test_what_is_offered_and_not_spoken(service: InProcess, offer: str) -> None:
    """No subprotocol and no extension is chosen, and the WebSocket is opened without."""
    status, headers, _ = await answer_to(service, KEY, VERSION, offer)
    assert status == 101
    assert headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".lower()
    assert not headers.keys() & {"sec-websocket-protocol", "sec-websocket-extensions"}
