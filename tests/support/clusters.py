"""A PostgreSQL server of any version and with any settings, in a temporary folder, set up as docs/operations.md says."""

import os
import pwd
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lastpair.database.embedded import BIN_DIR
from lastpair.database.private_server import SERVER_USER, PrivateServer
from tests.support.servers import ROOT, free_port

ROLE_RECIPE = ROOT / "db" / "recipes" / "role.sql"
OPERATIONS = ROOT / "docs" / "operations.md"
SEVERAL_NODES = ROOT / "docs" / "cluster.md"
PASSWORD = "it's"  # noqa: S105 - of servers that live for seconds


@dataclass(frozen=True)
class Cluster:
    """The server of a folder. The superuser gets in by the socket, `lastpair` and `lastpair_app` over TCP and with PASSWORD."""

    bin_dir: Path
    folder: Path
    port: int

    @property
    def superuser_url(self) -> str:
        """The superuser's URL of the database postgres."""
        return f"postgresql://postgres@/postgres?host={self.folder}&port={self.port}"

    @property
    def url(self) -> str:
        """The owner's URL of the database lastpair, without the password."""
        return f"postgresql://lastpair@127.0.0.1:{self.port}/lastpair"

    @property
    def service_url(self) -> str:
        """The service's URL of the database lastpair, without the password."""
        return self.url.replace("lastpair@", "lastpair_app@")

    @property
    def url_with_password(self) -> str:
        """The same with the password, for clients that do not read PGPASSWORD."""
        return self.url.replace("@", f":{PASSWORD}@")

    @property
    def pid(self) -> int:
        """Its first process. Raises OSError or ValueError if it does not run."""
        return int((self.folder / "data" / "postmaster.pid").read_text().partition("\n")[0])

    def configure(self, *settings: str) -> None:
        """Add these lines to its postgresql.conf, and where it listens. A copy of another server's data is made its own."""
        data = self.folder / "data"
        listens = ["listen_addresses = '127.0.0.1'", f"unix_socket_directories = '{self.folder}'"]
        with (data / "postgresql.conf").open("a") as file:
            file.writelines(f"{line}\n" for line in (f"port = {self.port}", *listens, *settings))
        if account := _account(self.bin_dir):
            for path in (data, *data.rglob("*")):
                os.chown(path, account["user"], account["group"])

    def start(self) -> None:
        """Start it; returns when it accepts connections."""
        self._run("pg_ctl", "start", "--wait", f"--pgdata={self.folder}/data", f"--log={self.folder}/log")

    def crash(self) -> None:
        """Cut off every session and write nothing any more."""
        self._run("pg_ctl", "stop", "--wait", f"--pgdata={self.folder}/data", "--mode=immediate")

    def psql(self, script: str | Path, url: str, **environment: str) -> str:
        """Run a file or a text in psql, which stops at the first error; returns what it prints, rows bare."""
        options = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-" if isinstance(script, str) else str(script)]
        result = subprocess.run(
            [self.bin_dir / "psql", *options, url],
            input=script if isinstance(script, str) else None,
            env=os.environ | {"PGPASSWORD": PASSWORD} | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()

    def _run(self, program: str, *arguments: str) -> None:
        # The server's user may be unable to enter the folder of the embedded programs.
        bin_dir = PrivateServer(self.folder).programs if self.bin_dir == BIN_DIR else self.bin_dir
        command = [str(bin_dir / program), *arguments]
        # The output is not captured, because the server would keep the pipe.
        result = subprocess.run(
            command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, **_account(self.bin_dir)
        )
        log = self.folder / "log"
        assert result.returncode == 0, f"{command} failed: {log.read_text() if log.exists() else ''}"


def _account(bin_dir: Path) -> dict[str, Any]:
    # PostgreSQL does not run as root. Its user is made when the embedded server runs, or by Debian's package.
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(SERVER_USER if bin_dir == BIN_DIR else "postgres")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@contextmanager
def empty_server(bin_dir: Path) -> Iterator[Cluster]:
    """The folder and the port of a server that has no data yet; gone afterwards."""
    with TemporaryDirectory(prefix="lastpair-cluster-") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            os.chown(folder, _account(bin_dir)["user"], -1)
        server = Cluster(bin_dir, folder, free_port())
        try:
            yield server
        finally:
            if (folder / "data" / "postmaster.pid").exists():  # the test may have crashed it
                server.crash()


@contextmanager
def cluster(bin_dir: Path, *settings: str) -> Iterator[Cluster]:
    """A running server with these lines in its postgresql.conf and the empty database lastpair; gone afterwards."""
    with empty_server(bin_dir) as server:
        methods = ["--auth-local=trust", "--auth-host=scram-sha-256"]
        server._run("initdb", f"--pgdata={server.folder}/data", *methods, "--encoding=utf8", "--username=postgres", "--no-sync")
        server.configure(*settings)
        server.start()
        server.psql(ROLE_RECIPE, server.superuser_url, LASTPAIR_PASSWORD=PASSWORD, LASTPAIR_APP_PASSWORD=PASSWORD)
        yield server


def commands(name: str) -> str:
    """The commands of docs/operations.md, or of docs/cluster.md, after `<!-- run by tests: name -->`."""
    text = OPERATIONS.read_text() + SEVERAL_NODES.read_text()
    [script] = re.findall(rf"<!-- run by tests: {name} -->\n```bash\n(.*?)```", text, re.DOTALL)
    return str(script)


def sh(script: str, folder: Path, bin_dir: Path, **environment: str) -> str:
    """Run the commands in a shell; returns what they print."""
    variables = os.environ | {"PATH": f"{bin_dir}:{os.environ['PATH']}", "PGPASSWORD": PASSWORD, "PGOPTIONS": ""} | environment
    result = subprocess.run(["bash", "-ec", script], cwd=folder, env=variables, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout
