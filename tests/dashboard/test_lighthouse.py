"""Lighthouse gives the pages at least 95 of 100 in each of its four categories, on a phone."""

import asyncio
import os
from json import loads
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import find_chromium
from tests.support.factories import make_drop, make_users, purchase, reserve
from tests.support.npm import npm_packages
from tests.support.streams import Api

MANIFEST = Path(__file__).with_name("lighthouse")
CATEGORIES = ("performance", "accessibility", "best-practices", "seo")
LEAST = 0.95
RUNS = 5
"""The score of performance depends on what else the machine does. The best of so many runs says most of the page."""

PHONE_SLOWDOWN = 4
"""How much slower than a quiet desktop computer the phone is that Lighthouse has in mind."""

QUIET_INDEX = 1500
"""What Lighthouse's benchmark of the machine gives there, and where these tests were written."""

LOAD_WAIT_MS = 15_000
"""The network is never idle, because of the stream, so Lighthouse waits so long for the end of the load."""

RUN_TIMEOUT_SECONDS = 600


async def report_on(url: str, packages: Path, slowdown: float) -> dict[str, Any] | None:
    """Lighthouse's report; None if Lighthouse says that the machine was too busy to make one.

    The network is simulated, from what was measured without a limit; and so is the slower processor.
    """
    process = await asyncio.create_subprocess_exec(
        *("node", packages / "lighthouse" / "cli" / "index.js", url, "--output=json", "--quiet", "--no-enable-error-reporting"),
        *(f"--only-categories={','.join(CATEGORIES)}", "--chrome-flags=--headless=new --no-sandbox"),
        *("--throttling-method=simulate", f"--throttling.cpuSlowdownMultiplier={slowdown:.2f}"),
        f"--max-wait-for-load={LOAD_WAIT_MS}",
        env=os.environ | {"CHROME_PATH": find_chromium()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(RUN_TIMEOUT_SECONDS):
        output, errors = await process.communicate()
    assert output, errors.decode()
    report: dict[str, Any] = loads(output)
    if "runtimeError" in report:
        print(report["runtimeError"])
        return None
    return report


async def best_report(url: str, packages: Path) -> dict[str, Any]:
    """The report with the best performance. No run follows one that is good enough.

    Lighthouse multiplies what a task took by the slowdown of a phone. On a busy machine a task takes longer, too, and both
    together would be no phone that exists. So after the first run the slowdown is as much smaller as the benchmark of the
    machine, which Lighthouse runs each time, was below that of a quiet one.
    """
    slowdown, reports = float(PHONE_SLOWDOWN), []
    for _ in range(RUNS):
        report = await report_on(url, packages, slowdown)
        if report is None:
            continue
        index = report["environment"]["benchmarkIndex"]
        print(url, slowdown, index, scores_of(report))
        reports.append(report)
        if report["categories"]["performance"]["score"] >= LEAST:
            break
        slowdown = max(1, PHONE_SLOWDOWN * min(1, index / QUIET_INDEX))
    assert reports, "no run has ended well"
    return max(reports, key=lambda report: report["categories"]["performance"]["score"])


def scores_of(report: dict[str, Any]) -> dict[str, float]:
    """The score in each category, 0 to 1."""
    return {name: report["categories"][name]["score"] for name in CATEGORIES}


def remarks_on(report: dict[str, Any]) -> list[str]:
    """The audits that cost points."""
    audits = {each["id"]: each["weight"] for name in CATEGORIES for each in report["categories"][name]["auditRefs"]}
    found = [report["audits"][name] for name, weight in audits.items() if weight]
    return [f"{each['title']}: {each.get('displayValue')}" for each in found if (each["score"] or 0) < LEAST]


@pytest.mark.slow
@pytest.mark.parametrize("page", ["dashboard", "buyer"])
async def test_scores(api: Api, pytestconfig: pytest.Config, page: str) -> None:
    """The dashboard with a dozen drops, and the page of a buyer."""
    packages = await asyncio.to_thread(npm_packages, pytestconfig.cache, MANIFEST)
    seller, buyer = await make_users(api.owner, 2)
    drops = [await make_drop(api.http, seller, name=f"Air {n}", total_stock=20) for n in range(12)]
    await reserve(api.http, drops[0]["id"], buyer)
    await purchase(api.http, drops[0]["id"], buyer)
    report = await best_report(api.url + {"dashboard": "/", "buyer": f"/d/{drops[0]['id']}"}[page], packages)
    assert min(scores_of(report).values()) >= LEAST, (scores_of(report), remarks_on(report))
