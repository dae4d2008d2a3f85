"""What the service logs: a line for each request and for whatever an operator should know; JSON in production.

Never a token, a header, a body, a query or a password, nor what could break a line or speak to a terminal. The text of an
exception may quote any of them, so production logs its type and where it came from. Uvicorn's own lines take the same form.
"""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from traceback import extract_tb
from typing import Any

import orjson

from app.settings import Settings

ACCESS = "lastpair.access"
access_logger = logging.getLogger(ACCESS)
blank_record = logging.LogRecord(ACCESS, logging.INFO, "", 0, "", (), None)

RESET, DIM, RED, GREEN, YELLOW = "\x1b[0m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m"


def log_request(level: int, created: float, request: dict[str, Any]) -> None:
    """Log the line of a request that ended then, of which this is known.

    Logger.log would first look for the caller, the thread and the process, which takes longer than all the rest.
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


class LinesOfATurn(logging.Handler):
    """Writes to standard error, at once the requests of one turn of the event loop: they are many when there is much to do."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[logging.LogRecord] = []
        self._loop: asyncio.AbstractEventLoop | None = None  # which will write them

    def emit(self, record: logging.LogRecord) -> None:
        """Log this."""
        self._records.append(record)
        if record.name != ACCESS:
            self.flush()  # there are few, and the process may be about to end
        elif self._loop is not (loop := asyncio.get_running_loop()):
            self._loop = loop
            loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what was not written yet. A line that cannot be written is lost: nobody who logs fails for it."""
        with self.lock or nullcontext():
            records, self._records, self._loop = self._records, [], None
            with suppress(OSError, ValueError):  # a full disk, a reader that has gone, a closed file
                sys.stderr.write("".join([self._line(record) for record in records]))
                sys.stderr.flush()

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record) + "\n"
        except Exception as error:  # whatever was to be logged, the others are
            return f"a line of {record.name} cannot be written: {type(error).__name__}\n"


class JsonLines(logging.Formatter):
    """A JSON object a line: time, level, logger, message, and of a request what app.context.account says of it."""

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
    """Each exception of the chain, the last one first: its type, and the calls that led to it, the innermost first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        calls = [f"{call.filename}:{call.lineno} in {call.name}" for call in reversed(extract_tb(error.__traceback__))]
        yield {"type": f"{type(error).__module__}.{type(error).__qualname__}", "calls": calls}
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


class ReadableLines(logging.Formatter):
    """For a terminal, coloured where it is one."""

    def __init__(self) -> None:
        super().__init__()
        self._is_coloured = sys.stderr.isatty() and not os.environ.get("NO_COLOR")

    def format(self, record: logging.LogRecord) -> str:
        """One line, and a stack trace under it where there is one."""
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
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
            names = {"user": "userId", "request": "requestId", "trace": "traceId"}  # the path names the drop
            found = [f"{name} {request[field]}" for name, field in names.items() if request[field] is not None]
            line += "  " + self._paint(DIM, printable("  ".join(found)))
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            line += "".join("\n    " + printable(part) for part in trace.splitlines())
        return line

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{RESET}" if self._is_coloured and colour else text


def printable(text: str) -> str:
    """The text with whatever breaks lines, steers a terminal or is no character written as an escape."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


class ForOperators(logging.Filter):
    """Leaves out what uvicorn's protocols, and websockets in them, say of single connections at any client's will, queries too.

    app.context logs requests.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Is it to be logged?"""
        folders = Path(record.pathname).parts[-4:-1]
        if folders[:2] != ("uvicorn", "protocols") and folders[-1:] != ("websockets",):
            return True
        is_clients_fault = record.exc_info is not None and isinstance(record.exc_info[1], UnicodeDecodeError)
        return record.levelno >= logging.ERROR and not is_clients_fault


def log_config(settings: Settings) -> dict[str, Any]:
    """For logging.config.dictConfig, in every process."""
    level = settings.log_level.upper()
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"lines": {"()": ReadableLines if settings.development else JsonLines}},
        "filters": {"for operators": {"()": ForOperators}},
        "handlers": {"stderr": {"()": LinesOfATurn, "formatter": "lines"}},
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {
            "lastpair": {"level": level},
            # At level debug it would write headers and frames.
            "uvicorn": {"level": "INFO" if level == "DEBUG" else level},
            "uvicorn.error": {"filters": ["for operators"]},
        },
    }
