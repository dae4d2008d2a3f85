"""A receiver of webhooks in a process of its own, which a test can let fail, hang and be killed."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from json import dumps, loads
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

from standardwebhooks import Webhook

from tests.support.servers import ROOT, free_port
from tests.support.waiting import PATIENCE_SECONDS, wait_for

HANG = "hang"


@dataclass(frozen=True)
class Received:
    """A request that the receiver got."""

    path: str
    headers: dict[str, str]
    text: str
    answered: str
    """The status of its answer, or HANG."""

    @property
    def message(self) -> dict[str, Any]:
        """Its body."""
        message: dict[str, Any] = loads(self.text)
        return message

    @property
    def id(self) -> str:
        """Its webhook-id."""
        return self.headers["webhook-id"]

    def verify(self, secret: str) -> None:
        """Raises WebhookVerificationError unless this secret signed it."""
        Webhook(secret).verify(self.text, self.headers)


class Receiver:
    """The process. Its answer to each path is the one that `answer` set, or 200."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen, for the first time or after the process was killed."""
        command = [sys.executable, "-m", __name__, str(self._port), str(self._folder)]
        (self._folder / "ready").unlink(missing_ok=True)
        self._process = subprocess.Popen(command, cwd=ROOT)
        wait_for((self._folder / "ready").exists, timeout_seconds=2 * PATIENCE_SECONDS)

    def kill(self) -> None:
        """Kill the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def answer(self, path: str, answer: int | str) -> None:
        """From now on answer requests for this path so: with a status, or HANG."""
        (self._folder / f"answer{path.replace('/', '-')}").write_text(str(answer))

    def received(self, path: str | None = None) -> list[Received]:
        """What it got so far, in order; for this path, if given."""
        log = self._folder / "log"
        lines = log.read_text().splitlines(keepends=True) if log.exists() else []
        requests = [Received(**loads(line)) for line in lines if line.endswith("\n")]
        return [request for request in requests if path in (None, request.path)]

    def taken(self, path: str | None = None) -> list[Received]:
        """Those of them that were answered with success."""
        return [request for request in self.received(path) if request.answered.startswith("2")]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that listens."""
    with TemporaryDirectory(prefix="lastpair-test-") as folder:
        receiver = Receiver(Path(folder))
        receiver.start()
        try:
            yield receiver
        finally:
            receiver.kill()


def listen(port: int, folder: Path) -> None:
    """What the process does."""
    writing = Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["content-length"])).decode()
            file = folder / f"answer{self.path.replace('/', '-')}"
            answer = file.read_text() if file.exists() else "200"
            received = Received(self.path, {name.lower(): value for name, value in self.headers.items()}, text, answer)
            with writing, (folder / "log").open("a") as log:
                log.write(dumps(received.__dict__) + "\n")
            while answer == HANG:
                time.sleep(60)
            self.send_response(int(answer))
            if answer.startswith("3"):
                self.send_header("location", "/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    (folder / "ready").touch()
    server.serve_forever()


if __name__ == "__main__":
    listen(int(sys.argv[1]), Path(sys.argv[2]))
