// Reserves in PostgreSQL by a transaction for each request, behind Fastify: the shape of holdfast, and of most services. The
// transaction locks the row of the drop, so the requests of one drop pass one after the other, each with its own commit.
//
// Settings for speed: named statements, which PostgreSQL parses once a session; a Unix socket; a pool of 16 sessions (4 to 32
// made no difference); no logger.
//
// Environment: PORT, and PGHOST, PGUSER and PGDATABASE of a database with the tables of tables.sql.

const { randomUUID } = require("node:crypto");
const Fastify = require("fastify");
const { Pool } = require("pg");

const HOLD_SECONDS = 86400;
const SOLD_OUT = "Every unit of this drop is held or sold. A unit comes back when a hold expires or is cancelled.";
const LOCK = { name: "lock", text: "select available_stock from holdfast.drops where id = $1 for update" };
const INSERT = {
  name: "insert",
  text:
    "insert into holdfast.reservations (id, drop_id, user_id, status, expires_at)" +
    ` values ($1, $2, $3, 'ACTIVE', now() + interval '${HOLD_SECONDS} seconds') returning expires_at, created_at`,
};
const TAKE = { name: "take", text: "update holdfast.drops set available_stock = available_stock - 1 where id = $1" };

const pool = new Pool({ max: 16 });
const app = Fastify({ logger: false });

app.get("/healthz", async () => ({ status: "ok" }));

app.post("/api/drops/:dropId/reserve", async (request, reply) => {
  const { dropId } = request.params;
  const userId = request.headers["x-user-id"];
  const requestId = randomUUID();
  const id = randomUUID();
  const session = await pool.connect();
  let hold;
  try {
    await session.query("begin");
    const { rows } = await session.query({ ...LOCK, values: [dropId] });
    if (rows.length === 1 && rows[0].available_stock > 0) {
      hold = (await session.query({ ...INSERT, values: [id, dropId, userId] })).rows[0];
      await session.query({ ...TAKE, values: [dropId] });
    }
    await session.query("commit");
  } catch (error) {
    await session.query("rollback");
    throw error;
  } finally {
    session.release();
  }
  reply.header("content-type", "application/json");
  if (hold === undefined) {
    reply.code(409);
    return `{"success":false,"error":{"code":"OUT_OF_STOCK","message":"${SOLD_OUT}"},"meta":{"requestId":"${requestId}"}}`;
  }
  const createdAt = hold.created_at.toISOString();
  reply.code(201);
  return (
    `{"success":true,"data":{"reservation":{"id":"${id}","drop_id":"${dropId}","variant_id":null,"user_id":"${userId}",` +
    `"basket_id":null,"qty":1,"unit_price":1.00,"currency":"USD","amount":1.00,"status":"ACTIVE",` +
    `"expires_at":"${hold.expires_at.toISOString()}","extended_at":null,` +
    `"createdAt":"${createdAt}","updatedAt":"${createdAt}"}},"meta":{"requestId":"${requestId}"}}`
  );
});

app.listen({ port: Number(process.env.PORT), host: "127.0.0.1", backlog: 2048 });
