"""AUTH_MODE=jwt: the user that a token names, what that user may do, and the tokens that are refused."""

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5
from zlib import compress

import asyncpg
import httpx
import jwt
import pytest
import websockets
from websockets.exceptions import InvalidStatus

from lastpair.settings import Settings
from lastpair.web.tokens import MAX_TOKEN_LENGTH
from tests.support.database import Database
from tests.support.envelopes import JSON, LONG_AGO, as_user, assert_error, assert_invalid, assert_success
from tests.support.factories import name_of
from tests.support.in_process import client_of_app, running_app
from tests.support.servers import Service, started
from tests.support.tokens import (
    AUDIENCE,
    ISSUER,
    SECRET,
    PrivateKey,
    base64url_encode,
    bearer,
    claims,
    ec_key,
    forged,
    public_jwk,
    public_pem,
    rsa_key,
    token,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.usefixtures("healthy")

RSA, EC, OTHER_RSA = rsa_key(), ec_key(), rsa_key()
KEYS: dict[str, PrivateKey | str] = {"HS256": SECRET, "RS256": RSA, "ES256": EC}
ENVIRONMENTS = {
    "HS256": {"JWT_SECRET": SECRET},
    "RS256": {"JWT_PUBLIC_KEY": public_pem(RSA).replace("\n", "\\n")},  # as it fits on one line
    "ES256": {"JWT_PUBLIC_KEY": public_pem(EC)},
}
COMMON = {"AUTH_MODE": "jwt", "JWT_AUDIENCE": AUDIENCE, "JWT_ISSUER": ISSUER, "EXPIRY_POLL_MS": "3600000"}

NOBODY = UUID(int=0)
DROP = {"name": "Air One", "price": 199.9, "total_stock": 5, "starts_at": LONG_AGO}
PATHS = [
    ("POST", f"/drops/{NOBODY}/reserve"),
    ("POST", f"/drops/{NOBODY}/purchase"),
    ("DELETE", f"/reservations/{NOBODY}"),
    ("GET", "/reservations/me"),
    ("GET", "/purchases/me"),
    ("DELETE", "/users/me"),
    ("POST", "/drops"),
    ("PATCH", f"/drops/{NOBODY}"),
]
BODIES: dict[str, Any] = {"/drops": DROP, f"/drops/{NOBODY}": {"name": "Stolen"}}

CHALLENGE = 'Bearer realm="lastpair"'
BAD_TOKEN = f'{CHALLENGE}, error="invalid_token"'
NOT_ADMIN = f'{CHALLENGE}, error="insufficient_scope"'

SIGNATURE, ALGORITHM, FORM = "signature is wrong", "another algorithm", "not a well-formed"
CLAIMS, SUBJECT = "must have exp, aud, iss and sub", "(sub) must be 1 to 255 characters"
HEADER, KIND = "not understood here (crit, kid)", "of another kind (typ, cty, type, token_type, token_use, events)"

GOOD_HEADER = {"alg": "RS256", "typ": "JWT"}
GOOD_TYPES = [None, "JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt", "application/jwt"]


@pytest.fixture(scope="module")
def sent() -> set[str]:
    """Everything that was sent and may not be logged, most of it in Authorization."""
    return {SECRET, "password-in-a-query"}


@pytest.fixture(scope="module")
def production(database: Database, sent: set[str]) -> Iterator[Service]:
    """`lastpair run` in production, with RS256, logging all it can. It must log neither a stack trace nor a part of a token."""
    environment = COMMON | ENVIRONMENTS["RS256"] | {"APP_ENV": "production", "LOG_LEVEL": "debug", "DATABASE_URL": database.url}
    with started(**environment) as service:
        service.wait_until_ready()
        yield service
        service.stop()
        log = service.log()
    parts = {part for text in sent for part in text.removeprefix("Bearer ").split(".") if len(part) > 8}
    assert len(parts) > 20
    assert [part for part in parts if part in log] == []


@pytest.fixture(scope="module")
async def http(production: Service, sent: set[str]) -> AsyncIterator[httpx.AsyncClient]:
    """A client of that service."""

    async def note(request: httpx.Request) -> None:
        sent.update(request.headers.get_list("authorization"))

    async with httpx.AsyncClient(base_url=f"{production.url}/api", timeout=30, event_hooks={"request": [note]}) as client:
        yield client


@asynccontextmanager
async def client_with(database: Database, environment: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application with these settings, without a process of its own."""
    settings = Settings(**{name.lower(): value for name, value in environment.items()}, database_url=database.url)  # type: ignore[arg-type]
    async with running_app(settings) as app, client_of_app(app) as client:
        yield client


async def make_drop(http: httpx.AsyncClient) -> str:
    """A drop that an admin has put up for sale; returns its id."""
    response = await http.post("/drops", json=DROP, headers=bearer(token(RSA, role="admin")))
    drop_id: str = assert_success(response, "drop", 201)["id"]
    return drop_id


def assert_refused(response: httpx.Response, reason: str, challenge: str = BAD_TOKEN) -> None:
    """The answer is 401 with the challenge and the reason, and has nothing of what was sent."""
    message = assert_error(response, 401, "AUTH_REQUIRED")
    assert message.startswith("Authorization: ")
    assert reason in message
    assert response.headers.get_list("www-authenticate") == [challenge]
    for given in response.request.headers.get_list("authorization"):
        assert [part for part in given.replace(" ", ".").split(".") if len(part) > 8 and part in response.text] == []


# Tokens that are good


@pytest.mark.parametrize("algorithm", KEYS)
async def test_the_kinds_of_keys(database: Database, owner: asyncpg.Pool, algorithm: str) -> None:
    """A token is accepted only if it is signed with the key, and in the way that the key is meant for."""
    async with client_with(database, COMMON | ENVIRONMENTS[algorithm]) as http:

        async def ask(given: str) -> httpx.Response:
            return await http.get("/purchases/me", headers=bearer(given))

        for used, key in KEYS.items():
            user_id = uuid4()
            response = await ask(token(key, user_id))
            if used == algorithm:
                assert assert_success(response, "purchases") == []
                assert await name_of(owner, user_id) is not None
            else:
                assert_refused(response, ALGORITHM)
        for public in (public_pem(RSA), public_pem(EC)):  # a key that everybody knows, used as the secret
            response = await ask(forged({"alg": "HS256"}, claims(), public))
            assert_refused(response, SIGNATURE if algorithm == "HS256" else ALGORITHM)
        for key in ("another secret of enough characters", OTHER_RSA, ec_key()):
            assert_refused(await ask(forged({"alg": algorithm}, claims(), key)), SIGNATURE)


async def test_a_plain_user_buys(http: httpx.AsyncClient, owner: asyncpg.Pool) -> None:
    """A user with a token reserves, cancels, reserves again and buys; the first request makes the user."""
    drop_id, user_id = await make_drop(http), uuid4()
    headers = bearer(token(RSA, user_id))
    reservation = assert_success(await http.post(f"/drops/{drop_id}/reserve", headers=headers), "reservation", 201)
    assert reservation["user_id"] == str(user_id)
    assert await name_of(owner, user_id) == f"user-{str(user_id)[:8]}"
    assert assert_success(await http.get("/reservations/me", headers=headers), "reservations") == [reservation]
    cancelled = assert_success(await http.delete(f"/reservations/{reservation['id']}/cancel", headers=headers), "reservation")
    assert cancelled["status"] == "CANCELLED"
    assert_success(await http.post(f"/drops/{drop_id}/reserve", headers=headers), "reservation", 201)
    bought = assert_success(await http.post(f"/drops/{drop_id}/purchase", headers=headers), "purchase", 201)
    assert assert_success(await http.get("/purchases/me", headers=headers), "purchases") == [bought]


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ["https://other.example", AUDIENCE]},
        {"sub": str(uuid4()).upper()},
        {"nbf": time.time() + 5},
        {"iat": time.time() + 5},
        {"exp": time.time() + 3600 * 24 * 365 * 10},
        {"role": ["admin"], "preferred_username": 7, "anything": {"else": None}},
        {"typ": "Bearer", "azp": "shop", "at_hash": "x", "nonce": "y"},
        *[{"token_type": kind} for kind in ("access", "Bearer", "bearer", "sliding", "access_token", "at+jwt")],
        *[{"token_use": "access"}, {"type": "access"}, {"typ": "Bearer", "type": "JWT"}, {"typ": "at+jwt"}, {"type": "person"}],
        {"token_use": 7, "type": ["person"], "token_type": {"is": "id"}, "typ": True},
        *[{"header": {"typ": typ}} for typ in GOOD_TYPES],
        {"header": {"cty": "json"}},
    ],
    ids=lambda changes: "-".join(changes),
)
async def test_tokens_that_are_good(http: httpx.AsyncClient, changes: dict[str, Any]) -> None:
    """A token may have several audiences, a UUID in upper case, times that are a little off, and claims that are not used."""
    assert_success(await http.get("/purchases/me", headers=bearer(token(RSA, **changes))), "purchases")


async def test_a_token_just_expired(http: httpx.AsyncClient) -> None:
    """A token is accepted until ten seconds after its end, because the issuer's clock may be off by as much, and not later."""
    now = time.time()
    assert_success(await http.get("/purchases/me", headers=bearer(token(RSA, exp=now - 5))), "purchases")
    assert_refused(await http.get("/purchases/me", headers=bearer(token(RSA, exp=now - 11))), "has expired")


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "Bearer   "])
async def test_schemes(http: httpx.AsyncClient, scheme: str) -> None:
    """The scheme may be written in any case, and any number of spaces may follow it."""
    response = await http.get("/purchases/me", headers={"Authorization": scheme + token(RSA)})
    assert_success(response, "purchases")


