"""The settings: defaults, what each accepts, and the one line that names the variable when it is wrong."""

import socket
import subprocess
from argparse import Namespace
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import SecretStr

from lastpair import cli as commands
from lastpair.settings import InvalidSettings, Settings, is_host, load_settings
from tests.support.commands import lastpair
from tests.support.servers import ROOT
from tests.support.tokens import SECRET, ec_key, private_pem, public_pem, rsa_key

URL = "postgresql://lastpair:secret@db.example:5432/lastpair"
DEFAULTS: dict[str, Any] = {
    "APP_ENV": "development",
    "PORT": 4000,
    "DATABASE_URL": None,
    "DATABASE_DIRECT_URL": None,
    "MIGRATION_DATABASE_URL": None,
    "DATABASE_POOL_SIZE": 10,
    "DATA_DIR": Path(".data"),
    "CORS_ORIGINS": [],
    "FRAME_ANCESTORS": [],
    "RESERVATION_TTL_SECONDS": 60,
    "DEFAULT_CURRENCY": "USD",
    "EXPIRY_POLL_MS": 2000,
    "TICK_MS": 20,
    "LOG_LEVEL": "info",
    "AUTH_MODE": "header",
    "JWT_SECRET": None,
    "JWT_PUBLIC_KEY": None,
    "JWT_JWKS_URL": None,
    "JWT_AUDIENCE": None,
    "JWT_ISSUER": None,
    "JWT_ROLE_CLAIM": "role",
    "WEB_CONCURRENCY": 1,
}
RSA_KEY = rsa_key()
PUBLIC_KEY = public_pem(ec_key())
JWKS_URL = "https://issuer.example/realms/shop/protocol/openid-connect/certs"
GOOD: list[tuple[str, str, Any]] = [
    ("APP_ENV", "development", "development"),
    ("PORT", "1", 1),
    ("PORT", "65535", 65535),
    ("DATABASE_URL", URL, URL),
    ("DATABASE_URL", "postgres://localhost/lastpair", "postgres://localhost/lastpair"),
    (
        "DATABASE_URL",
        "postgresql://lastpair@/lastpair?host=/run/postgresql",
        "postgresql://lastpair@/lastpair?host=/run/postgresql",
    ),
    ("DATABASE_DIRECT_URL", URL, URL),
    ("DATABASE_POOL_SIZE", "1", 1),
    ("DATABASE_POOL_SIZE", "100", 100),
    ("DATA_DIR", "/var/lib/lastpair", Path("/var/lib/lastpair")),
    ("CORS_ORIGINS", "*", ["*"]),
    ("FRAME_ANCESTORS", " https://shop.example , http://localhost:3000,", ["https://shop.example", "http://localhost:3000"]),
    ("CORS_ORIGINS", "http://localhost:3000", ["http://localhost:3000"]),
    ("CORS_ORIGINS", " http://a.example , https://b.example:8443,", ["http://a.example", "https://b.example:8443"]),
    *(
        ("CORS_ORIGINS", origin, [origin])
        for origin in [
            *[
                "https://xn--shp-hoa.example",
                "http://[::1]:5173",
                "https://10.0.0.1",
                "http://shop_1.example",
                "https://a-b.example.",
            ],
            *["http://x:443", "https://x:80", "https://x:65535", "http://[2001:db8::1]", "https://4you.example"],
            *["capacitor://localhost", "ionic://localhost", "tauri://localhost", "app://.", "app://-", "http+app://x"],
            *["chrome-extension://" + "abcdefgh" * 4, "moz-extension://2c127fa4-62c7-7e4f-90e5-472b45eecfdc"],
            "safari-web-extension://2C127FA4-62C7-7E4F-90E5-472B45EECFDC",
        ]
    ),
    ("HOST", "0.0.0.0", "0.0.0.0"),  # noqa: S104
    ("HOST", "::", "::"),
    ("HOST", "[::1]", "::1"),
    ("HOST", "fe80::1%eth0", "fe80::1%eth0"),
    ("HOST", "Node-1.internal", "Node-1.internal"),
    ("ADMIN_PORT", "9000", 9000),
    (
        "ALLOWED_HOSTS",
        "Drops.example.com, *.example.com,[fd00::1],10.0.0.1",
        ["drops.example.com", "*.example.com", "[fd00::1]", "10.0.0.1"],
    ),
    ("ALLOWED_HOSTS", "*", ["*"]),
    ("RATE_LIMIT_READS_PER_MINUTE", "600", 600),
    ("RATE_LIMIT_STREAMS_PER_MINUTE", "60", 60),
    ("DEFAULT_CURRENCY", "EUR", "EUR"),
    ("RESERVATION_TTL_SECONDS", "1", 1),
    ("RESERVATION_TTL_SECONDS", "86400", 86400),
    ("EXPIRY_POLL_MS", "100", 100),
    ("EXPIRY_POLL_MS", "3600000", 3600000),
    ("TICK_MS", "1", 1),
    ("TICK_MS", "1000", 1000),
    *(("LOG_LEVEL", level, level.lower()) for level in ["critical", "error", "warning", "info", "debug", "DEBUG", "Info"]),
    ("AUTH_MODE", "header", "header"),
    ("WEB_CONCURRENCY", "4", 4),
    ("JWT_SECRET", SECRET, SecretStr(SECRET)),
    ("JWT_SECRET", "ü" * 16, SecretStr("ü" * 16)),
    ("JWT_PUBLIC_KEY", PUBLIC_KEY, PUBLIC_KEY),
    ("JWT_PUBLIC_KEY", PUBLIC_KEY.replace("\n", "\\n"), PUBLIC_KEY),
    ("JWT_PUBLIC_KEY", public_pem(RSA_KEY).strip(), public_pem(RSA_KEY).strip()),
    ("JWT_JWKS_URL", JWKS_URL, JWKS_URL),
    *(
        ("JWT_JWKS_URL", url, url)
        for url in [
            "http://localhost:8080/jwks.json?tenant=7",
            "HTTPS://[2001:db8::1]:8443",
            "http://key_server/a@b:c",
            "https://h?x=/",
        ]
    ),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel_collector:4318", "http://otel_collector:4318"),
    *(("JWT_ROLE_CLAIM", name, name) for name in ["roles", "realm_access.roles", "https://lastpair.example/roles"]),
]
NOT_A_COUNT = ["0", "-1", "1.5", "many", "0x10", "1 2", "9" * 5000, "1e3", "true"]
TRICKS = [
    *[
        "https://user:hunter2@issuer.example/",
        "https://user@issuer.example/",
        "https://@issuer.example/",
        "https://:@issuer.example/",
    ],
    *[
        "https://localhost@evil.example/",
        "http://127.0.0.1@evil.example",
        "http://127.0.0.1:80@evil.example/",
        "http://[::1]@evil/",
    ],
    *[
        "http://localhost\\@evil.example/",
        "http:\\\\localhost\\",
        "https://evil.example\\.issuer.example/",
        "https:\\issuer.example",
    ],
    *["https://issuer.example/\x07", "https://issuer.example\t/", "ht\ntps://issuer.example/", "https://issuer.example/\r\nX:1"],
    *[
        "https://issüer.example/",
        "https://issuer.example/ü",
        "https://issuer。example/",
        "https://%6cocalhost/",
        "http://localhost%2eevil/",
    ],
    *[
        "https://issuer.example:/",
        "https://issuer.example:0/",
        "https://issuer.example:+1/",
        "https://a:1:2/",
        "https://issuer.example#@x/",
    ],
    *[
        "https://[::1/",
        "https://::1/",
        "https://[x]/",
        "https://[::1]x/",
        "https://[fe80::1%25eth0]/",
        "https://a,b/",
        "https://a b/",
        "//h/",
    ],
]
BAD = {
    "APP_ENV": ["staging", "Production", "dev", "1"],
    "PORT": ["-1", "65536", "http", "4000.5", "40 00", "9" * 5000],
    "DATABASE_URL": [
        *["lastpair", "localhost:5432", "mysql://u@localhost/db", "http://localhost", "postgresql+asyncpg://u@localhost/db"],
        *["postgresql://u@localhost:99999/db", "sqlite:///lastpair.db", "lastpair?host=/run/postgresql"],
    ],
    "MIGRATION_DATABASE_URL": ["lastpair", "mysql://u@localhost/db", "postgresql://u@h:0/db"],
    "DATABASE_DIRECT_URL": ["lastpair", "mysql://u@localhost/db", "lastpair?host=/run/postgresql"],
    "DATABASE_POOL_SIZE": NOT_A_COUNT,
    "RESERVATION_TTL_SECONDS": [*NOT_A_COUNT, "86401"],
    "EXPIRY_POLL_MS": [*NOT_A_COUNT, "3600001"],
    "TICK_MS": [*NOT_A_COUNT, "1001"],
    "LOG_LEVEL": ["loud", "warn ing", "20"],
    "AUTH_MODE": ["none", "Header", "trust"],
    "WEB_CONCURRENCY": [*NOT_A_COUNT, "100000"],
    "JWT_SECRET": [
        *["short", SECRET[:31], "ü" * 15, PUBLIC_KEY, private_pem(RSA_KEY), PUBLIC_KEY.strip(), f"\n{PUBLIC_KEY}"],
        *["ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ== me@example", '{"kty": "oct", "k": "YSBzZWNyZXQgb2YgdGhpcnR5LXR3byBieXRlcw"}'],
    ],
    "JWT_PUBLIC_KEY": [
        *["key", SECRET, private_pem(ec_key()), private_pem(RSA_KEY), public_pem(RSA_KEY)[:200], public_pem(rsa_key(1024))],
        *[public_pem(generate_private_key(SECP384R1())), public_pem(Ed25519PrivateKey.generate())],
        PUBLIC_KEY.replace("PUBLIC KEY", "CERTIFICATE"),
    ],
    "FRAME_ANCESTORS": [
        "*",
        "https://*.example",
        "https://shop.example/",
        "shop.example",
        "'self'",
        "https://a.example; img-src *",
    ],
    "CORS_ORIGINS": [
        *[
            "https://*.shop.example",
            "https://shop.example:443",
            "http://shop.example:80",
            "https://Shop.example",
            "HTTPS://shop.example",
        ],
        *[
            "https://shop.example/",
            "https://shop.example/path",
            "https://u:p@shop.example",
            "https://shop.example?q",
            "https://x#y",
        ],
        *["https://a b.example", "null", "shop.example", "ftp://shop.example", "file://", "https://", "https://shöp.example"],
        *["https://x:", "https://x:0", "https://x:080", "https://x:65536", "https://x:*", "http://127.1", "http://0x7f.0.0.1"],
        *["http://2130706433", "http://127.0.0.1.", "http://[0:0::1]", "http://[::1", "http://::1", "https://a..example"],
        *["**", "https://*", "https://a.example https://b.example", "https://a.example,https://b.example/", "x" * 5000],
        *["capacitor://", "capacitor://localhost/", "capacitor://localhost:80", "Capacitor://localhost"],
        *["tauri://*", "app://[::1]", "capacitor://u@localhost"],
        *["ws://x.example", "wss://x.example", "file://localhost", "1app://x", "app://a b", "capacitor:localhost"],
        *["https://[::FFFF]", "https://[::1%25eth0]", "https://a.example\nhttps://b.example"],
    ],
    "HOST": ["http://0.0.0.0", "0.0.0.0:4000", "localhost:4000", "[::1]:4000", "256.0.0.1", "a b", "*", "::g", "a/b", "1.2.3"],
    "ADMIN_PORT": ["0", "-1", "65536", "http", "4000"],
    "ALLOWED_HOSTS": [
        *[
            "https://drops.example.com",
            "drops.example.com:443",
            "*example.com",
            "drops.*.com",
            "a b",
            "**",
            "*.",
            "*.*",
            "::1",
            "[::1",
        ],
        *["drops.example.com/", "dröps.example.com", "drops.example.com.", "10.0.0", "[0::1]", "*.*", "::1", "[::1"],
    ],
    "RATE_LIMIT_READS_PER_MINUTE": ["-1", "many", "1000001"],
    "RATE_LIMIT_STREAMS_PER_MINUTE": ["-1", "many", "1000001"],
    "FORWARDED_ALLOW_IPS": ["hello", "10.0.0.0/33", "10.0.0.1,proxy", "10.0.0.1/8", "**"],
    "JWT_JWKS_URL": [
        *["issuer.example/jwks.json", "file:///etc/passwd", "ftp://issuer.example/", "https://", "https:///jwks.json", "http:/x"],
        *[
            "https://issuer.example:99999/",
            "https://issuer.example/jwks json",
            "https://is suer.example/",
            "data:application/json,{}",
        ],
        *TRICKS,
    ],
    "OTEL_EXPORTER_OTLP_ENDPOINT": ["collector:4318", "grpc://collector:4317", *TRICKS],
    "JWT_ROLE_CLAIM": [" ", "a role", "role\n", "role\t"],
}
LINES = {line for text in [*BAD["JWT_SECRET"], *BAD["JWT_PUBLIC_KEY"]] for line in text.splitlines()}
SECRETS = ["hunter2", "secret@", *(line for line in LINES if len(line) > 30 and not line.startswith("-"))]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no .env of the machine is seen; what a test sets is undone."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.setenv(name.upper(), "")
        monkeypatch.delenv(name.upper())


