"""Find pgTAP and install it in a database.

The embedded server has no pgTAP, but PostgreSQL 18 reads an extension's files from any folder named in extension_control_path,
and pgTAP is SQL only, so the files that a distribution packages for another version serve as well.
"""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

HELP = (
    "pgTAP is not installed here. Install it (Debian and Ubuntu: apt install postgresql-15-pgtap, or another version's;"
    " macOS: brew install pgtap), or set PGTAP_DIR to the folder that holds extension/pgtap.control."
)


def install_pgtap(superuser_url: str, data_dir: Path) -> None:
    """Create the extension; fails the tests with HELP when its files cannot be found."""
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        known = connection.execute("select exists (select from pg_available_extensions where name = 'pgtap')").fetchone()
        if not known or not known[0]:
            folder = find_pgtap(data_dir)
            if folder is None or connection.info.server_version < 180000:
                pytest.fail(HELP, pytrace=False)
            with TemporaryDirectory(prefix="lastpair-pgtap-") as copy:  # the server's user may be unable to enter that folder
                copy_pgtap(folder, Path(copy))
                connection.execute("select set_config('extension_control_path', %s, false)", [f"$system:{copy}"])
                connection.execute("create extension if not exists pgtap")
        else:
            connection.execute("create extension if not exists pgtap")


def copy_pgtap(folder: Path, target: Path) -> None:
    """Copy the files of the extension so that every user can read them."""
    target.chmod(0o755)
    (target / "extension").mkdir(mode=0o755)
    for file in (folder / "extension").glob("pgtap*"):
        copied = target / "extension" / file.name
        shutil.copyfile(file, copied)
        copied.chmod(0o644)


def find_pgtap(data_dir: Path) -> Path | None:
    """The share folder whose extension/ holds pgTAP: PGTAP_DIR, an installed PostgreSQL's, or a package unpacked in data_dir."""
    candidates = [Path(os.environ["PGTAP_DIR"])] if "PGTAP_DIR" in os.environ else []
    if shutil.which("pg_config"):
        share = subprocess.run(["pg_config", "--sharedir"], capture_output=True, text=True, check=True).stdout.strip()
        candidates.append(Path(share))
    candidates += Path("/usr/share/postgresql").glob("*")
    candidates += Path("/usr/local/share").glob("postgresql*")
    unpacked = data_dir.resolve() / "pgtap"
    candidates += unpacked.glob("usr/share/postgresql/*")
    for folder in candidates:
        if (folder / "extension" / "pgtap.control").exists():
            return folder
    if shutil.which("apt-get") and not unpacked.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        with (data_dir / "pgtap.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another process of the tests may do the same
            if unpacked.exists() or unpack_package(unpacked):
                return find_pgtap(data_dir)
    return None


def unpack_package(target: Path) -> bool:
    """Download Debian's or Ubuntu's package of pgTAP and unpack it, which needs no root and installs nothing."""
    download = target.with_name("pgtap-download")
    download.mkdir(parents=True, exist_ok=True)

    def run(*command: str) -> str:
        return subprocess.run(command, cwd=download, capture_output=True, text=True, check=False).stdout

    def packages() -> list[str]:
        return run("apt-cache", "search", "--names-only", "^postgresql-[0-9]+-pgtap$").split("\n")[:-1]

    if not packages() and os.geteuid() == 0:
        run("apt-get", "update")
    for line in packages()[:1]:
        run("apt-get", "download", line.split()[0])
    for package in download.glob("*.deb"):
        run("dpkg", "-x", str(package), str(target.with_suffix(".partial")))
    if target.with_suffix(".partial").exists():
        target.with_suffix(".partial").rename(target)
    shutil.rmtree(download)
    return target.exists()