@pytest.mark.parametrize("header", [b"x-user-id", b"x-user-name"])
async def test_the_headers_of_development_are_ignored(http: httpx.AsyncClient, owner: asyncpg.Pool, header: bytes) -> None:
    """X-User-Id and X-User-Name mean nothing: the user is the token's, and without a token the request is refused."""
    user_id, other_id = uuid4(), uuid4()
    given = {header: str(other_id).encode()}
    assert_refused(await http.get("/purchases/me", headers=given), "send Bearer and a token", CHALLENGE)
    response = await http.get("/purchases/me", headers=given | {b"authorization": f"Bearer {token(RSA, user_id)}".encode()})
    assert_success(response, "purchases")
    assert await name_of(owner, user_id) == f"user-{str(user_id)[:8]}"
    assert await name_of(owner, other_id) is None


# Names


@pytest.mark.parametrize("name", ["Zoë 🎟 Ⅳ", "x" * 200, "'; drop table users; --"])
async def test_a_new_user_takes_the_name_of_the_token(http: httpx.AsyncClient, owner: asyncpg.Pool, name: str) -> None:
    """A new user gets the token's name verbatim, and a name that is taken gets a suffix."""
    await owner.execute("update inventory.users set username = id::text where username = $1", name)
    users = [uuid4(), uuid4()]
    for user_id in users:
        response = await http.get("/purchases/me", headers=bearer(token(RSA, user_id, preferred_username=name)))
        assert_success(response, "purchases")
    first, second = [await name_of(owner, user_id) for user_id in users]
    assert first == name
    assert second is not None
    assert second != name
    assert second.startswith(name[:150])


