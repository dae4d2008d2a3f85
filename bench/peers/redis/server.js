// Reserves by a Lua script in Redis, behind Fastify: what one would build for speed. A hold that ends gives no unit back, nothing
// is announced, and there is no history.
//
// Settings for speed: commands that are issued in one turn of the event loop go to Redis together, over a Unix socket; no logger;
// answers are made by hand, so nothing is serialised by a schema.
//
// Environment: PORT, REDIS_SOCKET. The stock of a drop is the key stock:<id of the drop>.

const { randomUUID } = require("node:crypto");
const { readFileSync } = require("node:fs");
const { join } = require("node:path");
const Fastify = require("fastify");
const { Redis } = require("ioredis");

const HOLD_SECONDS = 86400;
const MESSAGES = {
  OUT_OF_STOCK: "Every unit of this drop is held or sold. A unit comes back when a hold expires or is cancelled.",
  ALREADY_RESERVED: "You hold a unit of this drop already.",
};

const redis = new Redis({ path: process.env.REDIS_SOCKET, enableAutoPipelining: true });
redis.defineCommand("reserve", { numberOfKeys: 2, lua: readFileSync(join(__dirname, "reserve.lua"), "utf8") });

const app = Fastify({ logger: false });

app.get("/healthz", async () => ({ status: "ok" }));

app.post("/api/drops/:dropId/reserve", async (request, reply) => {
  const { dropId } = request.params;
  const userId = request.headers["x-user-id"];
  const id = randomUUID();
  const requestId = randomUUID();
  const code = await redis.reserve(`stock:${dropId}`, `hold:${dropId}:${userId}`, id, HOLD_SECONDS);
  reply.header("content-type", "application/json");
  if (code !== "OK") {
    reply.code(409);
    return `{"success":false,"error":{"code":"${code}","message":"${MESSAGES[code]}"},"meta":{"requestId":"${requestId}"}}`;
  }
  const now = Date.now();
  const createdAt = new Date(now).toISOString();
  reply.code(201);
  return (
    `{"success":true,"data":{"reservation":{"id":"${id}","drop_id":"${dropId}","variant_id":null,"user_id":"${userId}",` +
    `"basket_id":null,"qty":1,"unit_price":1.00,"currency":"USD","amount":1.00,"status":"ACTIVE",` +
    `"expires_at":"${new Date(now + HOLD_SECONDS * 1000).toISOString()}","extended_at":null,` +
    `"createdAt":"${createdAt}","updatedAt":"${createdAt}"}},"meta":{"requestId":"${requestId}"}}`
  );
});

app.listen({ port: Number(process.env.PORT), host: "127.0.0.1", backlog: 2048 });
