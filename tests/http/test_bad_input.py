"""Bodies that are not what they should be: each gets a 4xx that names the field and the reason, and changes nothing."""

from collections.abc import AsyncIterator
from json import dumps

import asyncpg
import httpx
import pytest

from tests.support.api import JSON, LONG_AGO, SOON, as_user, assert_error, assert_invalid, assert_success
from tests.support.factories import assert_healthy, make_drop, make_user, reserve

FIELDS = {"name": '"Air"', "price": "1", "total_stock": "3"}  # the least that makes a drop, as JSON
CONTROLS = ["\\u0000", "a\\u0000b", "\\u0001", "a\\u001fb", "a\\n", "\\ta", "a\\u007fb", "\\u0080", "a\\u0085b", "a\\u009f"]
BAD_NAMES = ["1", "true", "[]", '["a"]', "{}", '""', '" "', '"\\u3000\\u00a0"', '"\\ud800"', '"a\\udc00\\ud800"']
BAD_NAMES += [f'"{name}"' for name in [*CONTROLS, "x" * 201, "\\ud83d\\ude00" * 201]]
BAD_TIMES = [
    "1700000000",
    "1.5",
    "true",
    "[]",
    "{}",
    '""',
    '"1700000000"',
    '"now"',
    '"infinity"',
    '"2026-01-01"',
    '"2026-01-01T00:00:00"',
    '"2026-01-01 00:00:00Z"',
    '"2026-01-01t00:00:00z"',
    '"2026-01-01T00:00:00 Z"',
    '"2026-01-01T00:00:00Z\\n"',
    '"2026-01-01T00:00:00.1234567Z"',
    '"20260101T000000Z"',
    '"2026-01-01T00:00:00+0100"',
    '"2026-01-01T00:00:00+01"',
    '"2026-01-01T00:00:00+24:00"',
    '"2026-01-01T00:00:00+00:60"',
    '"2026-02-29T00:00:00Z"',
    '"2026-13-01T00:00:00Z"',
    '"2026-01-01T24:00:01Z"',
    '"2026-01-01T00:60:00Z"',
    '"2026-12-31T23:59:60Z"',
    '"0000-01-01T00:00:00Z"',
    '"0001-01-01T00:00:00+00:01"',
    '"9999-12-31T23:59:59-00:01"',
    '"10000-01-01T00:00:00Z"',
    '"-2026-01-01T00:00:00Z"',
    '"\\uff12\\uff10\\uff12\\uff16-01-01T00:00:00Z"',
    '"2026-01-01T00:00:00Z\\u0000"',
    '"\\ud800"',
]
BAD = {
    "name": BAD_NAMES,
    "price": [
        *["true", "[]", "{}", '""', '"1"', '"1.50"', "-1", "-0.01", "-1e400", "1e400", "1e-400", "1.001", "0.001", "1e-3"],
        *["9999999999.994", "9999999999.995", "10000000000", "1e10", "1" + "0" * 30, "9" * 5000],
        *["1.0000000000000000001", "0.0000000000000000000000000000000001", "99999999999.99"],
    ],
    "total_stock": [
        *["true", "[]", "{}", '""', '"3"', "0", "-0", "-1", "1.5", "0.1", "1e-1", "1e400", "2147483648", "-2147483649"],
        *["9223372036854775808", "1" + "0" * 30, "9" * 5000],
    ],
    "starts_at": BAD_TIMES,
    "ends_at": BAD_TIMES,
    "status": ['""', '"LIVE"', '" live"', '"sold_out"', '"live\\u0000"', '"\\ud800"', "1", "true", "[]", '["live"]', "{}"],
}
NOT_JSON = {
    "a word": b"nope",
    "cut short": b'{"name": "Air", "price": 1, "total_stock": 3',
    "only an opening": b"{",
    "two values": b'{"name": "Air", "price": 1, "total_stock": 3} {}',
    "single quotes": b"{'name': 'Air'}",
    "trailing comma": b'{"name": "Air", "price": 1, "total_stock": 3,}',
    "a comment": b'{"name": "Air", "price": 1, "total_stock": 3} // shoe',
    "raw control": b'{"name": "A\nir", "price": 1, "total_stock": 3}',
    "raw nul": b'{"name": "A\0ir", "price": 1, "total_stock": 3}',
    "bad escape": b'{"name": "\\x41", "price": 1, "total_stock": 3}',
    "NaN": b'{"name": "Air", "price": NaN, "total_stock": 3}',
    "Infinity": b'{"name": "Air", "price": Infinity, "total_stock": 3}',
    "-Infinity": b'{"name": "Air", "price": -Infinity, "total_stock": 3}',
    "leading zero": b'{"name": "Air", "price": 01, "total_stock": 3}',
    "leading plus": b'{"name": "Air", "price": +1, "total_stock": 3}',
    "hexadecimal": b'{"name": "Air", "price": 0x1, "total_stock": 3}',
    "a field twice": b'{"name": "Air", "price": 1, "price": 2, "total_stock": 3}',
    "an unknown field twice": b'{"name": "Air", "price": 1, "total_stock": 3, "x": 1, "x": 1}',
    "a field twice inside": b'{"name": {"a": 1, "a": 1}, "price": 1, "total_stock": 3}',
    "deep lists": b"[" * 60 * 1024,
    "deep objects": b'{"a":' * 12_000,
    "deep and closed": b'{"name": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "invalid UTF-8": b'{"name": "\xff", "price": 1, "total_stock": 3}',
    "overlong UTF-8": b'{"name": "\xc0\x80", "price": 1, "total_stock": 3}',
    "a surrogate in UTF-8": b'{"name": "\xed\xa0\x80", "price": 1, "total_stock": 3}',
    "UTF-16": '{"name": "Air", "price": 1, "total_stock": 3}'.encode("utf-16"),
    "UTF-16 without a mark": '{"name": "Air", "price": 1, "total_stock": 3}'.encode("utf-16-le"),
    "a byte order mark": b"\xef\xbb\xbf" + b'{"name": "Air", "price": 1, "total_stock": 3}',
    "white space alone": b" \n",
}