def assert_refused(result: subprocess.CompletedProcess[str], variable: str) -> str:
    """Exit code 1 and one line that begins with the variable; returns the line."""
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith(f"{variable}: "), result.stderr
    return result.stderr


def test_defaults() -> None:
    """Everything has one, and the table above misses nothing that this version knows."""
    settings = load_settings()
    known = {name: getattr(settings, name.lower()) for name in DEFAULTS}
    assert known == DEFAULTS
    assert settings.development
    assert settings.session_url is None


@pytest.mark.parametrize(("variable", "text", "value"), GOOD)
def test_good_values(monkeypatch: pytest.MonkeyPatch, variable: str, text: str, value: object) -> None:
    """Are read from the environment."""
    monkeypatch.setenv(variable, text)
    assert getattr(load_settings(), variable.lower()) == value


@pytest.mark.parametrize("variable", DEFAULTS)
def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """As .env.example has it."""
    monkeypatch.setenv(variable, "")
    assert getattr(load_settings(), variable.lower()) == DEFAULTS[variable]


@pytest.mark.parametrize(("variable", "text"), [(variable, text) for variable, texts in BAD.items() for text in texts])
def test_bad_values(monkeypatch: pytest.MonkeyPatch, variable: str, text: str) -> None:
    """One line that names the variable and a reason."""
    monkeypatch.setenv(variable, text)
    with pytest.raises(InvalidSettings) as refused:
        load_settings()
    message = str(refused.value)
    assert message.startswith(f"{variable}: ")
    assert "\n" not in message
    assert 10 < len(message) < 400
    assert not any(secret in message for secret in SECRETS)


