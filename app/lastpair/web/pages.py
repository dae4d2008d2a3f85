"""The pages: the dashboard with its settings, and /docs, which shows the contract."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import orjson
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lastpair.settings import Settings

DASHBOARD_FOLDER = Path(__file__).with_name("dashboard")
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


class PageHeaders:
    """Adds the headers of a page to the answers of the application that it wraps, and leaves the route in the scope."""

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
                message["headers"] = [*message["headers"], *self._headers]
            await send(message)

        await self.app(scope, receive, send_with_headers)


def page_routes(settings: Settings) -> list[BaseRoute]:
    """The routes of the pages and of the files that they load."""
    return [*dashboard_routes(settings), *docs_routes()]


def dashboard_routes(settings: Settings) -> list[BaseRoute]:
    """`/` and the page of each drop, which are one page, and under `/dashboard` the files that it loads."""

    async def page_settings(request: Request) -> Response:
        """GET /dashboard/settings.json: whether the page may use the development helpers, and the server's time."""
        content = {"development": settings.development and settings.auth_mode == "header", "now": datetime.now(UTC)}
        return Response(orjson.dumps(content), media_type="application/json")

    files = StaticFiles(directory=DASHBOARD_FOLDER)
    headers = [Middleware(PageHeaders, "/dashboard", POLICY)]
    return [
        Route("/", file_of(files, "index.html"), middleware=headers),
        Route("/drops/{dropId:uuid}", file_of(files, "index.html"), middleware=headers),
        Route("/dashboard/settings.json", page_settings, middleware=headers),
        *(Route(f"/dashboard/{file.name}", file_of(files, file.name), middleware=headers) for file in DASHBOARD_FOLDER.iterdir()),
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


def file_of(files: StaticFiles, name: str) -> Callable[[Request], Awaitable[Response]]:
    """A handler that answers with this file."""

    async def file(request: Request) -> Response:
        return await files.get_response(name, request.scope)

    return file