def body(**fields: str) -> str:
    """A new drop's JSON with these fields, themselves JSON, in place of the usual ones."""
    return "{" + ", ".join(f'"{name}": {value}' for name, value in (FIELDS | fields).items()) + "}"


def short(value: object) -> str:
    """A test's id."""
    return repr(value)[:30]


@pytest.fixture(scope="module")
async def seller(owner: asyncpg.Pool) -> str:
    """A user to sell as."""
    return await make_user(owner)


@pytest.fixture(scope="module", autouse=True)
async def nothing_changed(http: httpx.AsyncClient, owner: asyncpg.Pool, seller: str) -> AsyncIterator[str]:
    """A drop that every refused PATCH leaves as it was; yields its id. Ends with a clean audit."""
    drop = await make_drop(http, seller, ends_at=SOON)
    yield drop["id"]
    assert assert_success(await http.get(f"/drops/{drop['id']}"), "drop") == drop
    await assert_healthy(owner)


@pytest.fixture(params=["POST", "PATCH"])
def method(request: pytest.FixtureRequest) -> str:
    """The two ways to write a drop."""
    given: str = request.param
    return given


@pytest.fixture
def path(method: str, nothing_changed: str) -> str:
    """Where."""
    return "/drops" if method == "POST" else f"/drops/{nothing_changed}"


@pytest.mark.parametrize("field", BAD)
async def test_a_field_of_the_wrong_kind(http: httpx.AsyncClient, seller: str, method: str, path: str, field: str) -> None:
    """Each value is refused by the name of its field, whatever else is right."""
    headers = as_user(seller) | JSON
    accepted = []
    for value in BAD[field] + (["null"] if method == "PATCH" and not field.endswith("_at") else []):
        content = body(**{field: value}) if method == "POST" else f'{{"{field}": {value}}}'
        response = await http.request(method, path, content=content, headers=headers)
        if response.status_code == 400:
            assert_invalid(response, field)
        else:
            accepted.append((value[:80], response.status_code, response.text[:200]))
    assert accepted == []


@pytest.mark.parametrize(
    "number", ["1e1000000000000000000000", "0e1000000000000000000000", "1e-1000000000000000000000", "0e9999999"]
)
async def test_exponents_beyond_reason(http: httpx.AsyncClient, seller: str, method: str, path: str, number: str) -> None:
    """JSON sets exponents no limit. Zero is zero with any of them; else 400 by the field's name or the body's."""
    content = body(price=number) if method == "POST" else f'{{"price": {number}, "name": null}}'
    response = await http.request(method, path, content=content, headers=as_user(seller) | JSON)
    if not (method == "POST" and number.startswith("0") and response.status_code == 201):
        message = assert_error(response, 400, "VALIDATION_ERROR")
        assert message.startswith(("price: ", "body: ", "name: "))


@pytest.mark.parametrize("content", NOT_JSON.values(), ids=NOT_JSON)
async def test_what_is_not_json(http: httpx.AsyncClient, seller: str, method: str, path: str, content: bytes) -> None:
    """400, of the body."""
    assert_invalid(await http.request(method, path, content=content, headers=as_user(seller) | JSON), "body")


@pytest.mark.parametrize("content", ["[]", "[{}]", "null", "true", "1", '"Air"', f"[{body()}]"])
async def test_what_is_no_object(http: httpx.AsyncClient, seller: str, method: str, path: str, content: str) -> None:
    """400, of the body."""
    assert_invalid(await http.request(method, path, content=content, headers=as_user(seller) | JSON), "body")


