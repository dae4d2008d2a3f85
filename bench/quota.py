"""Slower machines on one machine: a share of processor time for all processes of a server, by a control group of Linux."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import psutil

PERIOD_US = 10_000
ROOT = Path("/sys/fs/cgroup")
NUMBERS = count()


def is_there() -> bool:
    """Whether this machine lets us make such a group."""
    folder = _folder("lastpair-probe")
    try:
        folder.mkdir()
    except OSError:
        return False
    found = (folder / "cpu.max").exists() or (folder / "cpu.cfs_quota_us").exists()
    folder.rmdir()
    return found


@contextmanager
def slowed(pid: int, share: float) -> Iterator[None]:
    """Give a process, its children and those that it will start this share of one processor, all together."""
    folder = _folder(f"lastpair-bench-{os.getpid()}-{next(NUMBERS)}")
    folder.mkdir()
    quota_us = round(PERIOD_US * share)
    if (folder / "cpu.max").exists():
        (folder / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
    else:
        (folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        (folder / "cpu.cfs_quota_us").write_text(str(quota_us))
    process = psutil.Process(pid)
    _move([process, *process.children(recursive=True)], folder)
    try:
        yield
    finally:
        for left in (folder / "cgroup.procs").read_text().split():
            with suppress(OSError):
                (folder.parent / "cgroup.procs").write_text(left)
        folder.rmdir()


def _move(processes: list[psutil.Process], folder: Path) -> None:
    for each in processes:
        with suppress(OSError):  # it has ended
            (folder / "cgroup.procs").write_text(str(each.pid))


def _folder(name: str) -> Path:
    # Of version 1 each controller has its own tree.
    return (ROOT / "cpu" if (ROOT / "cpu").is_dir() else ROOT) / name
