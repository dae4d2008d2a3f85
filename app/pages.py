"""The dashboard: the files in app/dashboard, and what the page has to know before it begins."""

from datetime import UTC, datetime
from pathlib import Path

import orjson
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.settings import Settings

FOLDER = Path(__file__).with_name("dashboard")

HEADERS = {
    # Nothing from elsewhere, nothing inline. SVG pictures and styles set by scripts are of this origin, too.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",  # asked about each time, and answered 304: after a deployment nobody has half of the old page
}


class PageHeaders:
    """Adds the headers of a page to what the application around it answers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((name.encode(), value.encode()) for name, value in HEADERS.items()),
                ]
            await send(message)

        await self.app(scope, receive, send_with_headers)


def page_routes(settings: Settings) -> list[BaseRoute]:
    """`/`, and under `/dashboard` what it loads."""

    async def page_settings(request: Request) -> Response:
        """GET /dashboard/settings.json: may the page use the development helpers, and the server's time."""
        content = {"development": settings.development, "now": datetime.now(UTC)}
        return Response(orjson.dumps(content), media_type="application/json")

    files = StaticFiles(directory=FOLDER)

    async def page(request: Request) -> Response:
        """GET /: the page."""
        return await files.get_response("index.html", request.scope)

    headers = [Middleware(PageHeaders)]
    return [
        Route("/", page, middleware=headers),
        Route("/dashboard/settings.json", page_settings, middleware=headers),
        Mount("/dashboard", files, middleware=headers),
    ]