@pytest.mark.parametrize(
    "field", ["id", "available_stock", "created_by", "createdAt", "Name", "", "a.b", "__proto__", "\U0001f45f", "x" * 999]
)
async def test_unknown_fields(http: httpx.AsyncClient, seller: str, method: str, path: str, field: str) -> None:
    """Refused by name, not ignored; those that only the database writes, too."""
    content = body(**{field: "1"}) if method == "POST" else dumps({"name": "B", field: 1})
    assert_invalid(await http.request(method, path, content=content, headers=as_user(seller) | JSON), field or "body")


async def test_an_unknown_field_that_is_no_text(http: httpx.AsyncClient, seller: str, method: str, path: str) -> None:
    """A lone surrogate as a field's name cannot even be quoted."""
    content = body(**{"\\ud800": "1"}) if method == "POST" else '{"\\ud800": 1}'
    assert_error(await http.request(method, path, content=content, headers=as_user(seller) | JSON), 400, "VALIDATION_ERROR")


@pytest.mark.parametrize("content", [b"", b"{}"])
async def test_nothing_to_make_a_drop_of(http: httpx.AsyncClient, seller: str, content: bytes) -> None:
    """Every field that is missing is named, and only those."""
    message = assert_invalid(await http.post("/drops", content=content, headers=as_user(seller) | JSON), "name")
    assert [reason.partition(":")[0] for reason in message.split("; ")] == ["name", "price", "total_stock"]


@pytest.mark.parametrize("content", [b"", b"{}"])
async def test_nothing_to_change(http: httpx.AsyncClient, seller: str, nothing_changed: str, content: bytes) -> None:
    """An empty PATCH is refused."""
    response = await http.patch(f"/drops/{nothing_changed}", content=content, headers=as_user(seller) | JSON)
    assert_invalid(response, "body")


async def test_every_wrong_field_is_named(http: httpx.AsyncClient, seller: str) -> None:
    """At once, so that a form can be corrected in one go."""
    content = '{"name": "", "price": -1, "total_stock": 0, "starts_at": "now", "status": "sold", "colour": "red"}'
    response = await http.post("/drops", content=content, headers=as_user(seller) | JSON)
    for field in ("name", "price", "total_stock", "starts_at", "status", "colour"):
        assert_invalid(response, field)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"starts_at": "2026-01-02T00:00:00Z", "ends_at": "2026-01-01T00:00:00Z"}, "ends_at"),
        ({"starts_at": "2026-01-01T00:00:00Z", "ends_at": "2026-01-01T00:00:00Z"}, "ends_at"),
        ({"starts_at": "2026-01-01T00:00:00+00:00", "ends_at": "2026-01-01T00:30:00+01:00"}, "ends_at"),
        ({"status": "live", "ends_at": "2020-01-01T00:00:00Z"}, "ends_at"),
        ({"status": "live", "starts_at": SOON}, "starts_at"),
        ({"status": "scheduled"}, "starts_at"),
        ({"status": "ended"}, "status"),
        ({"status": "cancelled"}, "status"),
    ],
    ids=short,
)
async def test_fields_that_contradict_each_other(
    http: httpx.AsyncClient, seller: str, fields: dict[str, str], field: str
) -> None:
    """Refused by the one to correct."""
    content = body(**{name: dumps(value) for name, value in fields.items()})
    assert_invalid(await http.post("/drops", content=content, headers=as_user(seller) | JSON), field)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"ends_at": "2019-12-31T00:00:00Z"}, "ends_at"),
        ({"ends_at": LONG_AGO}, "ends_at"),
        ({"starts_at": SOON}, "starts_at"),
        ({"starts_at": None}, "starts_at"),
    ],
    ids=short,
)
async def test_changes_that_contradict_what_is_there(
    http: httpx.AsyncClient, seller: str, nothing_changed: str, changes: dict[str, str | None], field: str
) -> None:
    """Refused by the one to correct."""
    assert_invalid(await http.patch(f"/drops/{nothing_changed}", json=changes, headers=as_user(seller)), field)


