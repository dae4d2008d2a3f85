"""What uvicorn alone can do: an ASGI application that gives one answer, without Starlette, middleware or routes.

`Bench.bare` starts it with the uvicorn options of the service: uvloop, httptools, no access log, no server header. ANSWER is the
answer to give, which `Bench.bare` has got from the service: so status, headers and body have as many bytes as the service's own.
"""

import json
import os
from typing import Any


def create_app() -> Any:
    """The application."""
    answer = json.loads(os.environ["ANSWER"])
    headers = [(name.encode(), value.encode()) for name, value in answer["headers"]]
    start = {"type": "http.response.start", "status": answer["status"], "headers": headers}
    body = {"type": "http.response.body", "body": answer["body"].encode()}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start)
        await send(body)

    return app
