"""Lists have pages: `limit` rows, and `nextCursor` in `meta` unless the page is the last; the seller's lists also come as CSV."""

import csv
from collections import Counter
from io import StringIO
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from lastpair.web.lists import cell, prefers_csv
from tests.support.envelopes import LONG_AGO, SOON, as_user, assert_error, assert_invalid, assert_success
from tests.support.factories import hold, make_drop, make_due, make_user, make_users, purchase, reserve
from tests.support.row_checks import Row

pytestmark = pytest.mark.usefixtures("healthy")

SELL = """
select count(*) from api.purchase_batch(array(
  select row($1, u.id, null, null)::api.purchase_request from unnest($2::uuid[]) as u (id)))
"""


async def sell(owner: asyncpg.Pool, drop_id: str, users: list[str]) -> None:
    """A purchase for each of these users."""
    await hold(owner, drop_id, users)
    assert await owner.fetchval(SELL, drop_id, users) == len(users)


async def pages_of(http: httpx.AsyncClient, path: str, name: str, user: str, **params: Any) -> list[list[Row]]:
    """All pages of a list."""
    pages = []
    while True:
        response = await http.get(path, params=params, headers=as_user(user))
        assert response.status_code == 200, response.text
        body = response.json()
        pages.append(body["data"][name])
        assert set(body["meta"]) <= {"requestId", "nextCursor"}
        if "nextCursor" not in body["meta"]:
            return pages
        params["cursor"] = body["meta"]["nextCursor"]


@pytest.mark.parametrize(("limit", "sizes"), [(None, [50, 10]), (20, [20] * 3), (59, [59, 1]), (60, [60]), (200, [60])])
@pytest.mark.parametrize("name", ["purchases", "reservations"])
async def test_the_pages_of_a_drop(
    http: httpx.AsyncClient, owner: asyncpg.Pool, seller: str, name: str, limit: int | None, sizes: list[int]
) -> None:
    """All pages together are all rows, each once, newest first; a page that is exactly full is the last if nothing follows."""
    drop_id = (await make_drop(http, seller, total_stock=100))["id"]
    users = await make_users(owner, 60)
    for of_batch in (users[:25], users[25:]):  # the rows of a batch have one time
        await sell(owner, drop_id, of_batch)
    more = {} if limit is None else {"limit": limit}
    pages = await pages_of(http, f"/drops/{drop_id}/{name}", name, seller, **more)
    assert [len(page) for page in pages] == sizes
    rows = [row for page in pages for row in page]
    assert rows == sorted(rows, key=lambda row: (row["createdAt"], row["id"]), reverse=True)
    assert {row["user_id"] for row in rows} == set(users)
    assert {row["drop_id"] for row in rows} == {drop_id}


async def test_ones_own_pages(http: httpx.AsyncClient, owner: asyncpg.Pool, seller: str, user: str) -> None:
    """A user's holds and purchases have pages, too."""
    drops = [(await make_drop(http, seller))["id"] for _ in range(5)]
    for drop_id in drops:
        await sell(owner, drop_id, [user])
        await hold(owner, drop_id, [user])
    for name in ("purchases", "reservations"):
        pages = await pages_of(http, f"/{name}/me", name, user, limit=2)
        assert [[row["drop_id"] for row in page] for page in pages] == [drops[:2:-1], drops[2:0:-1], drops[:1]]


async def test_a_hold_that_ends_between_pages(http: httpx.AsyncClient, owner: asyncpg.Pool, seller: str, user: str) -> None:
    """A cursor stays good when its row leaves the list."""
    drops = [(await make_drop(http, seller))["id"] for _ in range(3)]
    for drop_id in drops:
        await hold(owner, drop_id, [user])
    first = (await http.get("/reservations/me?limit=1", headers=as_user(user))).json()
    await purchase(http, drops[2], user)
    rest = await http.get("/reservations/me", params={"cursor": first["meta"]["nextCursor"]}, headers=as_user(user))
    assert [row["drop_id"] for row in rest.json()["data"]["reservations"]] == drops[1::-1]