@pytest.mark.parametrize("since_python_3_13", [False, True])
def test_an_ipv6_address_has_the_form_of_browsers(monkeypatch: pytest.MonkeyPatch, since_python_3_13: bool) -> None:
    """They write all of it in hexadecimal. Python does the same, but from 3.13 on not with a mapped IPv4 address."""
    text = IPv6Address.__str__

    def mixed(address: IPv6Address) -> str:
        return f"::ffff:{address.ipv4_mapped}" if address.ipv4_mapped else text(address)

    if since_python_3_13:
        monkeypatch.setattr(IPv6Address, "__str__", mixed)
    right = ["[::ffff:102:304]", "[::ffff:0:304]", "[::ffff:0:0]", "[::ffff:a0b:0]", "[::102:304]", "[::1]", "[64:ff9b::102:304]"]
    wrong = ["[::ffff:1.2.3.4]", "[::FFFF:102:304]", "[0:0:0:0:0:ffff:102:304]", "[::ffff:0102:304]", "[::1.2.3.4]"]
    assert [host for host in right if not is_host(host)] == []
    assert [host for host in wrong if is_host(host)] == []


def test_every_bad_value_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the one line."""
    for variable in BAD:
        monkeypatch.setenv(variable, BAD[variable][0])
    with pytest.raises(InvalidSettings) as refused:
        load_settings()
    assert all(f"{variable}: " in str(refused.value) for variable in BAD)


def test_dot_env_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment goes before it; what it holds for others is ignored."""
    lines = ["# mine", "RESERVATION_TTL_SECONDS=7", "export PORT=4001", "LOG_LEVEL=", "SOMETHING_ELSE=x", "DATA_DIR='a b'"]
    (tmp_path / ".env").write_text("\n".join(lines))
    monkeypatch.setenv("PORT", "4002")
    settings = load_settings()
    assert (settings.reservation_ttl_seconds, settings.port, settings.log_level) == (7, 4002, "info")
    assert settings.data_dir == Path("a b")


