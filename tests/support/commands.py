"""Runs the command `lastpair` to its end."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock, Timer

from tests.support.servers import ROOT
from tests.support.waiting import PATIENCE_SECONDS

TIMEOUT_SECONDS = 2 * PATIENCE_SECONDS
FORKS = """
import json, os, sys, traceback
import lastpair.cli

for line in sys.stdin:
    arguments, folder, environment, files = json.loads(line)
    child = os.fork()
    if child == 0:
        break
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
if child == 0:
    for descriptor, (path, flags) in enumerate(files):
        os.dup2(os.open(path, flags), descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["lastpair", *arguments]
    exit_code = 0
    try:
        lastpair.cli.main()
    except SystemExit as end:
        exit_code = end.code or 0
    except BaseException:
        traceback.print_exc()
        exit_code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
"""
"""A process that has imported the command and forks for each line, because importing takes longer than most commands. A child
ends without taking its modules down, because that takes as long again."""


def lastpair(*arguments: str, typed: str = "", stdout: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command with these variables and this standard input. Its output is returned, or written to `stdout`."""
    forks = _forks()
    assert forks.stdin
    assert forks.stdout
    with _one_at_a_time, TemporaryDirectory(prefix="lastpair-command-") as folder:
        typed_path, out, err = (Path(folder) / name for name in ("stdin", "stdout", "stderr"))
        typed_path.write_text(typed)
        write = os.O_WRONLY | os.O_CREAT
        files = [(str(typed_path), os.O_RDONLY), (stdout or str(out), write), (str(err), write)]
        request = (arguments, str(Path.cwd()), {**os.environ, **environment}, files)
        forks.stdin.write(json.dumps(request) + "\n")
        forks.stdin.flush()
        pid = int(forks.stdout.readline())
        timer = Timer(TIMEOUT_SECONDS, _kill, [pid])
        timer.start()
        exit_code = int(forks.stdout.readline())
        timer.cancel()
        return subprocess.CompletedProcess(arguments, exit_code, "" if stdout else out.read_text(), err.read_text())


_one_at_a_time = Lock()
"""A thread whose task was cancelled waits on for its command, and must not read the answer to the next one."""


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, 9)


@cache
def _forks() -> subprocess.Popen[str]:
    # It ends with its standard input, at the end of this process.
    return subprocess.Popen(
        [sys.executable, "-c", FORKS],
        env=os.environ | {"PYTHONPATH": str(ROOT / "app")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
