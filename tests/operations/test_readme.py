"""The README's walk-through does what the README says: each command is run, and each answer shown is compared."""

import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
from websockets.sync.client import connect

from lastpair.database.embedded import BIN_DIR
from tests.support.database import Database, running_api
from tests.support.servers import ROOT
from tests.support.waiting import wait_for

README = (ROOT / "README.md").read_text()
VOLATILE = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d.*")


def still(value: Any) -> Any:
    """A value with ids and times blanked, so that two answers can be compared."""
    if isinstance(value, dict):
        return {key: still(item) for key, item in value.items() if key != "meta"}
    if isinstance(value, list):
        return [still(item) for item in value]
    return "…" if isinstance(value, str) and VOLATILE.fullmatch(value) else value


@contextmanager
def watching(url: str, folder: Path) -> Iterator[Callable[[], list[tuple[str, str, Any]]]]:
    """The README's `curl -N`, running; yields what tells (type, id, data) of all that it has printed."""
    [command] = re.findall(r"^curl -N (\S+)$", README, re.MULTILINE)
    output = folder / "events"
    with output.open("wb") as file:
        curl = subprocess.Popen(["curl", "-sN", command.replace("localhost:4000", url.removeprefix("http://"))], stdout=file)

    def seen() -> list[tuple[str, str, Any]]:
        found = re.findall(r"^event: (.*)\nid: (.*)\ndata: (.*)\n\n", output.read_text(), re.MULTILINE)
        return [(event_type, event_id, json.loads(data)) for event_type, event_id, data in found]

    try:
        wait_for(seen)
        yield seen
    finally:
        curl.kill()
        curl.wait()


async def test_walk_through(empty_url: str, tmp_path: Path) -> None:
    """All the commands in one shell, on an empty database. Who watches sees every kind of event, on either transport."""
    section = README.partition("## Walk-through")[2].partition("\n## ")[0]
    steps = re.findall(r"```bash\n(.*?)```\n(?:```json\n(.*?)```)?", section, re.DOTALL)
    assert len(steps) >= 10
    with running_api(empty_url, RESERVATION_TTL_SECONDS="5", EXPIRY_POLL_MS="100") as url, watching(url, tmp_path) as seen:
        # After each step a line that no answer contains; tee's copies go to the same place.
        script = "\n".join(f"{command}\necho; echo END-OF-STEP" for command, _ in steps).replace(
            "localhost:4000", url.removeprefix("http://")
        )
        script = script.replace("/dev/stderr", str(tmp_path / "answer")).replace(
            "END-OF-STEP", f"$(cat {tmp_path}/answer 2>/dev/null; rm -f {tmp_path}/answer) END-OF-STEP"
        )
        output = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, env=os.environ).stdout
        with connect(f"ws{url.removeprefix('http')}/api/ws?lastEventId=0") as websocket:
            frames = [json.loads(websocket.recv(timeout=10))]
            while Counter(frame["type"] for frame in frames)["RESERVATION_EXPIRED"] < 2 or frames[-1]["type"] != "STOCK_UPDATED":
                frames.append(json.loads(websocket.recv(timeout=10)))
        wait_for(lambda: seen()[-1:] == [(frames[-1]["type"], frames[-1]["id"], frames[-1]["data"])])
        assert seen()[1:] == [(frame["type"], frame["id"], frame["data"]) for frame in frames]
        table = README.partition("## Realtime")[2].partition("\n## ")[0]
        listed = set(re.findall(r"`([A-Z_]+)`", "".join(re.findall(r"^\| (`[A-Z_`, ]+) \|", table, re.MULTILINE))))
        assert {event_type for event_type, _, _ in seen()} == listed - {"RESYNC_REQUIRED"}
    answers = output.split("END-OF-STEP")
    for (command, shown), answer in zip(steps, answers, strict=False):
        if shown:
            assert still(json.loads(answer)) == still(json.loads(shown)), command
    assert answers[len(steps) - 1].split() == ["2", "201", "18", "409"]


async def test_error_table_lists_every_refusal_of_the_database(owner: asyncpg.Pool) -> None:
    """With the same HTTP status."""
    listed = {
        (int(status), code)
        for status, codes in re.findall(r"^\| (\d{3}) \| ([A-Z_, ]+) \|", README, re.MULTILINE)
        for code in codes.split(", ")
    }
    assert {(row["status"], row["code"]) for row in await owner.fetch("select * from api.errors()")} <= listed


def test_psql_section(database: Database) -> None:
    """Runs in psql as it stands."""
    section = README.partition("## The same from psql")[2].partition("\n## ")[0]
    [script] = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)
    result = subprocess.run(
        [BIN_DIR / "psql", "-X", "-v", "ON_ERROR_STOP=1", database.url], input=script, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "ACTIVE" in result.stdout
    assert "paid" in result.stdout
    assert result.stdout.rstrip().endswith("(0 rows)")
