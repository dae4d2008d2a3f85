// Broadcasts events to all its Socket.IO clients. The events come from a timer of this process, so no database has to be read.
//
// Settings for speed: WebSocket is the only transport, nothing is compressed, and pings are rarer than a run is long.
//
// Environment: PORT, DROP_ID. POST /start?events=<number>&pause_ms=<number> begins to send so many more events at this pace.
// GET /sent answers when each event was sent, in seconds since the epoch.

const { createServer } = require("node:http");
const { Server } = require("socket.io");

const { DROP_ID, PORT } = process.env;
const sentAt = [];

function start(events, pauseMs) {
  const begin = Date.now();
  let sent = 0;
  function next() {
    sentAt.push(Date.now() / 1000);
    io.emit("STOCK_UPDATED", { id: String(sentAt.length), dropId: DROP_ID, availableStock: 10_000_000 - sentAt.length });
    sent += 1;
    if (sent < events) setTimeout(next, Math.max(0, begin + sent * pauseMs - Date.now()));
  }
  next();
}

const server = createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://localhost");
  if (pathname === "/start") start(Number(searchParams.get("events")), Number(searchParams.get("pause_ms")));
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify(sentAt));
});

const io = new Server(server, {
  transports: ["websocket"],
  perMessageDeflate: false,
  httpCompression: false,
  serveClient: false,
  pingInterval: 300_000,
});

server.listen({ port: Number(PORT), host: "127.0.0.1", backlog: 2048 });