def test_the_example_can_be_copied(tmp_path: Path) -> None:
    """.env.example with every line uncommented is accepted, names only variables that exist and shows the defaults."""
    lines = [line.removeprefix("# ") for line in (ROOT / ".env.example").read_text().splitlines() if "=" in line]
    (tmp_path / ".env").write_text("\n".join(lines))
    settings = load_settings()
    examples = {"DATABASE_URL", "CORS_ORIGINS", "FRAME_ANCESTORS", "WEBHOOK_PRIVATE_TARGETS"}  # have no default to show
    assert {line.partition("=")[0].lower() for line in lines} == set(Settings.model_fields)
    for line in lines:
        name = line.partition("=")[0]
        assert name.lower() in Settings.model_fields
        assert name in examples or getattr(settings, name.lower()) == Settings.model_fields[name.lower()].default


def test_migrations_and_psql_go_past_the_pooler(monkeypatch: pytest.MonkeyPatch) -> None:
    """By DATABASE_DIRECT_URL when it is set."""
    monkeypatch.setenv("DATABASE_URL", URL)
    assert load_settings().session_url == URL
    monkeypatch.setenv("DATABASE_DIRECT_URL", URL + "_direct")
    assert load_settings().session_url == URL + "_direct"


async def knows_any_currency(_: str, __: str) -> None:
    """What `run` asks a database that is not there."""


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """`run` with neither a database nor a server: what it migrates and checks, where it listens, what the workers read."""
    seen: list[tuple[str, str | None]] = []

    async def migrate(url: str) -> None:
        seen.append(("migrate", url))

    async def may_migrate(_: str) -> bool:
        return False

    monkeypatch.setattr(commands, "deploy", migrate)

    async def first_missing_migration(url: str) -> None:
        seen.append(("check", url))

    monkeypatch.setattr(commands, "may_migrate", may_migrate)
    monkeypatch.setattr(commands, "check_currency", knows_any_currency)
    monkeypatch.setattr(commands, "first_missing_migration", first_missing_migration)

    def serve(_: Settings, listener: socket.socket) -> None:
        seen.append((listener.getsockname()[0], load_settings().database_url))

    monkeypatch.setattr(commands, "serve", serve)
    monkeypatch.setenv("PORT", "0")
    return seen