async def test_a_rename_at_the_identity_provider_arrives(http: httpx.AsyncClient, owner: asyncpg.Pool) -> None:
    """A token with another name renames the user, also back. One without a name, or with a bad one, changes nothing."""
    user_id = uuid4()
    maiden, married = f"anna {user_id}", f"anna-maria {user_id}"
    for name in (maiden, married, maiden):
        for given in ({"preferred_username": name}, {}, {"preferred_username": "a\nb"}):
            assert_success(await http.get("/purchases/me", headers=bearer(token(RSA, user_id, **given))), "purchases")

            async def is_renamed(name: str = name) -> bool:
                return await name_of(owner, user_id) == name

            await eventually(is_renamed)


@pytest.mark.parametrize("path", ["/reservations/{}", "/reservations/{}/history", "/purchases/{}"])
async def test_a_rename_arrives_with_the_reading_of_one_row(http: httpx.AsyncClient, owner: asyncpg.Pool, path: str) -> None:
    """So it does with a request for one reservation or purchase, whether that is found or not."""
    user_id = uuid4()
    assert_success(await http.get("/purchases/me", headers=bearer(token(RSA, user_id))), "purchases")
    name = f"anna {user_id}"
    read = await http.get(path.format(NOBODY), headers=bearer(token(RSA, user_id, preferred_username=name)))
    assert read.status_code == 404

    async def is_renamed() -> bool:
        return await name_of(owner, user_id) == name

    await eventually(is_renamed)


@pytest.mark.parametrize(
    "name",
    ["", " ", "\u2003", "x" * 201, "a\nb", "a\x85b", "\x00", "\ud800", 7, True, ["anna"], {"a": 1}],
    ids=["empty", "blank", "em space", "long", "newline", "next line", "nul", "surrogate", "number", "true", "list", "object"],
)
async def test_bad_names(http: httpx.AsyncClient, owner: asyncpg.Pool, name: Any) -> None:
    """A new user whose token has a bad name is served under another one, because the user cannot change the token."""
    user_id = uuid4()
    assert_success(await http.get("/purchases/me", headers=bearer(token(RSA, user_id, preferred_username=name))), "purchases")
    assert await name_of(owner, user_id) == f"user-{str(user_id)[:8]}"


# Roles


@pytest.mark.parametrize(
    "role",
    [None, "user", "Admin", "admin ", "admin user", "", [], ["Admin"], [["admin"]], ["admin", 1], {"admin": True}, True, 1],
    ids=str,
)
async def test_changing_drops_takes_the_role(http: httpx.AsyncClient, owner: asyncpg.Pool, role: Any) -> None:
    """Unless the claim `role` is or lists exactly `admin`, changing drops is 403 FORBIDDEN, and no drop is made or changed."""
    drop_id = await make_drop(http)
    count = await owner.fetchval("select count(*) from inventory.drops")
    headers = bearer(token(RSA, role=role))
    for response in (
        await http.post("/drops", json=DROP, headers=headers),
        await http.patch(f"/drops/{drop_id}", json={"name": "Stolen"}, headers=headers),
        await http.patch(f"/drops/{NOBODY}", json={"name": "Stolen"}, headers=headers),
    ):
        assert "role: admin" in assert_error(response, 403, "FORBIDDEN")
        assert response.headers.get_list("www-authenticate") == [NOT_ADMIN]
    assert await owner.fetchval("select count(*) from inventory.drops") == count
    assert assert_success(await http.get(f"/drops/{drop_id}"), "drop")["name"] == DROP["name"]


async def test_a_draft_is_hidden_but_not_behind_a_dead_token(http: httpx.AsyncClient) -> None:
    """A draft is 404 to the public and to a plain user; a token that is refused is told so."""
    draft = assert_success(
        await http.post("/drops", json=DROP | {"status": "draft"}, headers=bearer(token(RSA, role="admin"))), "drop", 201
    )
    path = f"/drops/{draft['id']}"
    assert_success(await http.get(path, headers=bearer(token(RSA, role="admin"))), "drop")
    for headers in ({}, bearer(token(RSA))):
        assert_error(await http.get(path, headers=headers), 404, "DROP_NOT_FOUND")
    for dead in (bearer(token(RSA, role="admin", exp=1)), {"Authorization": "Basic x"}):
        assert_error(await http.get(path, headers=dead), 401, "AUTH_REQUIRED")


async def test_an_admin(http: httpx.AsyncClient, owner: asyncpg.Pool) -> None:
    """An admin creates drops, as a user who is made for it, and changes them."""
    user_id = uuid4()
    headers = bearer(token(RSA, user_id, role="admin", preferred_username=f"boss-{user_id}"))
    drop = assert_success(await http.post("/drops", json=DROP, headers=headers), "drop", 201)
    assert drop["created_by"] == str(user_id)
    assert await name_of(owner, user_id) == f"boss-{user_id}"
    response = await http.patch(f"/drops/{drop['id']}", json={"name": "Air Two"}, headers=headers)
    assert assert_success(response, "drop")["name"] == "Air Two"


