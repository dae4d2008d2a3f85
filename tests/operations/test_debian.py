"""The tests' own helper `needed`: a missing program skips a test, and fails it under CI."""

import os
import shutil
import subprocess
from typing import Any

import pytest

from tests.support.debian import needed


@pytest.mark.parametrize("ci", ["", "true"])
def test_not_to_be_had(monkeypatch: pytest.MonkeyPatch, ci: str) -> None:
    """Without the program the test is skipped with the command that installs it; under CI it fails."""
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(pytest.fail.Exception if ci else pytest.skip.Exception, match=r"A thing is not .* apt install thing more"):
        needed(lambda: None, "A thing", "thing", "more")


def test_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As root on Debian, a missing program is installed."""
    commands = []

    def run(command: list[str], **options: Any) -> None:
        commands.append(command[2:])

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(subprocess, "run", run)
    assert needed(lambda: "/there", "A thing", "thing") == "/there"
    assert commands == []
    assert needed(lambda: "/there" if commands else None, "A thing", "thing") == "/there"
    assert commands == [["update"], ["install", "--yes", "--no-install-recommends", "thing"]]