async def test_what_the_seller_asks_for(http: httpx.AsyncClient, owner: asyncpg.Pool, seller: str) -> None:
    """Filters by status, as it is by the clock, variant and user; each row has the name of its user."""
    variants = [{"name": size, "total_stock": 5} for size in ("S", "M")]
    drop = await make_drop(http, seller, total_stock=None, variants=variants)
    small, medium = (variant["id"] for variant in drop["variants"])
    users = await make_users(owner, 4)
    held = [
        (await http.post(f"/drops/{drop['id']}/reserve", json={"variant_id": variant}, headers=as_user(buyer))).json()
        for buyer, variant in zip(users, (small, small, medium, medium), strict=True)
    ]
    ids = [answer["data"]["reservation"]["id"] for answer in held]
    await make_due(owner, ids[0])
    await http.delete(f"/reservations/{ids[1]}", headers=as_user(users[1]))
    bought = await purchase(http, drop["id"], users[2])

    async def listed(name: str, **params: str) -> list[str]:
        return [
            row["id"] for [*page] in await pages_of(http, f"/drops/{drop['id']}/{name}", name, seller, **params) for row in page
        ]

    for number, status in enumerate(("EXPIRED", "CANCELLED", "CONSUMED", "ACTIVE")):
        assert await listed("reservations", status=status) == [ids[number]]
        assert await listed("reservations", user_id=users[number]) == [ids[number]]
    assert await listed("reservations", variant_id=medium) == [ids[3], ids[2]]
    assert await listed("reservations", variant_id=small, user_id=users[2]) == []
    assert await listed("purchases") == await listed("purchases", status="paid", user_id=users[2]) == [bought["id"]]
    assert await listed("purchases", status="refunded") == []
    [row] = (await http.get(f"/drops/{drop['id']}/purchases", headers=as_user(seller))).json()["data"]["purchases"]
    assert row["username"] == await owner.fetchval("select username from inventory.users where id = $1", UUID(users[2]))


@pytest.mark.parametrize("limit", ["0", "201", "-1", "+1", "1.0", "1e2", "", " 1", "x", "٣", "9" * 50])
async def test_bad_limits(http: httpx.AsyncClient, limit: str) -> None:
    """A limit is a whole number from 1 to 200."""
    assert_invalid(await http.get("/drops", params={"limit": limit}), "limit")


async def test_bad_cursors(http: httpx.AsyncClient, owner: asyncpg.Pool, user: str, seller: str, drop: Row) -> None:
    """A cursor that is no cursor, or is another list's, is refused, and whether its row exists is not told."""
    other = await make_user(owner)
    held = await reserve(http, drop["id"], other)
    bought = await purchase(http, drop["id"], other)
    for path, row in (("/purchases/me", bought), ("/reservations/me", held), ("/drops", bought)):
        told = {
            assert_invalid(await http.get(path, params={"cursor": cursor}, headers=as_user(user)), "cursor")
            for cursor in (row["id"], str(uuid4()))
        }
        assert len(told) == 1
        for cursor in ("", "x", "'", str(uuid4()) + "x"):
            assert_invalid(await http.get(path, params={"cursor": cursor}, headers=as_user(user)), "cursor")
    elsewhere = (await make_drop(http, seller))["id"]
    for name, row in (("purchases", bought), ("reservations", held)):
        answer = await http.get(f"/drops/{elsewhere}/{name}", params={"cursor": row["id"]}, headers=as_user(seller))
        assert_invalid(answer, "cursor")


