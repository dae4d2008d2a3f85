"""The embedded PostgreSQL: who may reach it, which folders it touches, and where it can run."""

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import psutil
import psycopg
import pytest

from lastpair.database import private_server
from lastpair.database.embedded import BIN_DIR, embedded_database
from lastpair.database.private_server import MAX_SOCKET_PATH_BYTES, PrivateServer
from lastpair.settings import InvalidSettings
from tests.support.servers import postgres_of

IS_ROOT = os.geteuid() == 0
ENTER_ALL = 0o755


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may enter, as most DATA_DIRs are."""
    with TemporaryDirectory(prefix="lastpair-test-") as name:
        Path(name).chmod(ENTER_ALL)
        yield Path(name)
        assert postgres_of(Path(name)) == []


def mode(path: Path) -> int:
    """The permissions of a file or folder."""
    return stat.S_IMODE(path.stat().st_mode)


def modes_above(path: Path) -> dict[Path, int]:
    """The permissions of all folders above this one."""
    return {folder: mode(folder) for folder in path.resolve().parents}


def sockets_of(data_dir: Path) -> list[Path]:
    """The files of all sockets on which the server of the folder listens."""
    [postmaster] = [pid for pid in postgres_of(data_dir) if psutil.Process(pid).ppid() not in postgres_of(data_dir)]
    process = psutil.Process(postmaster)
    assert process.net_connections("inet") == []
    names = {Path(connection.laddr) for connection in process.net_connections("unix") if connection.laddr}
    return [Path(process.cwd()) / name for name in names]


def assert_private(data_dir: Path, url: str) -> None:
    """The server has one socket, and another user of this machine cannot connect to it, whatever the path says."""
    [socket] = sockets_of(data_dir)
    assert socket.resolve() == data_dir.resolve() / "postgres" / ".s.PGSQL.5432"
    assert (mode(socket), mode(socket.parent)) == (0o700, 0o700)
    if not IS_ROOT:  # without root's rights a test cannot become another user
        return
    assert BIN_DIR is not None
    named = psycopg.conninfo.conninfo_to_dict(url)["host"]
    with TemporaryDirectory(prefix="lastpair-test-") as other:
        Path(other).chmod(ENTER_ALL)
        link = Path(other) / "link"
        link.symlink_to(socket.parent)
        for host in (named, str(link)):
            command = [BIN_DIR / "psql", f"postgresql://postgres@/postgres?host={quote(str(host))}", "-c", "select 1"]
            nobody = subprocess.run(
                command, cwd="/", user="nobody", group="nogroup", extra_groups=[], capture_output=True, text=True, check=False
            )
            assert nobody.returncode == 2
            assert "Permission denied" in nobody.stderr


LONG = "long/" + "/".join(["x" * 30] * 4)
ODD = 'it\'s a (b), c; d%20&e="f" é'


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("data", id="short", marks=pytest.mark.slow),
        pytest.param(LONG, id="long", marks=pytest.mark.slow),
        pytest.param(ODD, id="odd", marks=pytest.mark.slow),
    ],
)
def test_only_its_user_reaches_it(folder: Path, name: str) -> None:
    """The socket is private, however long or odd the path is; no folder above is changed, and the data stays."""
    data_dir = folder / name
    for is_first in (True, False):
        with embedded_database(data_dir) as url, psycopg.connect(url) as session:
            if is_first:
                session.execute("create table kept ()")
                session.commit()
            assert session.execute("select current_user, count(*) from kept").fetchone() == ("lastpair", 0)
            assert_private(data_dir, url)
            host = Path(str(session.info.host))
            assert len(os.fsencode(host / ".s.PGSQL.5432")) <= MAX_SOCKET_PATH_BYTES
            if name != "data":
                assert (mode(host.parent), host.parent.stat().st_uid) == (0o700, os.geteuid())
        if name != "data":
            assert not host.parent.exists()
    assert {mode(above) for above in [data_dir, *data_dir.parents] if above.is_relative_to(folder)} == {ENTER_ALL}


@pytest.mark.slow
def test_folders_that_the_servers_user_may_not_enter(folder: Path) -> None:
    """A private home stays private: all folders above the data keep their permissions, and the server runs all the same."""
    home = folder / "home"
    data_dir = home / "shop" / ".data"
    data_dir.mkdir(parents=True)
    home.chmod(0o700)
    before = modes_above(data_dir)
    for _ in range(2):
        with embedded_database(data_dir) as url, psycopg.connect(url) as session:
            assert session.execute("select 1").fetchone() == (1,)
            assert modes_above(data_dir) == before
    assert modes_above(data_dir) == before
    assert mode(data_dir) == ENTER_ALL


@pytest.mark.slow
@pytest.mark.skipif(not IS_ROOT, reason="only root runs the server as another user")
def test_programs_that_the_servers_user_may_not_enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout in a private home: the programs are copied once, to a place that only root can change."""
    home = folder / "home"
    home.mkdir(0o700)
    assert private_server.INSTALL_DIR is not None
    package = private_server.INSTALL_DIR.parent
    for name in (package.name, f"{package.name}.libs"):
        (home / name).symlink_to(package.with_name(name))
    monkeypatch.setattr(private_server, "INSTALL_DIR", home / package.name / "pginstall")
    monkeypatch.setattr(private_server, "PROGRAMS_COPY", folder / "cache")
    copies = set()
    for _ in range(2):
        with embedded_database(home / ".data") as url, psycopg.connect(url) as session:
            assert session.execute("select 1").fetchone() == (1,)
            [copy] = (folder / "cache").iterdir()
            copies.add(copy.stat().st_ino)
            assert PrivateServer(home / ".data" / "postgres").programs == copy / package.name / "pginstall" / "bin"
    assert len(copies) == 1
    assert mode(home) == 0o700
    for path in [folder / "cache", copy, *copy.rglob("*")]:
        assert path.is_symlink() or (mode(path) & 0o022, path.stat().st_uid) == (0, 0)


