"""The answer where no route is: a 404 that says what is near."""

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from itertools import zip_longest

from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from lastpair.errors import Refusal
from lastpair.web.error_codes import NOT_FOUND
from lastpair.web.responses import failure
from lastpair.web.socketio import SocketIORoute

BASE, VERSION = "/api", "/v1"
PARAMETER = re.compile(r"{\w+}")
FOLDERS_OF_PAGES = ("/dashboard/", "/docs/", "/drops/")
MAX_PATH = 200
"""A longer path is not compared with any."""

SIMILARITY = 0.75
MAX_DIFFERENCE = 3
"""Letters that a word may have more or less than the one that it is taken for."""

MAX_NEAR = 3
OVERVIEW = "The dashboard is at /. /docs shows all paths of the API, and /api/openapi.json describes them to programs."


class Nowhere:
    """The router's last resort, as an ASGI application. A WebSocket handshake gets the envelope as well.

    The hint has only paths of the route table, and nothing that the client sent.
    """

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        served = [route.path for route in routes if isinstance(route, Route | SocketIORoute)]
        paths = [path for path in served if not path.startswith(FOLDERS_OF_PAGES)]
        self._paths = {tuple(_words(path)): path for path in paths if not path.startswith(f"{BASE}{VERSION}/") and path != "/"}
        self._words_at = [set(words) for words in zip_longest(*self._paths, fillvalue="")]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        refusal = Refusal(NOT_FOUND.status, NOT_FOUND.code, f"{NOT_FOUND.message} {self.hint(scope['path'])}")
        await failure(HTTPConnection(scope), refusal)(scope, receive, send)

    def hint(self, path: str) -> str:
        """A sentence that says which paths are near this one."""
        if len(path) > MAX_PATH or not (asked := list(_words(path))):
            return OVERVIEW
        if len(asked) <= len(self._words_at):
            asked = [_nearest(word, known) for word, known in zip(asked, self._words_at, strict=False)]
        version = VERSION if re.search("(^|/)v[0-9]+/", path) else ""
        same = [known for known in self._paths if _fits(asked, known)]
        if same:
            return f"Did you mean {self._shown(min(same, key=_parameters), version)}?"
        near = [known for known in self._paths if known[0] == asked[0]]
        if near:
            return f"Near it: {', '.join(self._shown(known, version) for known in near[:MAX_NEAR])}. {OVERVIEW}"
        return OVERVIEW

    def _shown(self, known: tuple[str, ...], version: str) -> str:
        path = self._paths[known]
        return path.replace(BASE, BASE + version, 1) if path.startswith(f"{BASE}/") else path


def _words(path: str) -> Iterator[str]:
    # The words of a path behind `/api` and any version; those of a template's parameters as they are.
    words = [word if PARAMETER.fullmatch(word) else word.lower() for word in path.split("/") if word]
    if words[:1] == ["api"]:
        del words[0]
    while words and re.fullmatch("v[0-9]+", words[0]):
        del words[0]
    yield from words


def _nearest(word: str, known: set[str]) -> str:
    # Words with another first letter, or of another length, are not compared, because a comparison takes 10 microseconds.
    if word in known:
        return word
    alike = [other for other in known if other[:1] == word[0] and abs(len(other) - len(word)) <= MAX_DIFFERENCE]
    return next(iter(get_close_matches(word, alike, 1, SIMILARITY)), word)


def _fits(asked: list[str], known: tuple[str, ...]) -> bool:
    return len(asked) == len(known) and all(
        PARAMETER.fullmatch(word) or word == given for given, word in zip(asked, known, strict=True)
    )


def _parameters(known: tuple[str, ...]) -> int:
    return sum(1 for word in known if PARAMETER.fullmatch(word))
