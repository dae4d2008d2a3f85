"""Load over HTTP: wrk sends the requests of load.lua, each as soon as the one before it on its connection is answered."""

import json
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.servers import Service

SCRIPT = Path(__file__).with_name("load.lua")
SECONDS = 2


@dataclass(frozen=True)
class Load:
    """What wrk measured, and the processor time of the process that answered."""

    requests: int
    seconds: float
    p50_ms: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of processor time a request."""
        return self.cpu_seconds / self.requests * 1e6


def wrk(
    service: Service,
    clients: int,
    method: str,
    paths: list[str],
    expected: set[str],
    first_user: int = 0,
    seconds: int = SECONDS,
    bodies: Sequence[object] = (),
) -> Load:
    """Load a service; fails when an answer is not one of those expected, told by its status and, of a refusal, its code."""
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "10s", "-s", str(SCRIPT), service.url]
    begin = cpu_seconds(service)
    output = subprocess.run(
        [*command, "--", method, ",".join(paths), str(first_user), "\n".join(map(json.dumps, bodies))],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    used = cpu_seconds(service) - begin
    result = json.loads(output.partition("RESULT ")[2])
    assert result["errors"] == 0, output
    answers = result["answers"]
    assert set(answers) <= expected, f"{method} {paths[0]}: {answers}, expected {expected}\n{service.log()}"
    return Load(sum(answers.values()), result["seconds"], result["p50_ms"], used)


def cpu_seconds(service: Service) -> float:
    """Processor time that the process of a service has used: of its first process, without its children."""
    times = psutil.Process(service.process.pid).cpu_times()
    return times.user + times.system


def cpu_seconds_of_server(pid: int) -> float:
    """Processor time that all processes of a PostgreSQL server have used, those included that have ended."""
    postmaster = psutil.Process(pid)
    ended = postmaster.cpu_times()
    seconds = ended.children_user + ended.children_system
    for process in (postmaster, *postmaster.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds += times.user + times.system
    return float(seconds)
