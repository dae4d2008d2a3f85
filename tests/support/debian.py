"""Programs that some tests need and Debian has as packages."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from tempfile import gettempdir

import pytest


def needed(find: Callable[[], str | Path | None], what: str, *packages: str) -> str:
    """The path that `find` returns. If there is none, root on Debian installs these packages and looks again.

    If there is still none, the test is skipped and says what to install; with CI set it fails.
    """
    found = find()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        with Path(gettempdir(), "lastpair-tests-apt.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # apt-get fails if another process of the tests runs it at the same time
            if find() is None:
                for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
                    subprocess.run(["apt-get", "--quiet", *command], env=environment, capture_output=True, check=False)
        found = find()
    if found is None:
        reason = (
            f"{what} is not installed here (Debian: apt install {' '.join(packages)}). As root on Debian the tests install it."
        )
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return str(found)
