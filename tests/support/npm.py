"""Packages of npm that some tests need."""

import base64
import hashlib
import shutil
import subprocess
import tarfile
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.debian import needed


def npm_package(cache: pytest.Cache, name: str, version: str, sha512: str) -> Path:
    """The folder of this version of a package, which npm fetches once. `sha512` is the hash in base64, as npm's locks have it.

    The package's own dependencies are not fetched, and none of its scripts is run.
    """
    folder = cache.mkdir("npm") / name.replace("/", "+") / version
    if not folder.exists():
        npm = needed(lambda: shutil.which("npm"), "npm", "npm")
        parent = folder.parent
        parent.mkdir(exist_ok=True)
        command = [npm, "pack", f"{name}@{version}", "--ignore-scripts", "--silent"]
        archive = parent / subprocess.run(command, cwd=parent, stdout=subprocess.PIPE, check=True, text=True).stdout.strip()
        assert base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() == sha512
        with tarfile.open(archive) as files:
            files.extractall(parent, filter="data")
        (parent / "package").rename(folder)
        archive.unlink()
    return folder


def npm_packages(cache: pytest.Cache, manifest: Path) -> Path:
    """The `node_modules` of the package.json and package-lock.json in this folder, which npm fetches once for each lock.

    The lock has the hashes of all packages, and none of their scripts is run.
    """
    lock = (manifest / "package-lock.json").read_bytes()
    folder = cache.mkdir("npm") / f"{manifest.name}-{hashlib.sha256(lock).hexdigest()[:16]}"
    if not folder.exists():
        npm = needed(lambda: shutil.which("npm"), "npm", "npm")
        with TemporaryDirectory(dir=folder.parent) as temporary:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(manifest / name, temporary)
            subprocess.run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], cwd=temporary, check=True)
            with suppress(OSError):  # another process of the tests was faster
                Path(temporary).rename(folder)
            Path(temporary).mkdir(exist_ok=True)  # to be removed at the end
    return folder / "node_modules"