ROLE_CLAIMS: list[tuple[str, dict[str, Any], bool]] = [
    ("role", {"role": "admin"}, True),
    ("role", {"role": ["buyer", "admin"]}, True),
    ("realm_access.roles", {"realm_access": {"roles": ["offline_access", "admin"]}}, True),
    ("realm_access.roles", {"role": "admin", "realm_access": {"roles": ["offline_access"]}}, False),
    ("realm_access.roles", {"roles": ["admin"]}, False),
    ("realm_access.roles", {"realm_access": ["admin"]}, False),
    ("realm_access.roles", {"realm_access": {"roles": {"roles": "admin"}}}, False),
    ("resource_access.shop.example.roles", {"resource_access": {"shop.example": {"roles": ["admin"]}}}, True),
    ("app_metadata.role", {"role": "authenticated", "app_metadata": {"role": "admin"}}, True),
    ("app_metadata.role", {"user_metadata": {"role": "admin"}, "app_metadata": {}}, False),
    ("https://lastpair.example/roles", {"https://lastpair.example/roles": ["admin"]}, True),
    ("https://lastpair.example/roles", {"https://lastpair": {"example/roles": ["admin"]}}, True),
    ("https://lastpair.example/app.role", {"https://lastpair.example/app": {"role": "admin"}}, True),
    ("a.b", {"a.b": "buyer", "a": {"b": "admin"}}, False),  # the exact name decides
    ("a.b", {"a.b": None, "a": {"b": "admin"}}, False),
    ("a.b", {"a.b": "admin", "a": {"b": "buyer"}}, True),
    ("a.b", {"a": "admin"}, False),
    ("a.b", {"b": "admin"}, False),
    (".", {"role": "admin"}, False),
    ("a.__class__", {"a": {}}, False),
]


@pytest.mark.parametrize(("name", "given", "is_admin"), ROLE_CLAIMS, ids=str)
async def test_the_name_of_the_role_claim(database: Database, name: str, given: dict[str, Any], is_admin: bool) -> None:
    """JWT_ROLE_CLAIM names the claim, or the path to it, and no other claim makes an admin."""
    environment = COMMON | ENVIRONMENTS["HS256"] | {"JWT_ROLE_CLAIM": name}
    async with client_with(database, environment) as http:
        response = await http.post("/drops", json=DROP, headers=bearer(forged({"alg": "HS256"}, claims() | given, SECRET)))
        if is_admin:
            assert_success(response, "drop", 201)
        else:
            assert f"the claim {name}: admin" in assert_error(response, 403, "FORBIDDEN")


NAME_CLAIMS: list[tuple[str, dict[str, Any], bool]] = [
    ("preferred_username", {"preferred_username": "NAME"}, True),
    ("name", {"preferred_username": "another", "name": "NAME"}, True),
    ("profile.nick", {"profile": {"nick": "NAME"}}, True),
    ("https://shop.example/name", {"https://shop.example/name": "NAME"}, True),
    ("profile.nick", {"preferred_username": "NAME"}, False),
    ("profile.nick", {"profile": "NAME"}, False),
    ("name", {"name": ["NAME"]}, False),
]


@pytest.mark.parametrize(("claim", "given", "is_taken"), NAME_CLAIMS, ids=str)
async def test_the_name_claim(database: Database, owner: asyncpg.Pool, claim: str, given: dict[str, Any], is_taken: bool) -> None:
    """JWT_NAME_CLAIM names the claim, or the path to it, that holds the name of a new user."""
    user_id, name = uuid4(), uuid4().hex
    named = json.loads(json.dumps(given).replace("NAME", name))
    async with client_with(database, COMMON | ENVIRONMENTS["HS256"] | {"JWT_NAME_CLAIM": claim}) as http:
        headers = bearer(forged({"alg": "HS256"}, claims() | {"sub": str(user_id)} | named, SECRET))
        assert_success(await http.get("/purchases/me", headers=headers), "purchases")
    assert await name_of(owner, user_id) == (name if is_taken else f"user-{str(user_id)[:8]}")


# Subjects that are no UUID


SUBJECTS = [
    *["auth0|5f7c8ec7c33c6c004bbafe82", "google-oauth2|103547991597142817347", "103547991597142817347", "00u1a2b3c4D5e6F7g8h9"],
    *["user_2abcDEF", "samlp|adfs|jörg@shop.example", "a", "x" * 255, "🎟" * 255, " anna", "' or 1=1 --"],
]


@pytest.mark.parametrize("subject", SUBJECTS)
async def test_other_subjects(http: httpx.AsyncClient, owner: asyncpg.Pool, subject: str) -> None:
    """A subject that is no UUID becomes a UUIDv5 of issuer and subject: a user who buys like any other."""
    user_id = uuid5(uuid5(NAMESPACE_URL, ISSUER), subject)
    drop_id = await make_drop(http)
    name = f"buyer {uuid4()}"
    for role in ("user", "admin"):  # another token of the same user
        headers = bearer(token(RSA, subject, role=role, preferred_username=name))
        response = await http.post(f"/drops/{drop_id}/reserve", headers=headers)
        if role == "user":
            assert assert_success(response, "reservation", 201)["user_id"] == str(user_id)
        else:
            assert_error(response, 409, "ALREADY_RESERVED")
    assert await name_of(owner, user_id) == name


