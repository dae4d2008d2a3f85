"""Programs that some tests need and Debian has."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


def needed(find: Callable[[], str | Path | None], what: str, *packages: str) -> str:
    """The path of what `find` finds, if need be when these packages are installed, which root does on Debian.

    Where it is not to be had the test is skipped and says what to install; when CI is set it fails.
    """
    found = find()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
            subprocess.run(["apt-get", "--quiet", *command], env=environment, capture_output=True, check=False)
        found = find()
    if found is None:
        reason = (
            f"{what} is not to be had here (Debian: apt install {' '.join(packages)}). As root on Debian the tests install it."
        )
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return str(found)