@pytest.mark.parametrize("change", [{"starts_at": SOON}, {"starts_at": "2100-01-01T00:00:00Z"}, {"status": "draft"}])
async def test_a_drop_that_moves_between_pages(http: httpx.AsyncClient, seller: str, change: Row) -> None:
    """The next page begins where the last one ended, although its last drop starts at another time now, or is a draft."""
    ids = [(await make_drop(http, seller, starts_at=f"2099-01-01T00:00:{n:02}.123457Z"))["id"] for n in range(10, 15)]
    page = {"status": "scheduled", "limit": 2, "cursor": ids[4]}
    first = (await http.get("/drops", params=page)).json()
    assert [row["id"] for row in first["data"]["drops"]] == [ids[3], ids[2]]
    assert_success(await http.patch(f"/drops/{ids[2]}", json=change, headers=as_user(seller)), "drop")
    second = await http.get("/drops", params=page | {"cursor": first["meta"]["nextCursor"]})
    assert [row["id"] for row in assert_success(second, "drops")] == ids[1::-1]
    for drop_id in ids:
        await http.patch(f"/drops/{drop_id}", json={"status": "cancelled"}, headers=as_user(seller))


async def test_a_draft_without_a_start_that_gets_one_between_pages(http: httpx.AsyncClient, seller: str) -> None:
    """The next page goes on among the drafts without one."""
    ids = [(await make_drop(http, seller, starts_at=None))["id"] for _ in range(3)]
    page = {"status": "draft", "limit": 1}
    first = (await http.get("/drops", params=page, headers=as_user(seller))).json()
    assert first["data"]["drops"][0]["id"] == ids[2]
    await http.patch(f"/drops/{ids[2]}", json={"starts_at": SOON}, headers=as_user(seller))
    for cursor in (first["meta"]["nextCursor"], f"{ids[2]}~infinity"):
        second = await http.get("/drops", params=page | {"cursor": cursor}, headers=as_user(seller))
        assert [row["id"] for row in assert_success(second, "drops")] == [ids[1]]


@pytest.mark.parametrize("start", ["294276-12-31", "40000-01-01", "1500-03-15 BC"])
async def test_a_start_that_only_sql_can_make(http: httpx.AsyncClient, owner: asyncpg.Pool, seller: str, start: str) -> None:
    """No number of a cursor says when it is, so the id says it."""
    make = "select id::text from api.create_drop('Air', 1, 1, $1, $2::text::timestamptz)"
    ids = [await owner.fetchval(make, seller, start) for _ in range(3)]
    page = {"status": "live" if "BC" in start else "scheduled", "limit": 1}
    first = (await http.get("/drops", params=page | {"cursor": ids[2]})).json()
    second = await http.get("/drops", params=page | {"cursor": first["meta"]["nextCursor"]})
    assert [row["id"] for row in [*first["data"]["drops"], *assert_success(second, "drops")]] == ids[1::-1]
    await owner.execute("update inventory.drops set status = 'cancelled', starts_at = now() where id = any ($1)", ids)


async def test_a_cursor_without_a_time(http: httpx.AsyncClient, seller: str) -> None:
    """The id of the last row is a cursor, too: its row is looked up."""
    drops = [(await make_drop(http, seller))["id"] for _ in range(3)]
    rest = await http.get("/drops", params={"limit": 2, "cursor": drops[2]})
    assert [row["id"] for row in assert_success(rest, "drops")] == drops[1::-1]


@pytest.mark.parametrize("time", ["", "x", "-", "1.5", "1e5", " 1", "+1", "-infinity", "٣", "1~1", "9" * 19, "-" + "9" * 18])
async def test_bad_times_in_cursors(http: httpx.AsyncClient, time: str) -> None:
    """A time that no row has is no part of a cursor."""
    assert_invalid(await http.get("/drops", params={"cursor": f"{uuid4()}~{time}"}), "cursor")


@pytest.mark.parametrize("time", ["-" + "9" * 17, "-1", "0", "9" * 18, "infinity"])
async def test_times_in_cursors(http: httpx.AsyncClient, time: str) -> None:
    """A row need not be there: its time says where it was. PostgreSQL has all these times."""
    assert_success(await http.get("/drops", params={"cursor": f"{uuid4()}~{time}"}), "drops")


