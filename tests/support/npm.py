"""Packages of npm that some tests need."""

import base64
import hashlib
import shutil
import subprocess
import tarfile
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


def installed(cache: pytest.Cache, package: str) -> Path:
    """The folder in whose node_modules are this package, `name@version`, and those that it needs. No script of them is run."""
    folder = cache.mkdir("npm") / package.replace("/", "+")
    if not folder.exists():
        npm = needed(lambda: shutil.which("npm"), "npm", "npm")
        with TemporaryDirectory(dir=folder.parent) as temporary:
            options = ["--ignore-scripts", "--no-audit", "--no-fund", "--silent", f"--prefix={temporary}"]
            subprocess.run([npm, "install", *options, package], check=True)
            Path(temporary).rename(folder)
            Path(temporary).mkdir()  # which is removed next
    return folder
