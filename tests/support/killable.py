"""A process of the service that is killed or stopped, and started again on the same port."""

import os
import signal
from contextlib import ExitStack

from tests.support.servers import Service, free_port, started


class KillableService:
    """A process of the service with these variables, on a port of its own."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.kills = 0
        self._logs: list[str] = []
        self._environment = environment | {"PORT": str(self.port)}
        self._stack = ExitStack()
        self._service: Service | None = None

    @property
    def pid(self) -> int:
        """The process that runs now."""
        assert self._service is not None
        return self._service.process.pid

    def start(self) -> None:
        """Run it."""
        self._service = self._stack.enter_context(started(**self._environment))

    def kill(self) -> None:
        """Kill it with -9, and all that it started."""
        self._end(signal.SIGKILL)
        self.kills += 1

    def stop(self) -> None:
        """Stop it with SIGTERM, and wait until it has ended."""
        self._end(signal.SIGTERM)

    def full_log(self) -> str:
        """What it has printed in all its lives."""
        assert self._service is not None
        return "".join(self._logs) + self._service.log()

    def _end(self, number: signal.Signals) -> None:
        assert self._service is not None
        os.killpg(self._service.process.pid, number)
        self._service.process.wait()
        self._logs.append(self._service.log())
        self._stack.close()