@pytest.mark.parametrize("name", ["purchases", "reservations"])
async def test_bad_filters(http: httpx.AsyncClient, seller: str, drop: Row, name: str) -> None:
    """A status that a row cannot have, and what is no id, is refused; a drop that is none is not found."""
    for field, value in (("status", "sold"), ("status", ""), ("variant_id", "x"), ("user_id", "")):
        answer = await http.get(f"/drops/{drop['id']}/{name}", params={field: value}, headers=as_user(seller))
        assert_invalid(answer, field)
    assert_error(await http.get(f"/drops/{uuid4()}/{name}", headers=as_user(seller)), 404, "DROP_NOT_FOUND")
    assert_error(await http.get(f"/drops/{drop['id']}/{name}"), 401, "AUTH_REQUIRED")


# Drops by status


async def test_drops_by_status(http: httpx.AsyncClient, owner: asyncpg.Pool) -> None:
    """Each status has its drops, by the clock; drafts are for the seller."""
    mine = await make_user(owner)
    made = {"draft": [(await make_drop(http, mine, **fields))["id"] for fields in ({"starts_at": None}, {"status": "draft"})]}
    made["live"] = [(await make_drop(http, mine))["id"]]
    made["scheduled"] = [(await make_drop(http, mine, starts_at=SOON))["id"]]
    for status in ("ended", "cancelled"):
        made[status] = [(await make_drop(http, mine))["id"]]
        await http.patch(f"/drops/{made[status][0]}", json={"status": status}, headers=as_user(mine))
    over = (await make_drop(http, mine, ends_at=SOON))["id"]
    made["ended"].append(over)
    await owner.execute("update inventory.drops set ends_at = now() - interval '1 second' where id = $1", UUID(over))
    started = (await make_drop(http, mine, starts_at=SOON))["id"]
    made["live"].append(started)
    await owner.execute("update inventory.drops set starts_at = now() - interval '1 second' where id = $1", UUID(started))
    for status, ids in made.items():
        pages = await pages_of(http, "/drops", "drops", mine, status=status, limit=7)
        rows = [row for page in pages for row in page]
        assert {row["id"] for row in rows if row["created_by"] == mine} == set(ids)
        assert {row["status"] for row in rows} == {status}
        assert max(Counter(row["id"] for row in rows).values()) == 1
        order = [(row["starts_at"] or "infinity", row["id"]) for row in rows]
        assert order == sorted(order, reverse=True)
        assert list(rows[0])[-1] == "activity_feed"
    assert_error(await http.get("/drops?status=draft"), 401, "AUTH_REQUIRED")
    assert (await http.get("/drops?status=ended")).status_code == 200
    assert_invalid(await http.get("/drops?status=over"), "status")


async def test_the_drops_on_sale_have_pages(http: httpx.AsyncClient, seller: str) -> None:
    """Without parameters the list is what it was, but has at most 50 drops; the pages together are all that are on sale."""
    for _ in range(51):
        await make_drop(http, seller, starts_at=LONG_AGO)
    first = (await http.get("/drops")).json()
    assert len(first["data"]["drops"]) == 50
    pages = await pages_of(http, "/drops", "drops", seller)
    assert pages[0] == first["data"]["drops"]
    ids = [row["id"] for page in pages for row in page]
    assert len(ids) == len(set(ids)) > 50
    live = [row["id"] for page in await pages_of(http, "/drops", "drops", seller, status="live", limit=200) for row in page]
    assert ids == live


# CSV


