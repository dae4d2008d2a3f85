"""Conditional requests for a drop: its ETag, If-Match and If-None-Match (RFC 9110, sections 8.8.3 and 13).

An ETag has two parts, `"<revision>-<hash>"`. If-None-Match compares all of it, so 304 means that nothing has changed, not even
the stock. If-Match looks at the revision only: what a seller decided does not depend on the units that were sold since, and on a
drop that sells, a condition on the stock would never hold.

The ETag is strong, because If-Match takes no weak one (RFC 9110, section 13.1.1). Two answers with one ETag have the same drop;
they differ in `requestId` only.
"""

import re
from collections.abc import Collection
from hashlib import sha256

import orjson
from starlette.requests import Request
from starlette.responses import Response

from lastpair.errors import invalid
from lastpair.shop.outcome import Outcome
from lastpair.web.operation import Schema
from lastpair.web.responses import ANSWER_HEADERS, answer

ETAG = re.compile(r'"([1-9][0-9]{0,8})-[0-9a-f]{16}"')
ENTITY_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"(?=[ \t]*(?:,|$))')
NO_REVISION = 0
"""A revision that no drop has."""

IF_MATCH: Schema = {
    "name": "If-Match",
    "in": "header",
    "description": "ETags of the drop, not all of them weak: another revision than theirs is refused with DROP_CHANGED.",
    "schema": {
        "type": "string",
        "pattern": r'^(\*|((W/)?"[!#-~]*", *)*"[!#-~]*"(, *(W/)?"[!#-~]*")*)$',
        "examples": ['"3-9f86d081884c7d65"'],
    },
}
IF_NONE_MATCH: Schema = {
    "name": "If-None-Match",
    "in": "header",
    "description": "ETags of the drop: one that is still right is answered with 304. What is no ETag matches nothing.",
    "schema": {"type": "string", "examples": ['"3-9f86d081884c7d65"']},
}


def drop_answer(request: Request, outcome: Outcome, known: Collection[str] = ()) -> Response:
    """An outcome whose data is a drop, with its ETag; 304 if that is among those that the client knows."""
    if outcome.code is not None:
        return answer(request, outcome, "drop")
    etag = etag_of(outcome.data.encode())
    if etag in known or "*" in known:
        return Response(status_code=304, headers={"etag": etag, **ANSWER_HEADERS})
    return answer(request, outcome, "drop", {"etag": etag})


def etag_of(drop: bytes) -> str:
    """The ETag of a drop in JSON."""
    return f'"{orjson.loads(drop)["revision"]}-{sha256(drop).hexdigest()[:16]}"'


def revision_to_match(request: Request) -> int | None:
    """The revision that If-Match asks for; None if any will do. Raises VALIDATION_ERROR, also of weak ETags alone.

    Revisions only rise, so of several the greatest is the only one that the drop can still have.
    """
    given = _header(request, "if-match")
    if given is None or given == "*":
        return None
    tags = ENTITY_TAG.findall(given)
    if not tags or ENTITY_TAG.sub("", given).strip(" \t,"):
        raise invalid("If-Match", 'must be * or ETags such as "3-9f86d081884c7d65", with their quotes')
    if all(tag.startswith("W/") for tag in tags):  # a proxy that compresses answers may have made it weak
        raise invalid("If-Match", "takes no weak ETag; send it without W/")
    return max((int(tag[1]) for tag in map(ETAG.fullmatch, tags) if tag), default=NO_REVISION)


def known_etags(request: Request) -> list[str]:
    """The ETags in If-None-Match, weak ones as if they were strong. What is no ETag matches nothing."""
    given = _header(request, "if-none-match")
    if given is None or given == "*":
        return [] if given is None else ["*"]
    return [tag.removeprefix("W/") for tag in ENTITY_TAG.findall(given)]


def _header(request: Request, name: str) -> str | None:
    # Several headers of a name that holds a list are one list.
    values = request.headers.getlist(name)
    return ", ".join(values).strip(" \t") if values else None
