"""The settings: defaults, what each accepts, and the one line that names the variable when it is wrong."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app import __main__ as commands
from app.settings import InvalidSettings, Settings, load_settings
from tests.servers import ROOT

URL = "postgresql://lastpair:secret@db.example:5432/lastpair"
DEFAULTS: dict[str, Any] = {
    "APP_ENV": "development",
    "PORT": 4000,
    "DATABASE_URL": None,
    "DATABASE_DIRECT_URL": None,
    "DATABASE_POOL_SIZE": 10,
    "DATA_DIR": Path(".data"),
    "CORS_ORIGINS": [],
    "RESERVATION_TTL_SECONDS": 60,
    "EXPIRY_POLL_MS": 2000,
    "LOG_LEVEL": "info",
    "AUTH_MODE": "header",
    "WEB_CONCURRENCY": 1,
}
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
    ("CORS_ORIGINS", "http://localhost:3000", ["http://localhost:3000"]),
    ("CORS_ORIGINS", " http://a.example , https://b.example:8443,", ["http://a.example", "https://b.example:8443"]),
    ("RESERVATION_TTL_SECONDS", "1", 1),
    ("RESERVATION_TTL_SECONDS", "86400", 86400),
    ("EXPIRY_POLL_MS", "100", 100),
    ("EXPIRY_POLL_MS", "3600000", 3600000),
    *(("LOG_LEVEL", level, level.lower()) for level in ["critical", "error", "warning", "info", "debug", "DEBUG", "Info"]),
    ("AUTH_MODE", "header", "header"),
    ("WEB_CONCURRENCY", "4", 4),
]
NOT_A_COUNT = ["0", "-1", "1.5", "many", "0x10", "1 2", "9" * 5000, "1e3", "true"]
BAD = {
    "APP_ENV": ["staging", "Production", "dev", "1"],
    "PORT": ["-1", "65536", "http", "4000.5", "40 00", "9" * 5000],
    "DATABASE_URL": [
        *["lastpair", "localhost:5432", "mysql://u@localhost/db", "http://localhost", "postgresql+asyncpg://u@localhost/db"],
        *["postgresql://u@localhost:99999/db", "sqlite:///lastpair.db", "lastpair?host=/run/postgresql"],
    ],
    "DATABASE_DIRECT_URL": ["lastpair", "mysql://u@localhost/db", "lastpair?host=/run/postgresql"],
    "DATABASE_POOL_SIZE": NOT_A_COUNT,
    "RESERVATION_TTL_SECONDS": [*NOT_A_COUNT, "86401"],
    "EXPIRY_POLL_MS": [*NOT_A_COUNT, "3600001"],
    "LOG_LEVEL": ["loud", "warn ing", "20"],
    "AUTH_MODE": ["none", "Header", "trust"],
    "WEB_CONCURRENCY": [*NOT_A_COUNT, "100000"],
}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no .env of the machine is seen; what a test sets is undone."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.setenv(name.upper(), "")
        monkeypatch.delenv(name.upper())


def run(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m app command` with these variables, which must come to its end by itself."""
    arguments = [sys.executable, "-m", "app", command]
    env = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(arguments, env=env, capture_output=True, text=True, timeout=30, check=False)


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
    examples = {"DATABASE_URL", "CORS_ORIGINS"}  # have no default to show
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


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """`run` with neither a database nor a server: what it migrates, then where it listens and what the workers read."""
    seen: list[tuple[str, str | None]] = []

    async def migrate(url: str) -> None:
        seen.append(("migrate", url))

    monkeypatch.setattr(commands, "migrate", migrate)
    monkeypatch.setattr("app.__main__.uvicorn.run", lambda *_, host, **__: seen.append((host, load_settings().database_url)))
    return seen


@pytest.mark.parametrize("where", ["environment", ".env"])
def test_the_app_itself_goes_through_the_pooler(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, used: list[tuple[str, str | None]], where: str
) -> None:
    """`run` migrates by DATABASE_DIRECT_URL, and then serves by DATABASE_URL."""
    variables = {"DATABASE_URL": URL, "DATABASE_DIRECT_URL": URL + "_direct"}
    if where == ".env":
        (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    else:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
    commands.run(load_settings())
    assert used == [("migrate", URL + "_direct"), ("127.0.0.1", URL)]


@pytest.mark.parametrize(
    ("variable", "text"),
    [("PORT", "http"), ("DATABASE_URL", "mysql://u:hunter2@localhost/db")],
)
def test_a_bad_value_stops_the_start(variable: str, text: str) -> None:
    """The real command: one line on standard error, exit code 1, no password in it."""
    assert "hunter2" not in assert_refused(run("run", **{variable: text}), variable)


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
    assert "hunter2" not in assert_refused(run(command, DATABASE_URL=url), "DATABASE_URL")


def test_a_folder_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    """The same, naming the variable to correct."""
    (tmp_path / "file").touch()
    assert_refused(run("run", DATA_DIR=str(tmp_path / "file")), "DATA_DIR")


def test_production_refuses_development_conveniences() -> None:
    """An embedded database, a user who is whoever the header says, seeding."""
    assert_refused(run("run", APP_ENV="production"), "DATABASE_URL")
    assert_refused(run("run", APP_ENV="production", DATABASE_URL=URL), "AUTH_MODE")
    seeding = Settings.model_construct(app_env="production", database_url=URL)
    for reset in (False, True):
        with pytest.raises(InvalidSettings, match=r"^APP_ENV: "):
            commands.seed(seeding, reset=reset)


def test_development_listens_to_this_machine_only(used: list[tuple[str, str | None]]) -> None:
    """Whoever reaches a development server may be anyone."""
    for app_env in ("development", "production"):
        commands.run(Settings.model_construct(app_env=app_env, database_url=URL))
    assert [host for host, _ in used[1::2]] == ["127.0.0.1", "0.0.0.0"]  # noqa: S104


@pytest.mark.parametrize("arguments", [[], ["walk"], ["run", "fast"]])
def test_usage(arguments: list[str]) -> None:
    """A command that does not exist is told which do."""
    result = subprocess.run([sys.executable, "-m", "app", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("usage: python -m app run|migrate")
