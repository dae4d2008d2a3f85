// Clients of Socket.IO (npm's socket.io-client) for tests. Each line of the input is a command, each of the output its answer.

const { createInterface } = require("node:readline");
const [folder] = process.argv.slice(2);
const { io } = require(`${folder}/socket.io-client`);

const clients = [];

function connect({ url, options, count }) {
  for (let n = 0; n < count; n++) {
    const socket = io(url, { forceNew: true, ...options });
    const client = { socket, given: [], log: [] };
    socket.onAny((...event) => client.given.push(event));
    socket.on("connect", () => client.log.push("connect"));
    socket.on("disconnect", (reason) => client.log.push(reason));
    socket.on("connect_error", (error) => client.log.push(`error: ${error.message} ${error.context?.status ?? ""}`));
    clients.push(client);
  }
  return null;
}

const commands = {
  connect,
  state: () =>
    clients.map(({ socket, given, log }) => ({
      connected: socket.connected,
      transport: socket.io.engine?.transport.name,
      given: given.length,
      newest: given.at(-1) ?? null,
      log,
    })),
  given: ({ client }) => clients[client].given,
  variety: () => [...new Set(clients.map(({ given }) => JSON.stringify(given)))].map((text) => JSON.parse(text)),
  emit: ({ client, event }) => {
    clients[client].socket.emit(...event);
    return null;
  },
  ask: ({ client, event }) => clients[client].socket.timeout(5000).emitWithAck(...event),
  pause: ({ client }) => {
    clients[client].socket.io.engine.transport.ws._socket.pause();
    return null;
  },
  resume: ({ client }) => {
    clients[client].socket.io.engine.transport.ws._socket.resume();
    return null;
  },
  disconnect: ({ client }) => {
    clients[client].socket.disconnect();
    return null;
  },
};

createInterface({ input: process.stdin })
  .on("line", async (line) => {
    const { command, ...details } = JSON.parse(line);
    try {
      console.log(JSON.stringify({ answer: await commands[command](details) }));
    } catch (error) {
      console.log(JSON.stringify({ error: String(error) }));
    }
  })
  .on("close", () => process.exit(0));