@pytest.mark.parametrize(
    "name",
    [
        "x",
        "x" * 200,
        "\U0001f45f" * 200,
        " Air ",
        "\U0010ffff\ufffd",
        "Robert'); drop table inventory.drops; --",
        '"; select api.audit(); "',
        "$1 %s {0} \\ \\u0000 \\' $$",
        "<script>alert(1)</script>",
        "' or 1=1",
        "null",
        "a\u200bb\u2028c\u202ed",
        "e\u0301",
    ],
    ids=short,
)
async def test_names_are_stored_verbatim(http: httpx.AsyncClient, seller: str, name: str) -> None:
    """Never trimmed, never interpreted; escaped or not in JSON, made or changed."""
    drop = await make_drop(http, seller, name=name)
    assert drop["name"] == name
    content = dumps({"name": name + "!"} if len(name) < 200 else {"name": name}, ensure_ascii=False).encode()
    response = await http.patch(f"/drops/{drop['id']}", content=content, headers=as_user(seller) | JSON)
    changed = assert_success(response, "drop")
    assert changed["name"] in (name, name + "!")
    assert assert_success(await http.get(f"/drops/{drop['id']}"), "drop") == changed


@pytest.mark.parametrize(
    ("price", "stored"),
    [
        *[("0", "0.00"), ("-0", "0.00"), ("-0.0", "0.00"), ("1e2", "100.00"), ("1E-2", "0.01"), ("12.5e1", "125.00")],
        *[("0.1", "0.10"), ("0.07", "0.07"), ("9999999999.99", "9999999999.99"), ("4.35", "4.35"), ("1.10", "1.10")],
    ],
)
async def test_prices_are_exact(http: httpx.AsyncClient, seller: str, price: str, stored: str) -> None:
    """As the decimal number that was written, however it was written."""
    drop = assert_success(await http.post("/drops", content=body(price=price), headers=as_user(seller) | JSON), "drop", 201)
    assert str(drop["price"]) == stored
    response = await http.patch(f"/drops/{drop['id']}", content=f'{{"price": {price}}}', headers=as_user(seller) | JSON)
    assert str(assert_success(response, "drop")["price"]) == stored


@pytest.mark.parametrize(
    ("time", "stored"),
    [
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+00:00"),
        ("0001-01-01T00:00:01Z", "0001-01-01T00:00:01+00:00"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999+00:00"),
        ("2026-01-01T00:00Z", "2026-01-01T00:00:00+00:00"),
        ("2026-01-01T00:00:00.000001-00:00", "2026-01-01T00:00:00.000001+00:00"),
        ("2024-02-29T12:00:00+23:59", "2024-02-28T12:01:00+00:00"),
    ],
)
async def test_times_are_exact(http: httpx.AsyncClient, seller: str, time: str, stored: str) -> None:
    """To the microsecond, to the ends of the calendar."""
    content = body(ends_at=dumps(time))
    drop = assert_success(await http.post("/drops", content=content, headers=as_user(seller) | JSON), "drop", 201)
    assert drop["ends_at"] == stored
    response = await http.patch(f"/drops/{drop['id']}", json={"ends_at": None}, headers=as_user(seller))
    assert assert_success(response, "drop")["ends_at"] is None
    response = await http.patch(f"/drops/{drop['id']}", json={"ends_at": time}, headers=as_user(seller))
    assert assert_success(response, "drop")["ends_at"] == stored


async def test_stock_of_any_size(http: httpx.AsyncClient, seller: str) -> None:
    """From one to PostgreSQL's largest integer, and selling works there."""
    drop = await make_drop(http, seller, total_stock=2**31 - 1)
    await reserve(http, drop["id"], seller)
    assert assert_success(await http.get(f"/drops/{drop['id']}"), "drop")["available_stock"] == 2**31 - 2


@pytest.mark.parametrize("value", [*BAD_NAMES, "null"], ids=short)
async def test_usernames(http: httpx.AsyncClient, value: str) -> None:
    """The same rules hold for the name of a user."""
    response = await http.post("/internal/users", content=f'{{"username": {value}}}', headers=JSON)
    assert_invalid(response, "username")


@pytest.mark.parametrize("content", ["{}", "", '{"username": "a", "id": 1}', '{"username": "a", "username": "b"}', "[]"])
async def test_bodies_that_are_no_user(http: httpx.AsyncClient, content: str) -> None:
    """400."""
    assert_error(await http.post("/internal/users", content=content, headers=JSON), 400, "VALIDATION_ERROR")


@pytest.mark.parametrize(
    "content",
    [
        *["[]", body(name="1"), body(price='"1"'), body(price="NaN"), body(name='" "'), body(name='"\\u0001"'), "[" * 60_000],
        *[body(price="9" * 5000), body(name='"\\ud800"'), body(price="1.001"), body(status='"x"'), body(colour="1")],
    ],
    ids=short,
)
async def test_reasons_are_for_people(http: httpx.AsyncClient, seller: str, content: str) -> None:
    """They speak of JSON, and say nothing of how the service is made."""
    response = await http.post("/drops", content=content, headers=as_user(seller) | JSON)
    message = assert_error(response, 400, "VALIDATION_ERROR")
    for word in ("Decimal", "NewDrop", "instance", "dictionary", "pattern", "sys.", "recursion", "codec", "raw data"):
        assert word not in message