async def test_csv(http: httpx.AsyncClient, owner: asyncpg.Pool, seller: str) -> None:
    """`Accept: text/csv` is the whole list with a header row, over many pages, in the fields of the JSON."""
    drop_id = (await make_drop(http, seller, total_stock=500, price=19.9))["id"]
    users = await make_users(owner, 450)
    await sell(owner, drop_id, users)
    answer = await http.get(f"/drops/{drop_id}/purchases", headers=as_user(seller, accept="text/csv"))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == f'attachment; filename="purchases-{drop_id}.csv"'
    assert answer.headers["cache-control"] == "no-store"
    assert answer.text.count("\r\n") == answer.text.count("\n") == 451
    rows = list(csv.DictReader(StringIO(answer.text, newline="")))
    [page, *_] = await pages_of(http, f"/drops/{drop_id}/purchases", "purchases", seller, limit=200)
    assert list(rows[0]) == list(page[0])
    assert {row["user_id"] for row in rows} == set(users)
    assert {(row["amount"], row["currency"], row["refunded_at"], row["qty"]) for row in rows} == {("19.90", "USD", "", "1")}
    assert [row["id"] for row in rows][:200] == [row["id"] for row in page]


async def test_csv_of_nothing(http: httpx.AsyncClient, seller: str, drop: Row) -> None:
    """A drop without rows has a header row; HEAD has no body; a refusal is the envelope; a page is not possible."""
    headers = as_user(seller, accept="text/csv")
    answer = await http.get(f"/drops/{drop['id']}/reservations?status=ACTIVE", headers=headers)
    assert answer.text.startswith("id,drop_id,")
    assert answer.text.endswith("username,variant_name\r\n")
    head = await http.head(f"/drops/{drop['id']}/reservations", headers=headers)
    assert (head.status_code, head.content, head.headers["content-type"]) == (200, b"", "text/csv; charset=utf-8")
    assert_error(await http.get(f"/drops/{uuid4()}/purchases", headers=headers), 404, "DROP_NOT_FOUND")
    for field, value in (("limit", "5"), ("cursor", str(uuid4()))):
        assert_invalid(await http.get(f"/drops/{drop['id']}/purchases", params={field: value}, headers=headers), field)


async def test_csv_computes_nothing(http: httpx.AsyncClient, owner: asyncpg.Pool, seller: str, drop: Row) -> None:
    """A buyer's name that looks like a formula is text, and one with quotes and commas stays one cell."""
    names = {'=HYPERLINK("http://x","y")': "'", "@SUM(1,2)": "'", "-1+1": "'", ' =1,"2"': "'", 'a,"b"': ""}
    buyers = {str(await owner.fetchval("select id from api.create_user($1)", f"{name} {uuid4()}")): name for name in names}
    await sell(owner, drop["id"], list(buyers))
    answer = await http.get(f"/drops/{drop['id']}/purchases", headers=as_user(seller, accept="text/csv"))
    rows = {row["user_id"]: row["username"].rpartition(" ")[0] for row in csv.DictReader(StringIO(answer.text, newline=""))}
    assert rows == {buyer: names[name] + name for buyer, name in buyers.items()}


@pytest.mark.parametrize(
    ("value", "text"),
    [("\tx", "\tx"), ("\t=x", "'\t=x"), ("\uff1dx", "'\uff1dx"), ("\u00a0+1", "'\u00a0+1"), (None, ""), ("a=b", "a=b"), ("", "")],
)
def test_cells(value: str | None, text: str) -> None:
    """Blanks in front, and full-width characters, do not hide a formula."""
    assert cell(value) == text


@pytest.mark.parametrize(
    ("accept", "is_csv"),
    [
        *[("text/csv", True), ("TEXT/CSV", True), ("text/csv;header=present", True), ("text/csv, */*;q=0.1", True)],
        *[("text/*", True), ("text/csv, */*", True), ("application/json;q=0.5, text/csv", True)],
        *[("", False), ("*/*", False), ("application/json", False), ("application/json, text/csv", False)],
        *[("text/csv;q=0", False), ("text/csv;q=0.5, application/json", False), ("application/json, text/csv;q=0.9", False)],
        *[("text/html,application/xhtml+xml,*/*;q=0.8", False), ("image/*", False)],
    ],
)
def test_which_clients_want_csv(accept: str, is_csv: bool) -> None:
    """The better of the two weights counts; without a preference it is JSON."""
    assert prefers_csv([accept]) is is_csv
