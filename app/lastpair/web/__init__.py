"""HTTP, Server-Sent Events, WebSocket, identity, the contract and the pages."""