async def test_a_user_has_the_same_id_in_every_process(database: Database, production: Service, http: httpx.AsyncClient) -> None:
    """The id is of the issuer and the subject alone. Another issuer's user is another one; a UUID is itself with any issuer."""
    drop_id = await make_drop(http)
    subject, known = f"auth0|{uuid4().hex}", uuid4()
    ids: list[str] = []
    for issuer in (ISSUER, ISSUER, ISSUER + "/"):
        async with client_with(database, COMMON | ENVIRONMENTS["RS256"] | {"JWT_ISSUER": issuer}) as other:
            for sub in (subject, str(known).upper()):
                headers = bearer(token(RSA, sub, iss=issuer))
                await other.post(f"/drops/{drop_id}/reserve", headers=headers)
                [held] = assert_success(await other.get("/reservations/me", headers=headers), "reservations")
                ids.append(held["user_id"])
    assert ids[0] == ids[2] != ids[4]
    assert {*ids[1::2]} == {str(known)}


async def test_issuer_and_subject_cannot_be_mistaken_for_one_another(database: Database) -> None:
    """The same letters, divided in another way between issuer and subject, are another user."""
    ids = set()
    for issuer, subject in (("https://a.example", "/b|c"), ("https://a.example/", "b|c"), ("https://a.example/b", "|c")):
        async with client_with(database, COMMON | ENVIRONMENTS["HS256"] | {"JWT_ISSUER": issuer}) as http:
            made = await http.post("/drops", json=DROP, headers=bearer(token(SECRET, subject, iss=issuer, role="admin")))
            ids.add(assert_success(made, "drop", 201)["created_by"])
    assert len(ids) == 3


async def test_a_claim_that_is_given_twice(http: httpx.AsyncClient, owner: asyncpg.Pool) -> None:
    """If a claim is there twice, every check takes the last one (RFC 7519)."""
    first, last = uuid4(), uuid4()
    payload = json.dumps(claims(first))[:-1] + f', "sub": "{last}"}}'
    response = await http.get("/purchases/me", headers=bearer(forged(GOOD_HEADER, payload.encode(), RSA)))
    assert_success(response, "purchases")
    assert (await name_of(owner, first), await name_of(owner, last)) == (None, f"user-{str(last)[:8]}")


async def test_what_needs_no_token(http: httpx.AsyncClient, production: Service) -> None:
    """A request that needs no token is not refused for a bad one."""
    drop_id = await make_drop(http)
    for headers in ({}, bearer("x"), {"Authorization": "Basic YTpi"}):
        assert_success(await http.get("/drops", headers=headers), "drops")
        assert_success(await http.get(f"/drops/{drop_id}", headers=headers), "drop")
        assert (await http.get(f"{production.url}/readyz", headers=headers)).status_code == 200


# Attacks


def tampered(name: str, value: Any) -> str:
    """A good token with one claim replaced and the old signature."""
    header, payload, signature = token(RSA).split(".")
    changed = jwt.decode(f"{header}.{payload}.{signature}", options={"verify_signature": False}) | {name: value}
    return f"{header}.{base64url_encode(json.dumps(changed).encode()).decode()}.{signature}"


def signed(**changes: Any) -> Callable[[], str]:
    """A token that the issuer signed, with these claims changed; an ellipsis stands for null."""
    nulls = {name: None for name, value in changes.items() if value is ...}
    return lambda: forged(GOOD_HEADER, claims(**(changes | nulls)) | nulls, RSA)


def without(name: str) -> Callable[[], str]:
    """A token that the issuer signed, without this claim."""
    return signed(**{name: None})


def written(header: bytes | None = None, payload: bytes | None = None) -> Callable[[], str]:
    """A token that the issuer signed, with any bytes as its header or payload."""
    return lambda: forged(GOOD_HEADER if header is None else header, claims() if payload is None else payload, RSA)


def headed(key: PrivateKey | str | None = RSA, **fields: Any) -> Callable[[], str]:
    """A token signed with this key, with these fields of the header added or changed."""
    return lambda: forged(GOOD_HEADER | fields, claims(role="admin"), key)


def altered(alter: Callable[[str], str]) -> Callable[[], str]:
    """A good token, altered."""
    return lambda: alter(token(RSA))


