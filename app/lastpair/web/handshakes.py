"""Why a WebSocket handshake is refused, as an answer in the envelope."""

from websockets.exceptions import InvalidHeader

from lastpair.errors import Refusal, invalid
from lastpair.web.error_codes import RefusalWithHeaders

VERSION_HEADER, VERSION, KEY_HEADER = "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key"

UPGRADE_HEADERS = {"upgrade": "websocket", "connection": "upgrade"}
NOT_A_HANDSHAKE = RefusalWithHeaders(
    426,
    "UPGRADE_REQUIRED",
    "This path is a WebSocket: open it with a WebSocket client, whose request has `Upgrade: websocket`."
    " GET /api/events sends the same events over HTTP.",
    UPGRADE_HEADERS,
)


def refusal_of(error: InvalidHeader) -> Refusal:
    """The refusal of a handshake with this header. If its version is the reason, the answer names the one that is spoken."""
    if error.name == VERSION_HEADER:
        message = f"{VERSION_HEADER}: must be {VERSION}, given once"
        return RefusalWithHeaders(426, "UPGRADE_REQUIRED", message, {VERSION_HEADER.lower(): VERSION, **UPGRADE_HEADERS})
    if error.name == KEY_HEADER:
        return invalid(KEY_HEADER, "must be 16 bytes in base64, given once")
    return invalid(error.name, "is not acceptable in a WebSocket handshake")
