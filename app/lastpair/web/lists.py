"""Answers that are lists for a seller: a page as JSON, or the whole list as CSV, which is read and sent page by page."""

import csv
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from io import StringIO
from json import loads
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from lastpair.errors import Refusal, invalid
from lastpair.shop.outcome import Outcome, Page
from lastpair.shop.shop import OfDrop
from lastpair.web.requests import limit_and_cursor
from lastpair.web.responses import ANSWER_HEADERS, answer_page, failure

CSV = "text/csv"
CSV_PAGE = 200
"""Rows of a CSV file that are read and written in one go. That takes about a millisecond, in which nobody else is served."""

FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")
"""A text that a spreadsheet may take for a formula (OWASP, CSV injection), also in full-width characters."""

WEIGHT = re.compile(r";\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)", re.IGNORECASE)

List = Callable[[OfDrop, int, str | None], Awaitable[Outcome]]
"""A list of the shop: takes what it is of, the size of a page, and the cursor."""


async def answer_list(request: Request, rows_of: List, of_drop: OfDrop, name: str, model: type[BaseModel]) -> Response:
    """A page of this list as JSON, its rows under `name`; or all of it as CSV with the fields of `model` as columns."""
    limit, cursor = limit_and_cursor(request)
    if not prefers_csv(request.headers.getlist("accept")):
        response = answer_page(request, await rows_of(of_drop, limit, cursor), name)
        response.headers["vary"] = "accept"
        return response
    for parameter in ("limit", "cursor"):
        if parameter in request.query_params:
            raise invalid(parameter, f"must not be given with Accept: {CSV}, because the answer is the whole list")
    first = await rows_of(of_drop, CSV_PAGE, None)
    if first.code is not None:
        return failure(request, Refusal(first.status, first.code, first.message or ""))
    headers = ANSWER_HEADERS | {"content-disposition": f'attachment; filename="{name}-{of_drop.drop_id}.csv"', "vary": "accept"}
    if request.method == "HEAD":
        return StreamingResponse(_nothing(), headers=headers, media_type=CSV)
    return StreamingResponse(_csv(first.data, rows_of, of_drop, list(model.model_fields)), headers=headers, media_type=CSV)


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


async def _csv(page: Page, rows_of: List, of_drop: OfDrop, columns: list[str]) -> AsyncIterator[bytes]:
    # If a later page cannot be read the connection is cut, because a file that ends early must not look whole.
    yield csv_lines([columns])
    while True:
        rows = loads(page.rows, parse_float=str, parse_int=str)  # numbers keep their decimals
        yield csv_lines([cell(row[column]) for column in columns] for row in rows)
        if page.next_cursor is None:
            return
        outcome = await rows_of(of_drop, CSV_PAGE, page.next_cursor)
        if outcome.code is not None:
            raise Refusal(outcome.status, outcome.code, outcome.message or "")
        page = outcome.data


def csv_lines(rows: Iterable[list[str]]) -> bytes:
    """Lines of RFC 4180, in UTF-8."""
    text = StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()


def cell(value: Any) -> str:
    """A value as a cell. A text that begins like a formula gets an apostrophe in front, so that no spreadsheet computes it."""
    text = "" if value is None else str(value)
    return f"'{text}" if FORMULA.match(text) else text


def prefers_csv(accepts: list[str]) -> bool:
    """Whether the client wants CSV more than JSON, by the headers Accept (RFC 9110, 12.5.1). Without one it gets JSON."""
    ranges: dict[str, float] = {}
    for item in ",".join(accepts).split(","):
        name = item.partition(";")[0].strip().lower()
        weight = WEIGHT.search(item)
        ranges[name] = float(weight[1]) if weight else 1.0

    def weight_of(*names: str) -> float:
        return next((ranges[name] for name in names if name in ranges), 0.0)

    wanted = weight_of(CSV, "text/*", "*/*")
    json = weight_of("application/json", "application/*", "*/*")
    return wanted > json or (wanted == json > 0 and CSV in ranges and "application/json" not in ranges)