ID, HUGE = "0190b6c5-7d3e-7abc-9def-0123456789ab", b"9" * 5000
NOT_JSON = [b"", b"{", b"[]", b"null", b"7", b'"x"', b"NaN", b"\xff", b"\x00", HUGE, b"{" * 3000, b"[" * 3000, b'{"a":' * 2000]
NO_ALGORITHM = ["none", "None", "nOnE", "", None, 5, ["RS256"], {"RS256": 1}, "rs256", "RS256\0"]
OTHER_ALGORITHMS = ["RS384", "RS512", "PS256", "ES256", "EdDSA", "HS256"]
OTHER_AUDIENCES = ["https://other.example", [AUDIENCE, 7], 7, {AUDIENCE: 1}, AUDIENCE + "/", AUDIENCE.upper()]
OTHER_AUDIENCES += [["https://other.example"]]
OTHER_ISSUERS = ["https://other.example", "", ISSUER + "/", [ISSUER], 7]
NO_TIMES = ["soon", [1], {}, float("inf"), float("nan")]
NO_SUBJECTS = [
    *["", " ", "\u2003", 7, 0, True, [ID], ["anna"], {"id": ID}, f"{ID}\n", "a\nb", "\x00", "anna\x7f", "a\x85b", "a\u2028b"],
    *["\ud800", "x" * 256, "🎟" * 256],
]
BAD_TYPES = [
    *["dpop+jwt", "logout+jwt", "secevent+jwt", "token-introspection+jwt", "oauth-authz-req+jwt", "id_token", "ID", "refresh"],
    *["", " ", "JWT ", " JWT", "at+jwt;x=1", "at +jwt", "jwt+at", "x/at+jwt", "application/application/jwt", "ﬀ", "JWT\0", "JWS"],
    *["JOSE", "application/", 7, True, [], ["JWT"], {}, {"typ": "JWT"}],
]
OTHER_KINDS: list[dict[str, Any]] = [
    {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}},
    {"events": {}},
    *[{"typ": typ} for typ in ("ID", "Refresh", "Offline", "Logout", "refresh", "id", "LOGOUT")],  # Keycloak's, in any case
    *[{"token_type": kind} for kind in ("refresh", "Refresh", "refresh_token", "id_token")],  # Simple JWT's
    *[{"type": kind} for kind in ("refresh", "REFRESH", "offline", "refreshToken")],  # Flask-JWT-Extended's
    *[{"token_use": use} for use in ("id", "ID", "refresh", "logout-token")],  # Cognito's
    {"typ": "Bearer", "token_use": "id"},
    {"token_type": "urn:ietf:params:oauth:token-type:id_token"},
]
WHAT_IS_WRONG: dict[str, tuple[Callable[[], str], str]] = {
    # The signature
    **{f"alg {name!r}, unsigned": (headed(None, alg=name), ALGORITHM) for name in NO_ALGORITHM},
    **{f"alg {name!r}": (headed(alg=name), ALGORITHM) for name in [*NO_ALGORITHM, *OTHER_ALGORITHMS]},
    "no alg": (written(header=b'{"typ":"JWT"}'), ALGORITHM),
    "the public key as the secret": (headed(public_pem(RSA), alg="HS256"), ALGORITHM),
    "the same without its last newline": (headed(public_pem(RSA).strip(), alg="HS256"), ALGORITHM),
    "another key": (headed(OTHER_RSA), SIGNATURE),
    "no signature": (headed(None), SIGNATURE),
    "another token's signature": (altered(lambda good: f"{good.rpartition('.')[0]}.{token(RSA).rpartition('.')[2]}"), SIGNATURE),
    "another subject": (lambda: tampered("sub", ID), SIGNATURE),
    "a role": (lambda: tampered("role", "admin"), SIGNATURE),
    "later expiry": (lambda: tampered("exp", 2**40), SIGNATURE),
    # Where the header says the key is
    "jku": (headed(OTHER_RSA, jku="https://attacker.example/jwks.json"), SIGNATURE),
    "x5u": (headed(OTHER_RSA, x5u="https://attacker.example/certificate.pem"), SIGNATURE),
    "x5c": (headed(OTHER_RSA, x5c=["MIIB"]), SIGNATURE),
    "jwk": (headed(OTHER_RSA, jwk=public_jwk(OTHER_RSA)), SIGNATURE),
    "kid a path": (headed(OTHER_RSA, kid="../../../../dev/null"), SIGNATURE),
    "kid SQL": (headed(OTHER_RSA, kid="x' union select 'secret' --"), SIGNATURE),
    "kid a command": (headed(OTHER_RSA, kid="|/usr/bin/id"), SIGNATURE),
    **{f"kid {value}": (headed(kid=value), HEADER) for value in [1, None, ["a"], {}]},
    **{f"crit {value}": (headed(crit=value, exp=1), HEADER) for value in [["exp"], ["b64"], [], "b64", [7], None, {}]},
    "b64": (headed(b64=False, crit=["b64"]), FORM),
    "b64, empty": (lambda: forged(GOOD_HEADER | {"b64": False, "crit": ["b64"]}, b"", RSA), FORM),
    "b64, not critical": (lambda: forged(GOOD_HEADER | {"b64": False}, b"", RSA), HEADER),
    # The kind
    **{f"typ {typ!r}": (headed(typ=typ), KIND) for typ in BAD_TYPES},
    "typ null": (lambda: forged(GOOD_HEADER | {"typ": None}, claims(), RSA), KIND),
    "typ twice": (written(header=b'{"alg": "RS256", "typ": "JWT", "typ": "logout+jwt"}'), KIND),
    **{f"cty {cty!r}": (headed(cty=cty), KIND) for cty in ["JWT", "jwt", "application/JWT", None, 7, ["JWT"]]},
    **{f"claims {kind}": (signed(**kind), KIND) for kind in OTHER_KINDS},
    "a token within": (lambda: forged(GOOD_HEADER | {"cty": "JWT"}, token(RSA).encode(), RSA), FORM),
    "a compressed payload": (lambda: forged(GOOD_HEADER | {"zip": "DEF"}, compress(json.dumps(claims()).encode()), RSA), FORM),
    # Claims
    **{f"expired at {value}": (signed(exp=value), "has expired") for value in [1, 0, -1, True, 1.5, "1"]},
    "not valid yet": (signed(nbf=2**40), "not valid yet"),
    "made in the future": (signed(iat=2**40), "not valid yet"),
    **{f"{name} {value!r}": (signed(**{name: value}), FORM) for name in ["exp", "nbf", "iat"] for value in NO_TIMES},
    "exp of 5000 digits": (written(payload=b'{"exp": %b}' % HUGE), FORM),
    "exp 1e400": (written(payload=json.dumps(claims(exp=-0.5)).replace("-0.5", "1e400").encode()), FORM),
    "jti 7": (signed(jti=7), FORM),
    **{f"no {name}": (without(name), CLAIMS) for name in ["exp", "aud", "iss", "sub"]},
    **{f"{name} null": (signed(**{name: ...}), CLAIMS) for name in ["exp", "aud", "iss", "sub"]},
    **{f"aud {value!r}": (signed(aud=value), CLAIMS) for value in ["", [], {}]},
    **{f"aud {value!r}": (signed(aud=value), "(aud)") for value in OTHER_AUDIENCES},
    **{f"iss {value!r}": (signed(iss=value), "(iss)") for value in OTHER_ISSUERS},
    **{f"sub {value!r}": (signed(sub=value), SUBJECT) for value in NO_SUBJECTS},
    # The form
    **{text: (lambda text=text: text, FORM) for text in ["token", ".", "..", "...", "{}.{}.{}", "null"]},
    **{f"header {text!r:.20}": (written(header=text), FORM) for text in NOT_JSON},
    **{f"payload {text!r:.20}": (written(payload=text), FORM) for text in NOT_JSON},
    "truncated": (altered(lambda good: good[:-42]), SIGNATURE),
    "last letter missing": (altered(lambda good: good[:-1]), FORM),
    "header alone": (altered(lambda good: good.partition(".")[0]), FORM),
    "two parts": (altered(lambda good: good.rpartition(".")[0]), FORM),
    "four parts": (altered(lambda good: f"{good}.AAAA"), FORM),
    "five parts": (lambda: "eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..AAAA.AAAA.AAAA", FORM),
    "quoted": (altered(lambda good: f'"{good}"'), FORM),
    "two tokens": (altered(lambda good: f"{good} {good}"), FORM),
    "a comma": (altered(lambda good: f"{good},"), FORM),
    "percent-encoded": (altered(lambda good: good.replace(".", "%2E")), FORM),
    "another base64": (altered(lambda good: good.replace(".", "+/.", 1)), FORM),
    # The size
    "11,000 brackets in the header": (written(header=b"[" * 11_000), FORM),
    "11,000 brackets in the payload": (written(payload=b"[" * 11_000), FORM),
    "15,000 brackets in the header": (written(header=b"[" * 15_000), "must not have more than"),
    "15,000 brackets in the payload": (written(payload=b"[" * 15_000), "must not have more than"),
    "one letter too many": (lambda: "x" * (MAX_TOKEN_LENGTH + 1), "must not have more than"),
    "none too many": (lambda: "x" * MAX_TOKEN_LENGTH, FORM),
}


