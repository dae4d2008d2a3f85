"""The paths that more than one module has to know."""

API_BASES = ("/api", "/api/v1")
SSE_PATHS = frozenset(f"{base}/events" for base in API_BASES)
WEBSOCKET_PATHS = frozenset(f"{base}/ws" for base in API_BASES)
SOCKETIO_PATH = "/socket.io/"
STREAM_PATHS = SSE_PATHS | WEBSOCKET_PATHS | {SOCKETIO_PATH}
PROBE_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
