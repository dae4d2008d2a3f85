"""Bodies that are not acceptable: each gets a 400 that names the field and the reason, and changes nothing."""

from collections.abc import AsyncIterator
from json import dumps

import asyncpg
import httpx
import pytest

from tests.support.envelopes import JSON, LONG_AGO, SOON, as_user, assert_error, assert_invalid, assert_success
from tests.support.factories import assert_healthy, make_drop, reserve

FIELDS = {"name": '"Air"', "price": "1", "total_stock": "3"}  # the least that makes a drop, as JSON
CONTROLS = ["\\u0000", "a\\u0000b", "\\u0001", "a\\u001fb", "a\\n", "\\ta", "a\\u007fb", "\\u0080", "a\\u0085b", "a\\u009f"]
BAD_NAMES = ["1", "true", "[]", '["a"]', "{}", '""', '" "', '"\\u3000\\u00a0"', '"\\ud800"', '"a\\udc00\\ud800"']
BAD_NAMES += [f'"{name}"' for name in [*CONTROLS, "x" * 201, "\\ud83d\\ude00" * 201]]
BAD_TIMES = [
    *["1700000000", "1.5", "true", "[]", "{}", '""', '"1700000000"', '"now"', '"infinity"', '"2026-01-01"', '"\\ud800"'],
    *['"2026-01-01T00:00:00"', '"2026-01-01 00:00:00Z"', '"2026-01-01t00:00:00z"', '"2026-01-01T00:00:00 Z"'],
    *['"2026-01-01T00:00:00Z\\n"', '"2026-01-01T00:00:00.1234567Z"', '"20260101T000000Z"', '"2026-01-01T00:00:00Z\\u0000"'],
    *['"2026-01-01T00:00:00+0100"', '"2026-01-01T00:00:00+01"', '"2026-01-01T00:00:00+24:00"', '"2026-01-01T00:00:00+00:60"'],
    *['"2026-02-29T00:00:00Z"', '"2026-13-01T00:00:00Z"', '"2026-01-01T24:00:01Z"', '"2026-01-01T00:60:00Z"'],
    *['"2026-12-31T23:59:60Z"', '"0000-01-01T00:00:00Z"', '"0001-01-01T00:00:00+00:01"', '"9999-12-31T23:59:59-00:01"'],
    *['"10000-01-01T00:00:00Z"', '"-2026-01-01T00:00:00Z"', '"\\uff12\\uff10\\uff12\\uff16-01-01T00:00:00Z"'],
]
BAD = {
    "name": BAD_NAMES,
    "price": [
        *[
            "true",
            "[]",
            "{}",
            '""',
            '"1"',
            '"1.50"',
            "-1",
            "-0.01",
            "-1e400",
            "1e400",
            "1e-400",
            "1.001",
            "0.001",
            "1e-3",
            "1.0001",
        ],
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
REST = b'"price": 1, "total_stock": 3}'
GOOD = b'{"name": "Air", ' + REST
NO_OBJECTS = [
    *[b"nope", b"{", b" \n", b"[]", b"[{}]", b"null", b"true", b"1", b'"Air"', GOOD[:-1], GOOD + b" {}", GOOD + b" // a comment"],
    *[b"{'name': 'Air'}", GOOD[:-1] + b",}"],
    *[GOOD.replace(b"Air", name) for name in (b"A\nir", b"A\0ir", b"\\x41")],
    *[GOOD.replace(b"1", bad) for bad in (b"NaN", b"Infinity", b"-Infinity", b"01", b"+1", b"0x1")],
    # A field twice
    *[b'{"name": "Air", "price": 1, ' + REST, b'{"name": {"a": 1, "a": 1}, ' + REST, b'{"name": "Air", "x": 1, "x": 1, ' + REST],
    # Nested too deeply
    *[b"[" * 60 * 1024, b'{"a":' * 12_000, b'{"name": ' + b"[" * 30_000 + b"]" * 30_000 + b"}"],
    # Not UTF-8: a wrong byte, an overlong NUL, a surrogate; another encoding, or the mark of one
    *[GOOD.replace(b"Air", name) for name in (b"\xff", b"\xc0\x80", b"\xed\xa0\x80")],
    *[GOOD.decode().encode(encoding) for encoding in ("utf-16", "utf-16-le", "utf-8-sig")],
]


def json_of(fields: dict[str, str]) -> str:
    """An object with these fields, themselves JSON."""
    return "{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}"


def body(**fields: str) -> str:
    """A new drop's JSON with these fields, themselves JSON, in place of the usual ones."""
    return json_of(FIELDS | fields)


def short(value: object) -> str:
    """A test's id."""
    return repr(value)[:30]


@pytest.fixture(scope="module", autouse=True)
async def unchanged(http: httpx.AsyncClient, owner: asyncpg.Pool, seller: str) -> AsyncIterator[str]:
    """A drop that every refused PATCH must leave as it was; yields its path. All ends with a clean audit."""
    drop = await make_drop(http, seller, ends_at=SOON)
    yield f"/drops/{drop['id']}"
    assert assert_success(await http.get(f"/drops/{drop['id']}"), "drop") == drop
    await assert_healthy(owner)


class Writer:
    """Writes a drop in one of the two ways: POST makes one, PATCH changes the one that must stay unchanged."""

    def __init__(self, http: httpx.AsyncClient, seller: str, method: str, path: str) -> None:
        self.method = method
        self._http = http
        self._headers = as_user(seller) | JSON
        self._path = path

    async def send(self, content: str | bytes) -> httpx.Response:
        """The answer to a request with this body."""
        return await self._http.request(self.method, self._path, content=content, headers=self._headers)

    async def send_fields(self, **fields: str) -> httpx.Response:
        """The answer to these fields, themselves JSON; POST fills in the others that it takes."""
        return await self.send(body(**fields) if self.method == "POST" else json_of(fields))


@pytest.fixture(params=["POST", "PATCH"])
def writer(http: httpx.AsyncClient, seller: str, unchanged: str, request: pytest.FixtureRequest) -> Writer:
    """Each of the two ways."""
    return Writer(http, seller, request.param, "/drops" if request.param == "POST" else unchanged)


@pytest.mark.parametrize("field", BAD)
async def test_a_field_of_the_wrong_kind(writer: Writer, field: str) -> None:
    """Every unacceptable value is refused with the name of its field, although all other fields are right."""
    accepted = []
    for value in BAD[field] + (["null"] if writer.method == "PATCH" and not field.endswith("_at") else []):
        response = await writer.send_fields(**{field: value})
        if response.status_code == 400:
            assert_invalid(response, field)
        else:
            accepted.append((value[:80], response.status_code, response.text[:200]))
    assert accepted == []


@pytest.mark.parametrize(
    "number", ["1e1000000000000000000000", "0e1000000000000000000000", "1e-1000000000000000000000", "0e9999999"]
)
async def test_exponents_beyond_reason(writer: Writer, number: str) -> None:
    """JSON sets exponents no limit. Zero is zero with any of them; another price is refused."""
    response = await writer.send_fields(price=number, **({} if writer.method == "POST" else {"name": "null"}))
    if not (writer.method == "POST" and number.startswith("0") and response.status_code == 201):
        message = assert_error(response, 400, "VALIDATION_ERROR")
        assert message.startswith(("price: ", "body: ", "name: "))


@pytest.mark.parametrize("content", NO_OBJECTS, ids=lambda content: repr(content[:70]))
async def test_bodies_that_are_no_json_object(writer: Writer, content: bytes) -> None:
    """A body that is not JSON, or not an object, is a 400 about the body."""
    assert_invalid(await writer.send(content), "body")


@pytest.mark.parametrize(
    "field",
    ["id", "available_stock", "created_by", "createdAt", "Name", "", "a.b", "__proto__", "\U0001f45f", "x" * 100, "\ud800"],
)
async def test_unknown_fields(writer: Writer, field: str) -> None:
    """Unknown fields, and those that only the database writes, are refused by name; a lone surrogate cannot even be quoted."""
    response = await writer.send_fields(name='"B"', **{dumps(field)[1:-1]: "1"})
    if field == "\ud800":
        assert_error(response, 400, "VALIDATION_ERROR")
    else:
        assert_invalid(response, field or "body")


@pytest.mark.parametrize(
    ("names", "named", "more"),
    [
        ([f"f{n}" for n in range(5)], ["f0", "f1", "f2", "f3", "f4"], ""),
        ([f"{n}" for n in range(2000)], ["0", "1", "2", "3", "4"], "; 1995 more are not fields here"),
        ([f"{n}" + "x" * 6000 for n in range(9)], [f"{n}" + "x" * 99 + "…" for n in range(5)], "; 4 more are not fields here"),
        (["y" * 60_000], ["y" * 100 + "…"], ""),
    ],
    ids=["few", "many", "long", "longest"],
)
async def test_many_unknown_fields(writer: Writer, names: list[str], named: list[str], more: str) -> None:
    """An error names the first unknown fields, with their names cut, and says how many follow."""
    message = assert_error(await writer.send(dumps(dict.fromkeys(names, 1), separators=(",", ":"))), 400, "VALIDATION_ERROR")
    reasons = [f"{name}: is not a field here" for name in named]
    if writer.method == "POST":
        reasons += [f"{name}: is required" for name in ("name", "price")]
    assert message == "; ".join(sorted(reasons)) + more


async def test_unknown_fields_of_objects_in_a_list(writer: Writer) -> None:
    """The answer is as short, whether one object has too many fields or many have a wrong one."""
    [full, wrong] = [[{f"f{n}": 1 for n in range(100)}], [{"name": "", "total_stock": 0, "size": 1}] * 200]
    message = assert_invalid(await writer.send_fields(variants=dumps(full)), "variants.0")
    assert message.endswith("must not have more than 20 fields")
    message = assert_error(await writer.send_fields(variants=dumps(wrong)), 400, "VALIDATION_ERROR")
    assert "variants.0.size: is not a field here" in message
    assert "variants.1." not in message


@pytest.mark.parametrize("value", ["1", "1e9", "{}", '{"a":0}', "[]", '""'])
async def test_too_many_values(writer: Writer, value: str) -> None:
    """JSON of very many values is refused before it is parsed."""
    content = '{"name":[' + ",".join([value] * 2002) + "]}"
    assert_invalid(await writer.send(content), "body")
    assert_invalid(await writer.send(content.replace(f",{value}", "", 1)), "name")


@pytest.mark.parametrize("content", ["", "{}"])
async def test_nothing_given(writer: Writer, content: str) -> None:
    """A new drop without fields is refused by the names of the required ones, and an empty change by the body."""
    reasons = assert_error(await writer.send(content), 400, "VALIDATION_ERROR").split("; ")
    assert [reason.partition(":")[0] for reason in reasons] == (["name", "price"] if writer.method == "POST" else ["body"])


async def test_neither_stock_nor_variants(http: httpx.AsyncClient, seller: str) -> None:
    """A new drop needs its stock or its variants."""
    content = json_of({"name": '"Air"', "price": "1"})
    assert_invalid(await http.post("/drops", content=content, headers=as_user(seller) | JSON), "total_stock")


async def test_every_wrong_field_is_named(writer: Writer) -> None:
    """All wrong fields are named at once, so that a form can be corrected in one go."""
    wrong = {"name": '""', "price": "-1", "total_stock": "0", "starts_at": '"now"', "status": '"sold"', "colour": '"red"'}
    response = await writer.send_fields(**wrong)
    for field in wrong:
        assert_invalid(response, field)


@pytest.mark.parametrize(
    ("method", "fields", "field"),
    [
        ("POST", {"starts_at": "2026-01-02T00:00:00Z", "ends_at": "2026-01-01T00:00:00Z"}, "ends_at"),
        ("POST", {"starts_at": "2026-01-01T00:00:00Z", "ends_at": "2026-01-01T00:00:00Z"}, "ends_at"),
        ("POST", {"starts_at": "2026-01-01T00:00:00+00:00", "ends_at": "2026-01-01T00:30:00+01:00"}, "ends_at"),
        ("POST", {"status": "live", "ends_at": "2020-01-01T00:00:00Z"}, "ends_at"),
        ("POST", {"status": "live", "starts_at": SOON}, "starts_at"),
        ("POST", {"status": "scheduled"}, "starts_at"),
        ("POST", {"status": "ended"}, "status"),
        ("POST", {"status": "cancelled"}, "status"),
        ("PATCH", {"ends_at": "2019-12-31T00:00:00Z"}, "ends_at"),
        ("PATCH", {"ends_at": LONG_AGO}, "ends_at"),
        ("PATCH", {"starts_at": SOON}, "starts_at"),
        ("PATCH", {"starts_at": None}, "starts_at"),
    ],
    ids=short,
)
async def test_contradictions(
    http: httpx.AsyncClient, seller: str, unchanged: str, method: str, fields: dict[str, str | None], field: str
) -> None:
    """Fields that contradict each other, or the rest of the drop that they change, are refused by the one to correct."""
    writer = Writer(http, seller, method, "/drops" if method == "POST" else unchanged)
    assert_invalid(await writer.send_fields(**{name: dumps(value) for name, value in fields.items()}), field)


@pytest.mark.parametrize(
    "name",
    [
        *["x", "x" * 200, "\U0001f45f" * 200, " Air ", "\U0010ffff\ufffd", "null", "a\u200bb\u2028c\u202ed", "e\u0301"],
        *["Robert'); drop table inventory.drops; --", '"; select api.audit(); "', "$1 %s {0} \\ \\u0000 \\' $$", "' or 1=1"],
        "<script>alert(1)</script>",
    ],
    ids=short,
)
async def test_names_are_stored_verbatim(http: httpx.AsyncClient, seller: str, name: str) -> None:
    """A name is never trimmed or interpreted, whether or not it is escaped in JSON, and whether it is made or changed."""
    drop = await make_drop(http, seller, name=name)
    assert drop["name"] == name
    changed_name = name + "!" if len(name) < 200 else name
    content = dumps({"name": changed_name}, ensure_ascii=False).encode()
    response = await http.patch(f"/drops/{drop['id']}", content=content, headers=as_user(seller) | JSON)
    changed = assert_success(response, "drop")
    assert changed["name"] == changed_name
    assert assert_success(await http.get(f"/drops/{drop['id']}"), "drop") == changed


@pytest.mark.parametrize(
    ("field", "sent", "stored"),
    [
        *[("price", "0", "0.00"), ("price", "-0", "0.00"), ("price", "-0.0", "0.00"), ("price", "1e2", "100.00")],
        *[("price", "1E-2", "0.01"), ("price", "12.5e1", "125.00"), ("price", "0.1", "0.10"), ("price", "0.07", "0.07")],
        *[("price", "9999999999.99", "9999999999.99"), ("price", "4.35", "4.35"), ("price", "1.10", "1.10")],
        *[
            (field, f'"{sent}"', stored)
            for field in ("starts_at", "ends_at")
            for sent, stored in [
                ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+00:00"),
                ("0001-01-01T00:00:01Z", "0001-01-01T00:00:01+00:00"),
                ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999+00:00"),
                ("2026-01-01T00:00Z", "2026-01-01T00:00:00+00:00"),
                ("2026-01-01T00:00:00.000001-00:00", "2026-01-01T00:00:00.000001+00:00"),
                ("2999-01-01T02:30:00.25+02:30", "2999-01-01T00:00:00.25+00:00"),
                ("2024-02-29T12:00:00+23:59", "2024-02-28T12:01:00+00:00"),
            ]
        ],
    ],
)
async def test_numbers_and_times_are_exact(http: httpx.AsyncClient, seller: str, field: str, sent: str, stored: str) -> None:
    """A price is the decimal number that was written, and a time is exact to the microsecond and to the ends of the calendar."""
    headers = as_user(seller) | JSON
    content = body(status='"draft"', **{field: sent})
    drop = assert_success(await http.post("/drops", content=content, headers=headers), "drop", 201)
    assert str(drop[field]) == stored
    other = "1" if field == "price" else "null"
    for value, expected in ((other, "1.00" if field == "price" else "None"), (sent, stored)):
        response = await http.patch(f"/drops/{drop['id']}", content=json_of({field: value}), headers=headers)
        assert str(assert_success(response, "drop")[field]) == expected


@pytest.mark.parametrize(
    ("field", "sent", "reason"),
    [
        ("currency", '"eur"', "must be an ISO 4217 code, such as USD"),
        ("currency", "840", "must be an ISO 4217 code, such as USD"),
        ("total_stock", "9" * 10, "must be 2147483647 or less"),
        ("total_stock", "9" * 5000, "must be 2147483647 or less"),
        ("limit_per_user", "-" + "9" * 50, "must be 1 or more"),
    ],
    ids=short,
)
async def test_reasons(http: httpx.AsyncClient, seller: str, field: str, sent: str, reason: str) -> None:
    """The reason is that of the field."""
    response = await http.post("/drops", content=body(**{field: sent}), headers=as_user(seller) | JSON)
    assert assert_invalid(response, field) == f"{field}: {reason}"


async def test_stock_of_any_size(http: httpx.AsyncClient, seller: str) -> None:
    """The stock may be PostgreSQL's largest integer, and selling works there."""
    drop = await make_drop(http, seller, total_stock=2**31 - 1)
    await reserve(http, drop["id"], seller)
    assert assert_success(await http.get(f"/drops/{drop['id']}"), "drop")["available_stock"] == 2**31 - 2


@pytest.mark.parametrize(
    ("content", "field"),
    [
        *[(f'{{"username": {value}}}', "username") for value in [*BAD_NAMES, "null"]],
        *[("{}", "username"), ("", "username"), ('{"username": "a", "id": 1}', "id")],
        *[('{"username": "a", "username": "b"}', "body"), ("[]", "body")],
    ],
    ids=short,
)
async def test_bad_users(http: httpx.AsyncClient, content: str, field: str) -> None:
    """The body of a user is as strict as that of a drop, and the username as the name."""
    assert_invalid(await http.post("/internal/users", content=content, headers=JSON), field)