@pytest.mark.parametrize("what", WHAT_IS_WRONG)
async def test_attacks(http: httpx.AsyncClient, owner: asyncpg.Pool, what: str) -> None:
    """A forged, expired, malformed or foreign token is 401 with the reason, and makes no user."""
    make, reason = WHAT_IS_WRONG[what]
    count = await owner.fetchval("select count(*) from inventory.users")
    assert_refused(await http.get("/purchases/me", headers=bearer(make())), reason)
    assert await owner.fetchval("select count(*) from inventory.users") == count


@pytest.mark.parametrize("make", [written(header=b"[" * 30_000), written(payload=b"[" * 30_000)], ids=["header", "payload"])
async def test_more_than_headers_may_have(http: httpx.AsyncClient, make: Callable[[], str]) -> None:
    """A token that makes the headers too large is 400, before any token is looked for."""
    response = await http.get("/purchases/me", headers=bearer(make()))
    assert assert_error(response, 400, "VALIDATION_ERROR").startswith("headers: ")
    assert "W1tb" not in response.text


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        *[
            (value, "must be Bearer and a token")
            for value in (
                *[b"", b"Bearer", b"Basic dXNlcjpwYXNzd29yZA==", b"Token eyJhbGciOiJub25lIn0.e30.", b"eyJhbGciOiJub25lIn0.e30."],
                *[b"Bearer:eyJhbGciOiJub25lIn0.e30.", b"Bearer\teyJhbGciOiJub25lIn0.e30."],
                b"B\xc3\xa9arer eyJhbGciOiJub25lIn0.e30.",
            )
        ],
        ("Bearer schlüssel.schlüssel.schlüssel".encode(), FORM),
        (b"Bearer \xff\xfe.\xff.\xff", FORM),
    ],
    ids=repr,
)
async def test_other_headers(http: httpx.AsyncClient, value: bytes, reason: str) -> None:
    """Another scheme, none, no token or other letters are refused."""
    response = await http.get("/purchases/me", headers=[(b"Authorization", value)])
    assert_refused(response, reason, BAD_TOKEN if reason == FORM else CHALLENGE)


async def test_two_headers(http: httpx.AsyncClient) -> None:
    """Two Authorization headers are refused, because a proxy may have looked at the one and this server at the other."""
    good = ("Authorization", f"Bearer {token(RSA)}")
    for headers in ([good, ("Authorization", "Bearer x")], [("Authorization", "Bearer x"), good], [good, good]):
        assert_refused(await http.get("/purchases/me", headers=headers), "must not be sent twice", CHALLENGE)