@pytest.mark.parametrize("where", ["environment", ".env"])
@pytest.mark.parametrize("owner", [{}, {"MIGRATION_DATABASE_URL": URL + "_owner"}])
def test_the_app_itself_goes_through_the_pooler(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, used: list[tuple[str, str | None]], where: str, owner: dict[str, str]
) -> None:
    """`run` migrates by MIGRATION_DATABASE_URL or else by DATABASE_DIRECT_URL, tries both others, and serves by DATABASE_URL."""
    variables = {"DATABASE_URL": URL, "DATABASE_DIRECT_URL": URL + "_direct"} | owner
    if where == ".env":
        (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    else:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
    commands.run(load_settings(), Namespace())
    migrated = owner.get("MIGRATION_DATABASE_URL", URL + "_direct")
    assert used == [("migrate", migrated), ("check", URL), ("check", URL + "_direct"), ("127.0.0.1", URL)]


@pytest.mark.parametrize(
    ("variable", "text"),
    [("PORT", "http"), ("DATABASE_URL", "mysql://u:hunter2@localhost/db")],
)
def test_a_bad_value_stops_the_start(variable: str, text: str) -> None:
    """The real command: one line on standard error, exit code 1, no password in it."""
    assert "hunter2" not in assert_refused(lastpair("run", **{variable: text}), variable)


@pytest.mark.parametrize(
    ("command", "url"),
    [
        ("run", "postgresql://u:hunter2@127.0.0.1:1/db"),
        ("run", "postgresql://u:hunter2@db.invalid/db"),
        ("run", "postgresql://u:hunter2@/db?host=/nowhere"),
        ("run", "postgresql://u:hunter2@127.0.0.1:1/db?sslmode=perhaps"),
        ("migrate", "postgresql://u:hunter2@127.0.0.1:1/db"),
    ],
    ids=["nobody listens", "no such host", "no such socket", "no such mode", "nobody to migrate"],
)
def test_a_database_that_cannot_be_used_stops_the_start(command: str, url: str) -> None:
    """The same."""
    assert "hunter2" not in assert_refused(lastpair(command, DATABASE_URL=url), "DATABASE_URL")


def test_a_folder_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    """The same, naming the variable to correct."""
    (tmp_path / "file").touch()
    assert_refused(lastpair("run", DATA_DIR=str(tmp_path / "file")), "DATA_DIR")


JWT = {"AUTH_MODE": "jwt", "JWT_SECRET": SECRET, "JWT_AUDIENCE": "shop", "JWT_ISSUER": "issuer"}
PRODUCTION = JWT | {"APP_ENV": "production", "DATABASE_URL": URL}


@pytest.mark.parametrize(
    ("variable", "changes"),
    [
        ("AUTH_MODE", {"JWT_SECRET": ""}),
        ("AUTH_MODE", {"JWT_PUBLIC_KEY": PUBLIC_KEY}),
        ("AUTH_MODE", {"JWT_JWKS_URL": JWKS_URL}),
        ("AUTH_MODE", {"JWT_SECRET": "", "JWT_JWKS_URL": JWKS_URL, "JWT_PUBLIC_KEY": PUBLIC_KEY}),
        ("AUTH_MODE", {"JWT_JWKS_URL": JWKS_URL, "JWT_PUBLIC_KEY": PUBLIC_KEY}),
        ("JWT_AUDIENCE", {"JWT_AUDIENCE": ""}),
        ("JWT_ISSUER", {"JWT_ISSUER": ""}),
        ("JWT_AUDIENCE", {"JWT_AUDIENCE": "", "JWT_ISSUER": ""}),
    ],
)
@pytest.mark.parametrize("app_env", ["development", "production"])
def test_settings_of_jwt(monkeypatch: pytest.MonkeyPatch, variable: str, changes: dict[str, str], app_env: str) -> None:
    """One key, an audience and an issuer; else one line that names what to set."""
    for name, value in (PRODUCTION | {"APP_ENV": app_env} | changes).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings, match=rf"^{variable}: .*set"):
        load_settings()


