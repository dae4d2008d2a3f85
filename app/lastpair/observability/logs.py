"""The process log: a line for each request, and for each event that an operator should know of. It is JSON in production.

A line never contains a token, a header, a body, a query or a password, nor a character that breaks a line or controls a terminal.
The text of an exception may quote any of these, so production logs only its type and where it was raised. Uvicorn's own lines
have the same form.
"""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from traceback import extract_tb
from typing import Any

import orjson

from lastpair.settings import Settings

ACCESS = "lastpair.access"
access_logger = logging.getLogger(ACCESS)
blank_record = logging.LogRecord(ACCESS, logging.INFO, "", 0, "", (), None)

RESET, DIM, RED, GREEN, YELLOW = "\x1b[0m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m"


def log_request(level: int, created: float, request: dict[str, Any]) -> None:
    """Log the line of a request. `created` is when it ended, in seconds since 1970.

    Logger.log is not used, because it first looks up the caller, the thread and the process. That takes longer than everything
    else together.
    """
    record = logging.LogRecord.__new__(logging.LogRecord)
    record.__dict__ = blank_record.__dict__ | {
        "created": created,
        "levelno": level,
        "levelname": logging.getLevelName(level),
        "msg": f"{request['method']} {request['path']} {request['status']} {request['outcome']}",
        "request": request,
    }
    access_logger.handle(record)


class BatchedLines(logging.Handler):
    """Writes to standard error. The lines of requests that end in one iteration of the event loop are written together."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[logging.LogRecord] = []
        self._loop: asyncio.AbstractEventLoop | None = None  # the loop that will call flush()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line now, or with the other requests of this iteration."""
        self._records.append(record)
        if record.name != ACCESS:
            self.flush()  # such lines are few, and the process may be about to end
        elif self._loop is not (loop := asyncio.get_running_loop()):
            self._loop = loop
            loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write the waiting lines. A line that cannot be written is lost, because logging must not make its caller fail."""
        with self.lock or nullcontext():
            records, self._records, self._loop = self._records, [], None
            with suppress(OSError, ValueError):  # the disk is full, the reader has gone, or the file is closed
                sys.stderr.write("".join([self._line(record) for record in records]))
                sys.stderr.flush()

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record) + "\n"
        except Exception as error:  # one bad line must not prevent the others from being written
            return f"a line of {record.name} cannot be written: {type(error).__name__}\n"


class JsonLines(logging.Formatter):
    """A JSON object a line: time, level, logger, message, and for a request the fields of web.middleware.observe_and_log."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": printable(record.getMessage().strip()),
            **record.__dict__.get("request", {}),
        }
        if record.exc_info and record.exc_info[1]:
            line["exceptions"] = list(exceptions(record.exc_info[1]))
        return orjson.dumps(line, option=orjson.OPT_UTC_Z).decode()


def exceptions(error: BaseException | None) -> Iterator[dict[str, Any]]:
    """The exceptions of a chain, the last one first: the type of each, and the calls that led to it, the innermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        calls = [f"{call.filename}:{call.lineno} in {call.name}" for call in reversed(extract_tb(error.__traceback__))]
        yield {"type": f"{type(error).__module__}.{type(error).__qualname__}", "calls": calls}
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@lru_cache(maxsize=1)
def clock_time(seconds: int) -> str:
    """The time of day, which is the same for many lines."""
    return time.strftime("%H:%M:%S", time.localtime(seconds))


class ReadableLines(logging.Formatter):
    """Lines for people, in colour if standard error is a terminal."""

    def __init__(self) -> None:
        super().__init__()
        self._is_coloured = sys.stderr.isatty() and not os.environ.get("NO_COLOR")

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a stack trace under it where there is one."""
        moment = clock_time(int(record.created))
        request = record.__dict__.get("request")
        if request is None:
            colour = "" if record.levelno < logging.WARNING else YELLOW if record.levelno < logging.ERROR else RED
            line = self._paint(DIM, moment) + self._paint(colour, f" {record.levelname.lower():<7} ")
            line += printable(record.getMessage().strip())
        else:
            status = request["status"]
            colour = GREEN if status < 400 else YELLOW if status < 500 else RED
            line = self._paint(DIM, moment) + self._paint(colour, f" {status} ") + f"{request['durationMs']:>7.1f} ms  "
            line += printable(f"{request['method']:<6} {request['path']}")
            if request["outcome"] != "OK":
                line += "  " + self._paint(colour, request["outcome"])
            names = {"user": "userId", "request": "requestId", "trace": "traceId"}  # the path already shows the drop
            found = [f"{name} {request[field]}" for name, field in names.items() if request[field] is not None]
            line += "  " + self._paint(DIM, printable("  ".join(found)))
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            line += "".join("\n    " + printable(part) for part in trace.splitlines())
        return line

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{RESET}" if self._is_coloured and colour else text


def printable(text: str) -> str:
    """The text, with escapes for line breaks, control characters and code points that are not characters."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


class WithoutConnections(logging.Filter):
    """Drops the lines that uvicorn's protocols and websockets log about single connections.

    Any client could fill the log with them, and they contain queries. web.middleware logs the requests.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is kept."""
        folders = Path(record.pathname).parts[-4:-1]
        if folders[:2] != ("uvicorn", "protocols") and folders[-1:] != ("websockets",):
            return True
        is_clients_fault = record.exc_info is not None and isinstance(record.exc_info[1], UnicodeDecodeError)
        return record.levelno >= logging.ERROR and not is_clients_fault


def log_config(settings: Settings) -> dict[str, Any]:
    """The configuration for logging.config.dictConfig, the same in every process."""
    level = settings.log_level.upper()
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"lines": {"()": ReadableLines if settings.development else JsonLines}},
        "filters": {"without connections": {"()": WithoutConnections}},
        "handlers": {"stderr": {"()": BatchedLines, "formatter": "lines"}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {
            "lastpair": {"level": level},
            # Below this level uvicorn logs the steps of its start and end, and at level debug headers and frames.
            "uvicorn": {"level": "WARNING" if level in {"DEBUG", "INFO"} else level},
            "uvicorn.error": {"filters": ["without connections"]},
        },
    }