def test_a_folder_with_other_files(folder: Path) -> None:
    """The server takes no folder that has something else in it, and changes nothing there."""
    taken = folder / "postgres"
    taken.mkdir()
    (taken / "mine").touch()
    with pytest.raises(InvalidSettings, match=r"^DATA_DIR: .*postgres holds other files"), embedded_database(folder):
        pass
    assert (mode(taken), taken.stat().st_uid) == (ENTER_ALL, os.geteuid())


@pytest.mark.skipif(not IS_ROOT, reason="only root can meet the data of another user that it could use")
def test_a_folder_of_another_user(folder: Path) -> None:
    """Root does not take the data of a user who ran the server before; one line says who that is."""
    data = folder / "postgres"
    data.mkdir()
    (data / "PG_VERSION").write_text("18\n")
    os.chown(data, 65534, 65534)
    with (
        pytest.raises(InvalidSettings, match=r"^DATA_DIR: .* belongs to the user nobody; run as that user"),
        embedded_database(folder),
    ):
        pass
    assert data.stat().st_uid == 65534


@pytest.mark.slow
def test_the_last_process_stops_it(folder: Path) -> None:
    """Each use counts, and the server runs as long as there is one."""
    uses = [ExitStack() for _ in range(3)]
    for use in uses:
        use.enter_context(embedded_database(folder))
    [first, *others] = uses
    assert postgres_of(folder)
    first.close()
    for use in others:
        assert postgres_of(folder)
        use.close()
    assert postgres_of(folder) == []


def test_a_lock_that_leads_elsewhere(folder: Path) -> None:
    """A link in the place of the lock is not followed, because another user may have put it into a shared folder."""
    (folder / "postgres.lock").symlink_to(folder / "elsewhere")
    with pytest.raises(InvalidSettings, match=r"^DATA_DIR: cannot be used: "), embedded_database(folder):
        pass
    assert not (folder / "elsewhere").exists()
