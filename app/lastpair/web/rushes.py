"""Rushes that a page starts, in development. Each is a child process that runs `lastpair rush` and writes its progress to a file.

The file serves all processes of the service: each can tell of the latest rush, and a lock on another file, which the child holds
as long as it runs, keeps them from starting a second one. The child ends when the service does: it gets SIGTERM, and it watches
its standard input, which ends with the process that started it, however that ends.
"""

import asyncio
import fcntl
import logging
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import orjson

from lastpair.errors import Refusal
from lastpair.settings import Settings

FOLDER_VARIABLE = "LASTPAIR_RUSH_DIR"
"""The environment variable with the folder that the processes of the service share for this."""

END_SECONDS = 2
"""How long a rush may take to end: after it has said that it is done, and after SIGTERM."""

ENDED_EARLY = "Its process ended early."
RUNNING = Refusal(409, "RUSH_RUNNING", "A rush is running already. Wait for its end.")
REUSED = Refusal(422, "IDEMPOTENCY_KEY_REUSED", "The latest rush has this Idempotency-Key, and other numbers.")

logger = logging.getLogger("lastpair")

Progress = dict[str, Any]
"""A rush and how far it is: the fields of schemas.Rush, and `idempotencyKey`."""


class Rushes:
    """Starts rushes, one at a time, and tells of the latest one."""

    def __init__(self, settings: Settings) -> None:
        self._port = settings.port
        self._own_folder: TemporaryDirectory[str] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._watching: asyncio.Task[None] | None = None

    async def start(self, buyers: int, stock: int, idempotency_key: str | None) -> tuple[Progress, bool]:
        """Start a rush. Returns its progress, and whether it is the latest one, which this key has started before. Raises
        RUSH_RUNNING, IDEMPOTENCY_KEY_REUSED."""
        latest = self._read()
        if latest is not None and idempotency_key is not None and latest["idempotencyKey"] == idempotency_key:
            if (latest["buyers"], latest["stock"]) != (buyers, stock):
                raise REUSED
            return self.latest() or {}, True
        with (self._folder / "lock").open("a") as lock:
            await self._take(lock.fileno(), 0 if latest is None or latest["status"] == "running" else END_SECONDS)
            progress = new_progress(buyers, stock, idempotency_key)
            write_progress(self._file, progress)
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "lastpair", "rush", f"--buyers={buyers}", f"--stock={stock}"),
                *(f"--url=http://localhost:{os.environ.get('PORT', self._port)}", f"--progress={self._file}"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(lock.fileno(),),
            )
        self._watching = asyncio.create_task(self._watch(self._process))
        return shown(progress), False

    def latest(self) -> Progress | None:
        """The latest rush and how far it is; None if there was none."""
        progress = self._read()
        if progress is None:
            return None
        if progress["status"] == "running" and not self._is_running():
            progress = self._read() or progress  # it may have ended between the two looks
            if progress["status"] == "running":
                progress |= {"status": "failed", "error": ENDED_EARLY}
        return shown(progress)

    def stop(self) -> None:
        """End the rush, if one runs that this process has started."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.terminate()

    async def close(self) -> None:
        """End the rush, and wait until it has ended."""
        self.stop()
        if self._watching is not None:
            assert self._process is not None  # noqa: S101 - it is watched
            _, late = await asyncio.wait([self._watching], timeout=END_SECONDS)
            if late:
                self._process.kill()
                await self._watching
        if self._own_folder is not None:
            self._own_folder.cleanup()

    @property
    def _folder(self) -> Path:
        if FOLDER_VARIABLE in os.environ:
            return Path(os.environ[FOLDER_VARIABLE])
        if self._own_folder is None:
            self._own_folder = TemporaryDirectory(prefix="lastpair-rush-")
        return Path(self._own_folder.name)

    @property
    def _file(self) -> Path:
        return self._folder / "rush.json"

    def _read(self) -> Progress | None:
        with suppress(FileNotFoundError):
            progress: Progress = orjson.loads(self._file.read_bytes())
            return progress
        return None

    async def _take(self, lock: int, timeout_seconds: float) -> None:
        # A rush that has said that it is done takes a moment to end.
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if asyncio.get_running_loop().time() >= deadline:
                    raise RUNNING from None
            await asyncio.sleep(0.05)

    def _is_running(self) -> bool:
        with (self._folder / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        assert process.stderr is not None  # noqa: S101 - so is this
        said = (await process.stderr.read()).decode(errors="replace").strip()
        if await process.wait() and said:
            logger.warning("The rush failed: %s", said)
        process.stdin.close()


def new_progress(buyers: int, stock: int, idempotency_key: str | None = None) -> Progress:
    """The progress of a rush that begins now."""
    return {
        "id": str(uuid4()),
        "dropId": None,
        "status": "running",
        "error": None,
        "buyers": buyers,
        "stock": stock,
        "startedAt": datetime.now(UTC),
        "endedAt": None,
        "asked": 0,
        "reserved": 0,
        "sold": 0,
        "refused": 0,
        "refusals": {},
        "p50_ms": None,
        "p99_ms": None,
        "requests_per_second": None,
        "seconds": [],
        "oversold": None,
        "audit": [],
        "idempotencyKey": idempotency_key,
    }


def shown(progress: Progress) -> Progress:
    """The fields that everybody may see."""
    return {name: value for name, value in progress.items() if name != "idempotencyKey"}


def write_progress(file: Path, progress: Progress) -> None:
    """Write the file so that a reader sees the old text or the new one, and never a part."""
    new = file.with_suffix(".new")
    new.write_bytes(orjson.dumps(progress))
    new.replace(file)
