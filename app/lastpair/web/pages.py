"""The pages: the dashboard with its settings, the buyer's page, and /docs, which shows the contract."""

import asyncio
import gzip
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import orjson
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lastpair.settings import Settings
from lastpair.web.buyer_page import BUYER_FOLDER, TEMPLATES, BuyerPage, buyer_policy

DASHBOARD_FOLDER = Path(__file__).with_name("dashboard")
CLIENT_FOLDER = Path(__file__).with_name("client")
"""A link to clients/js, of which a wheel carries a copy."""

CLIENT_FILES = ("lastpair.js", "lastpair-worker.js")
SWAGGER_FOLDER = Path(__file__).with_name("swagger")
SWAGGER_UI_FOLDER = SWAGGER_FOLDER / "vendor"
"""A copy of Swagger UI's own release. VERSION.json in it names the release; `make swagger-ui` replaces it with the newest."""

SWAGGER_UI_FILES = ("swagger-ui.css", "swagger-ui-bundle.js")
"""The files in that folder which the page loads. The others are licences and the record, and are not served."""

# Nothing from other hosts and nothing inline. SVG pictures and styles that scripts set are of this origin as well.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

DOCS_POLICY = POLICY.replace("img-src 'self'", "img-src 'self' data:")  # Swagger UI has icons in its styles

HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",  # a browser asks each time and gets 304, so that a deployment never mixes old files with new
}


GZIP = re.compile(r"\s*gzip\s*(?:;(?!\s*q\s*=\s*0(?:\.0*)?\s*$).*)?", re.IGNORECASE)
"""gzip in Accept-Encoding, but not with the weight 0, which means that the client does not take it."""


class PageHeaders:
    """Adds the headers of a page that an answer lacks to those of the application it wraps, and leaves the route in the scope."""

    def __init__(self, app: ASGIApp, route: str, policy: str) -> None:
        self.app = app
        self._route = route
        self._headers = [
            (name.encode(), value.encode()) for name, value in (HEADERS | {"content-security-policy": policy}).items()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        scope["route"] = self._route

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                lacking = [header for header in self._headers if header[0] not in given]
                message["headers"] = [*message["headers"], *lacking]
            await send(message)

        await self.app(scope, receive, send_with_headers)


def page_routes(settings: Settings) -> list[BaseRoute]:
    """The routes of the pages and of the files that they load."""
    return [*dashboard_routes(settings), *buyer_routes(settings), *docs_routes(), *client_routes()]


def dashboard_routes(settings: Settings) -> list[BaseRoute]:
    """`/` and the page of each drop, which are one page, and under `/dashboard` the files that it loads."""

    async def page_settings(request: Request) -> Response:
        """GET /dashboard/settings.json: the development helpers, how sellers sign in, payments, and the server's time."""
        content = {
            "development": settings.development and settings.auth_mode == "header",
            "authMode": settings.auth_mode,
            "nameClaim": settings.jwt_name_claim,
            "payments": settings.payment_provider != "none",
            "now": datetime.now(UTC),
        }
        return Response(orjson.dumps(content), media_type="application/json")

    files = StaticFiles(directory=DASHBOARD_FOLDER)
    headers = [Middleware(PageHeaders, "/dashboard", POLICY)]
    return [
        Route("/", file_of(files, "index.html"), middleware=headers),
        Route("/drops/{dropId:uuid}", file_of(files, "index.html"), middleware=headers),
        Route("/dashboard/settings.json", page_settings, middleware=headers),
        *(Route(f"/dashboard/{file.name}", file_of(files, file.name), middleware=headers) for file in DASHBOARD_FOLDER.iterdir()),
    ]


def buyer_routes(settings: Settings) -> list[BaseRoute]:
    """`/d/{dropId}`, and under `/buyer` the files that it loads."""
    files, policy = StaticFiles(directory=BUYER_FOLDER), buyer_policy(settings)
    names = [file.name for file in BUYER_FOLDER.iterdir() if file.name not in TEMPLATES]
    return [
        Route("/d/{dropId}", BuyerPage(settings).answer, middleware=[Middleware(PageHeaders, "/d/{dropId}", policy)]),
        *(
            Route(f"/buyer/{name}", file_of(files, name), middleware=[Middleware(PageHeaders, "/buyer", policy)])
            for name in names
        ),
    ]


def docs_routes() -> list[BaseRoute]:
    """`/docs`, and under it the files that it loads."""
    files, swagger_ui = StaticFiles(directory=SWAGGER_FOLDER), StaticFiles(directory=SWAGGER_UI_FOLDER)
    names = [file.name for file in SWAGGER_FOLDER.iterdir() if file.is_file()]
    headers = [Middleware(PageHeaders, "/docs", DOCS_POLICY)]
    return [
        Route("/docs", file_of(files, "index.html"), middleware=headers),
        *(Route(f"/docs/{name}", file_of(swagger_ui, name), middleware=headers) for name in SWAGGER_UI_FILES),
        *(Route(f"/docs/{name}", file_of(files, name), middleware=headers) for name in names),
    ]


def client_routes() -> list[BaseRoute]:
    """The JavaScript client at `/lastpair.js`, and beside it the worker that the tabs of a browser share."""
    files, headers = StaticFiles(directory=CLIENT_FOLDER), [Middleware(PageHeaders, "/lastpair.js", POLICY)]
    return [Route(f"/{name}", file_of(files, name), middleware=headers) for name in CLIENT_FILES]


def file_of(files: StaticFiles, name: str) -> Callable[[Request], Awaitable[Response]]:
    """A handler that answers with this file, which it sends with gzip to clients that accept it and want the whole file."""

    async def handler(request: Request) -> Response:
        if request.headers.get("range", "bytes").partition("=")[0].strip().lower() != "bytes":
            # A unit that a server does not know must be ignored (RFC 9110, 14.2), and Starlette would refuse it.
            request.scope["headers"] = [header for header in request.scope["headers"] if header[0] != b"range"]
            request = Request(request.scope)
        response = await files.get_response(name, request.scope)
        response.headers["vary"] = "Accept-Encoding"
        if not (isinstance(response, FileResponse) and accepts_gzip(request)):
            return response
        content = await asyncio.to_thread(gzipped, Path(response.path), response.headers["etag"])
        # Another encoding is another representation, and so the tag of the file is a weak one.
        headers = {"content-encoding": "gzip", "etag": f"W/{response.headers['etag']}"}
        kept = {name: response.headers[name] for name in ("last-modified", "vary")}
        return Response(content, headers=headers | kept, media_type=response.media_type)

    return handler


def accepts_gzip(request: Request) -> bool:
    """Whether the client accepts gzip, and wants no part of the file."""
    codings = ",".join(request.headers.getlist("accept-encoding")).split(",")
    return "range" not in request.headers and any(GZIP.fullmatch(coding) for coding in codings)


@lru_cache(maxsize=200)
def gzipped(path: Path, etag: str) -> bytes:
    """The file with gzip. Swagger UI takes a tenth of a second, and so it is done once, when the first client asks for the file.

    `etag` is another one when the file has changed.
    """
    return gzip.compress(path.read_bytes(), mtime=0)