async def test_tokens_elsewhere(http: httpx.AsyncClient) -> None:
    """A token in a cookie counts as none, because browsers send cookies by themselves; one in the query is refused."""
    given = token(RSA)
    for name in ("access_token", "token"):
        assert_refused(
            await http.get("/purchases/me", headers={"Cookie": f"{name}={given}"}), "send Bearer and a token", CHALLENGE
        )
        assert_invalid(await http.get("/purchases/me", params={name: given}), name)


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_every_endpoint_looks_at_the_token(http: httpx.AsyncClient, owner: asyncpg.Pool, method: str, path: str) -> None:
    """Without a token, or with another key's signature, every endpoint of a user is 401 and not 403; a new user is served.

    Other headers are looked at later.
    """
    body, user_id = BODIES.get(path), uuid4()
    nameless = await http.request(method, path, json=body, headers={"If-Match": "no ETag"})
    assert_refused(nameless, "send Bearer and a token", CHALLENGE)
    for key, is_good in ((OTHER_RSA, False), (RSA, True)):
        response = await http.request(method, path, json=body, headers=bearer(token(key, user_id, role="admin")))
        if is_good:
            assert response.status_code in (200, 201, 404), response.text
        else:
            assert_refused(response, SIGNATURE)
    assert method == "PATCH" or await name_of(owner, user_id) is not None


async def test_a_reservation_of_another(http: httpx.AsyncClient, owner: asyncpg.Pool) -> None:
    """Another user's reservation cannot be cancelled, bought or seen, not even by an admin."""
    drop_id, mine, other = await make_drop(http), bearer(token(RSA)), bearer(token(RSA, role="admin"))
    reservation = assert_success(await http.post(f"/drops/{drop_id}/reserve", headers=mine), "reservation", 201)
    for path in (f"/reservations/{reservation['id']}", f"/reservations/{reservation['id']}/cancel"):
        there = assert_error(await http.delete(path, headers=other), 404, "RESERVATION_NOT_FOUND")
        nowhere = assert_error(await http.delete(f"/reservations/{uuid4()}", headers=other), 404, "RESERVATION_NOT_FOUND")
        assert there == nowhere
    assert_error(await http.post(f"/drops/{drop_id}/purchase", headers=other), 409, "NO_ACTIVE_RESERVATION")
    assert assert_success(await http.get("/reservations/me", headers=other), "reservations") == []
    assert assert_success(await http.get("/reservations/me", headers=mine), "reservations") == [reservation]


# Production


async def test_production_has_no_development_helpers(http: httpx.AsyncClient, production: Service) -> None:
    """Production has no internal endpoints, not even for an admin, and its page has no tools."""
    admin = bearer(token(RSA, role="admin")) | JSON
    for base in ("", "/v1"):
        for name in ("users", "expire-now"):
            for method, content in (("GET", None), ("POST", None), ("POST", '{"username": "eve"}')):
                response = await http.request(method, f"{base}/internal/{name}", content=content, headers=admin)
                assert_error(response, 404, "NOT_FOUND")
    settings = (await http.get(f"{production.url}/dashboard/settings.json")).json()
    assert settings["development"] is False
    assert (await http.get(f"{production.url}/")).status_code == 200


async def test_the_log(http: httpx.AsyncClient, production: Service, sent: set[str]) -> None:
    """The log has a line for each request, with the user if the token is good; the fixture looks for tokens in it.

    A token in a query is refused. Neither the answer nor the log repeats it.
    """
    good, bad = uuid4(), uuid4()
    for request_id, given in (("log-good", token(RSA, good)), ("log-bad", token(OTHER_RSA, bad))):
        await http.get("/purchases/me", headers=bearer(given) | {"X-Request-Id": request_id})
    sent.add(given := token(RSA))
    answer = await http.get(
        "/purchases/me", params={"access_token": given}, headers=bearer(given) | {"X-Request-Id": "log-query"}
    )
    assert given not in assert_invalid(answer, "access_token")
    url = f"{production.url.replace('http', 'ws')}/api/ws?access_token={given}"
    with pytest.raises(InvalidStatus) as refused:
        await websockets.connect(url, additional_headers=bearer(given))
    assert refused.value.response.status_code == 400
    lines = [json.loads(line) for line in production.log().splitlines() if "log-" in line]
    told = [(line["requestId"], line["status"], line["outcome"], line["userId"]) for line in lines]
    assert told == [
        ("log-good", 200, "OK", str(good)),
        ("log-bad", 401, "AUTH_REQUIRED", None),
        ("log-query", 400, "VALIDATION_ERROR", None),
    ]


async def test_header_mode_reads_no_tokens(database: Database) -> None:
    """AUTH_MODE=header decides, whatever else is set: X-User-Id counts and a token does not."""
    async with client_with(database, {"JWT_SECRET": SECRET, "EXPIRY_POLL_MS": "3600000"}) as http:
        assert_error(await http.get("/purchases/me", headers=bearer(token(SECRET))), 401, "AUTH_REQUIRED")
        user_id = str(uuid4())
        drop = assert_success(await http.post("/drops", json=DROP, headers=as_user(user_id)), "drop", 201)
        assert drop["created_by"] == user_id
