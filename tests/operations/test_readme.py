"""The README's walk-through: each command is run, twice in a row, and each answer is compared with the one shown."""

import asyncio
import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

from lastpair import __version__
from lastpair.database.embedded import BIN_DIR, service_url
from lastpair.database.migrate import migrate
from lastpair.realtime.event import EVENTS
from tests.support.database import Database, running_api
from tests.support.servers import ROOT
from tests.support.waiting import PATIENCE_SECONDS, wait_for

README = (ROOT / "README.md").read_text()
VOLATILE = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d.*")


def still(value: Any) -> Any:
    """The value without ids and times, so that two answers can be compared."""
    if isinstance(value, dict):
        return {key: still(item) for key, item in value.items() if key != "meta"}
    if isinstance(value, list):
        return [still(item) for item in value]
    return "…" if isinstance(value, str) and VOLATILE.fullmatch(value) else value


@contextmanager
def watching(url: str, folder: Path) -> Iterator[Callable[[], list[tuple[str, str, Any]]]]:
    """Run the README's `curl -N`; yields a function that returns (type, id, data) of each event printed so far."""
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


def run_walk_through(steps: list[tuple[str, str]], url: str, folder: Path) -> list[str]:
    """Run all the commands in one shell; returns what each one printed, standard error included."""
    end = "END-OF-STEP"
    script = "\n".join(f"{command}\necho {end}" for command, _ in steps).replace("localhost:4000", url.removeprefix("http://"))
    output = folder / "output"
    with output.open("wb") as file:
        subprocess.run(["bash", "-c", script], stdout=file, stderr=file, check=True)
    return output.read_text().split(f"{end}\n")[:-1]


async def test_walk_through_works_the_first_time_and_the_second(empty_url: str, tmp_path: Path) -> None:
    """Each answer is the one that the README shows, on an empty database and again. A watcher sees every kind of event, over
    either transport."""
    section = README.partition("## Walk-through")[2].partition("\n## ")[0]
    steps = re.findall(r"```bash\n(.*?)```\n(?:```(?:json|text)\n(.*?)```)?", section, re.DOTALL)
    assert len(steps) >= 10
    with running_api(empty_url, RESERVATION_TTL_SECONDS="15", EXPIRY_POLL_MS="100") as url, watching(url, tmp_path) as seen:
        runs = [run_walk_through(steps, url, tmp_path) for _ in range(2)]
        with connect(f"ws{url.removeprefix('http')}/api/ws?lastEventId=0") as websocket:
            frames = [json.loads(websocket.recv(timeout=PATIENCE_SECONDS))]
            while Counter(frame["type"] for frame in frames)["RESERVATION_EXPIRED"] < 4 or frames[-1]["type"] != "STOCK_UPDATED":
                frames.append(json.loads(websocket.recv(timeout=PATIENCE_SECONDS)))
        wait_for(lambda: seen()[-1:] == [(frames[-1]["type"], frames[-1]["id"], frames[-1]["data"])])
        assert seen()[1:] == [(frame["type"], frame["id"], frame["data"]) for frame in frames]
        unseen = {"RESYNC_REQUIRED", "POSITION", "DROP_REMOVED", "PAYMENT_UPDATED"}
        assert {event_type for event_type, _, _ in seen()} == set(EVENTS) - unseen
    for answers in runs:
        assert len(answers) == len(steps)
        for (command, shown), answer in zip(steps, answers, strict=True):
            if shown.startswith("{"):
                assert answer.endswith("}\n"), command  # the next prompt begins on a line of its own
                assert still(json.loads(answer)) == still(json.loads(shown)), command
            else:
                assert answer.split() == shown.split(), command


def test_psql_section_works_the_first_time_and_the_second(empty_url: str) -> None:
    """It runs in psql as it stands, prints the same both times, and prints the tables that the README shows."""
    section = README.partition("## The same from psql")[2].partition("\n## ")[0]
    script = "".join(re.findall(r"```sql\n(.*?)```", section, re.DOTALL))
    [shown] = re.findall(r"```text\n(.*?)```", section, re.DOTALL)
    asyncio.run(migrate(empty_url))
    command = [BIN_DIR / "psql", "--no-psqlrc", "--set=ON_ERROR_STOP=1", service_url(empty_url)]
    environment = os.environ | {"PGOPTIONS": "-c role=lastpair_service"}  # as `lastpair psql` begins
    printed = []
    for _ in range(2):
        result = subprocess.run(command, input=script, env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        assert "ACTIVE" in result.stdout
        lines = [line.rstrip() for line in result.stdout.splitlines()]
        assert re.search(r"Air Jordan 2 \| +3 \| +2$", "\n".join(lines), re.MULTILINE)
        assert lines[-2:] == ["(0 rows)", ""]
        tables = [line for line in lines if not re.fullmatch(r"\(\d+ rows?\)", line)]
        assert shown in "\n".join(tables)
        stable = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d{4}-\d\d-\d\d \d\d:\d\d:[\d.+]*", "…", result.stdout)
        printed.append(re.sub(r" +|-{3,}", " ", stable))  # columns are as wide as the times in them
    assert printed[0] == printed[1]


def test_the_refusal_that_psql_shows(database: Database) -> None:
    """The README shows the code and the sentence that the database has."""
    [(code, sentence)] = re.findall(r"^    ERROR:  (\w+)\n    DETAIL:  (.*)$", README, re.MULTILINE)
    command = [BIN_DIR / "psql", "--no-psqlrc", "--no-align", "--tuples-only", f"--set=code={code}", database.url]
    query = "select message from api.errors() where code = :'code'"
    printed = subprocess.run(command, input=query, capture_output=True, text=True, check=True).stdout
    assert printed == f"{sentence}\n"


def test_the_readme_is_readable() -> None:
    """Lines have at most 130 columns, tables at most five rows, and the wheel has the name of this version."""
    assert max(map(len, README.splitlines())) <= 130
    assert len(re.findall(r"^\|", README, re.MULTILINE)) <= 7
    assert set(re.findall(r"lastpair-[\w.-]+\.whl", README)) == {f"lastpair-{__version__}-py3-none-any.whl"}


def test_the_pictures() -> None:
    """The README shows every picture that there is, and no other."""
    shown = set(re.findall(r"docs/images/([\w.-]+)", README))
    assert shown == {file.name for file in (ROOT / "docs" / "images").iterdir()}