@pytest.mark.parametrize("quote", ['"', "'"])
def test_a_key_of_several_lines_in_dot_env(tmp_path: Path, quote: str) -> None:
    """In quotes, as it is, or with \\n on one line."""
    for text in (PUBLIC_KEY, PUBLIC_KEY.replace("\n", "\\n")):
        (tmp_path / ".env").write_text(f"JWT_PUBLIC_KEY={quote}{text}{quote}\nPORT=4001\n")
        settings = load_settings()
        assert settings.jwt_public_key == PUBLIC_KEY
        assert settings.port == 4001


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret is not shown when the settings are printed."""
    urls = dict.fromkeys(("DATABASE_URL", "DATABASE_DIRECT_URL", "MIGRATION_DATABASE_URL"), URL)
    urls |= {"JWT_JWKS_URL": "https://issuer.example/jwks?key=secret@"}
    for name, value in (urls | {"JWT_SECRET": SECRET}).items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.jwt_secret is not None
    for text in (repr(settings), str(settings), f"{settings.jwt_secret!r} {settings.jwt_secret}"):
        assert "secret@" not in text
        assert SECRET not in text


@pytest.mark.parametrize(
    ("url", "is_safe"),
    [
        *[(url, True) for url in ("https://issuer.example/", "http://localhost", "http://LOCALHOST:80/", "http://127.0.0.1/")],
        *[(url, True) for url in ("http://127.8.9.10:1/x", "http://[::1]", "http://[0:0::1]:80/", "HTTPS://issuer.example")],
        *[
            (url, False)
            for url in ("http://issuer.example/", "http://localhost.evil/", "http://127.0.0.1.evil/", "http://localhost./")
        ],
        *[
            (url, False)
            for url in ("http://127.1/", "http://2130706433/", "http://0x7f.0.0.1/", "http://127.0.0.256/", "http://0/")
        ],
        *[
            (url, False)
            for url in ("http://[::]/", "http://[::2]/", "http://10.0.0.1/", "http://mylocalhost/", "http://127-0-0-1/")
        ],
    ],
)
def test_keys_that_nobody_can_replace(monkeypatch: pytest.MonkeyPatch, url: str, is_safe: bool) -> None:
    """Production fetches keys over TLS, or without it from this machine; development from anywhere."""
    for name, value in (PRODUCTION | {"JWT_SECRET": "", "JWT_JWKS_URL": url}).items():
        monkeypatch.setenv(name, value)
    if is_safe:
        assert load_settings().jwt_jwks_url == url
    else:
        with pytest.raises(InvalidSettings, match=r"^JWT_JWKS_URL: over http:// a third party could replace the keys"):
            load_settings()
    monkeypatch.setenv("APP_ENV", "development")
    assert load_settings().jwt_jwks_url == url


@pytest.mark.parametrize(
    ("variable", "changes"),
    [
        ("DATABASE_URL", {"DATABASE_URL": ""}),
        ("AUTH_MODE", {"AUTH_MODE": "header"}),
        ("CORS_ORIGINS", {"CORS_ORIGINS": "https://shop.example, *"}),
        ("JWT_JWKS_URL", {"JWT_SECRET": "", "JWT_PUBLIC_KEY": "", "JWT_JWKS_URL": "http://issuer.example/jwks.json"}),
        ("JWT_JWKS_URL", {"JWT_SECRET": "", "JWT_PUBLIC_KEY": "", "JWT_JWKS_URL": "http://localhost.example/jwks.json"}),
        ("JWT_PUBLIC_KEY", {"JWT_SECRET": "", "JWT_PUBLIC_KEY": private_pem(RSA_KEY)}),
    ],
)
def test_production_refuses(variable: str, changes: dict[str, str]) -> None:
    """The real command, and it says why: an embedded database, a header that names any user, pages from anywhere."""
    line = assert_refused(lastpair("run", **(PRODUCTION | changes)), variable)
    assert not any(secret in line for secret in SECRETS)


def test_good_settings_of_production(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that the refusals above differ from."""
    for name, value in (PRODUCTION | {"CORS_ORIGINS": "https://shop.example"}).items():
        monkeypatch.setenv(name, value)
    assert not load_settings().development


def test_production_is_not_seeded() -> None:
    """It is a development convenience."""
    seeding = Settings.model_construct(app_env="production", database_url=URL)
    for reset in (False, True):
        with pytest.raises(InvalidSettings, match=r"^APP_ENV: "):
            commands.seed(seeding, Namespace(reset=reset))


def test_development_listens_to_this_machine_only(used: list[tuple[str, str | None]]) -> None:
    """A development server is open to this machine only, because any client may name any user there."""
    for app_env in ("development", "production"):
        commands.run(Settings.model_construct(app_env=app_env, database_url=URL, port=0), Namespace())
    assert [host for host, _ in used[2::3]] == ["127.0.0.1", "0.0.0.0"]  # noqa: S104
