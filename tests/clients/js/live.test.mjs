// live() of clients/js: against the service at LASTPAIR_URL, and against a server that sends exactly what a test says.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import http from "node:http";
import { after, before, test } from "node:test";

import { Lastpair, live, snapshot } from "../../../clients/js/lastpair.js";

const { LASTPAIR_URL } = process.env;
const newUser = () => new Lastpair({ baseUrl: LASTPAIR_URL, userId: randomUUID() });

async function until(holds) {
  for (const deadline = Date.now() + 60_000; Date.now() < deadline; await new Promise((resume) => setTimeout(resume, 5))) {
    if (await holds()) return;
  }
  assert.fail(`it did not happen in time: ${holds}`);
}

/** What a test compares of a drop. No event tells `updatedAt`. */
const shown = ({ updatedAt, ...drop }) => drop;

test("the drops are what a SNAPSHOT says, after every kind of change", async (context) => {
  const seller = newUser(), buyers = [newUser(), newUser(), newUser()];
  const fields = { name: "Air", price: 5, status: "live", hold_seconds: 60 };
  const plain = await seller.createDrop({ ...fields, total_stock: 9 });
  const sized = await seller.createDrop({
    ...fields, variants: [{ name: "42", total_stock: 4 }, { name: "43", total_stock: 4 }],
  });
  const dropIds = [plain.id, sized.id], types = new Set();
  const following = seller.live({ dropIds, retryMs: 20, onChange: (drop, event) => types.add(event?.type) });
  context.after(() => following.close());
  await following.ready;
  assert.equal(following.status, "live");
  const isRight = async () => {
    const { drops } = await snapshot({ baseUrl: LASTPAIR_URL, dropIds });
    const pairs = drops.map((drop) => [shown(drop), shown(following.drops.get(drop.id))]);
    return drops.length === following.drops.size && pairs.every(([one, other]) => JSON.stringify(one) === JSON.stringify(other));
  };

  const [alice, bob, carol] = buyers, variant_id = sized.variants[1].id;
  await alice.reserve(plain.id, { qty: 2 });
  await bob.reserve(sized.id, { variant_id, qty: 3 });
  const held = await carol.reserve(plain.id);
  await until(isRight);
  const purchase = await alice.purchase(plain.id);
  await bob.purchase(sized.id);
  await carol.cancelReservation(held.id);
  await until(isRight);
  await seller.updateDrop(plain.id, { price: 6, add_stock: 3 });
  await seller.updateDrop(sized.id, { variants: sized.variants.map(({ id }) => ({ id, add_stock: 1 })), paused: true });
  await until(isRight);
  await carol.reserve(plain.id);
  await seller.refundPurchase(purchase.id);
  await until(isRight);
  await seller.cancelDrop(plain.id, { refund: true });
  await until(isRight);
  assert.deepEqual(types, new Set([
    "SNAPSHOT", "STOCK_UPDATED", "PURCHASE_COMPLETED", "ACTIVITY_UPDATED", "DROP_UPDATED", undefined,
  ]));
});

test("without dropIds new drops come and drafts go", async (context) => {
  const seller = newUser(), following = seller.live(), seen = [];
  context.after(() => following.close());
  await following.ready;
  const drop = await seller.createDrop({ name: "Air", price: 5, total_stock: 1, starts_at: "2999-01-01T00:00:00Z" });
  await until(() => following.drops.get(drop.id)?.activity_feed.held_stock === 0);
  await seller.updateDrop(drop.id, { status: "draft" });
  await until(() => !following.drops.has(drop.id));
});

test("a wrong request is refused at once, and close() ends everything", async () => {
  const wrong = live({ baseUrl: LASTPAIR_URL, dropIds: ["1"] });
  await assert.rejects(wrong.ready, ({ status, code }) => status === 400 && code === "VALIDATION_ERROR");
  assert.equal(wrong.status, "closed");
  const controller = new AbortController(), statuses = [];
  const following = live({ baseUrl: LASTPAIR_URL, signal: controller.signal, onStatus: (status) => statuses.push(status) });
  controller.abort();
  await assert.rejects(following.ready, { code: "CLOSED" });
  assert.deepEqual(statuses, ["closed"]);
});

test("what cannot be sent is refused at once, and ends a stream if a function returns it", async () => {
  const refusedAtOnce = [
    { baseUrl: "localhost:4000" }, { baseUrl: "http://local host" }, { baseUrl: "http://user@localhost" }, {},
    { baseUrl: LASTPAIR_URL, identity: { token: "a\nb" } }, { baseUrl: LASTPAIR_URL, identity: { userId: "a\nb" } },
  ];
  for (const options of refusedAtOnce) assert.throws(() => live(options), TypeError, JSON.stringify(options));
  for (const token of ["a\nb", 5, {}]) {
    let asked = 0;
    const following = live({ baseUrl: LASTPAIR_URL, retryMs: 1, identity: { token: () => (asked++, token) } });
    await until(() => following.status === "closed" || asked > 3);
    assert.equal(asked, 1);
    await assert.rejects(following.ready, TypeError);
  }
});

test("a token that cannot be had now is asked for again, whatever the error is", async (context) => {
  const errors = [new TypeError("fetch failed"), undefined, null, "no", Object.assign(new Error("no"), { status: 400 })];
  let asked = 0;
  const token = () => {
    if (asked++ < errors.length) throw errors[asked - 1];
  };
  const following = live({ baseUrl: LASTPAIR_URL, retryMs: 1, identity: { token } });
  context.after(() => following.close());
  await following.ready;
  assert.equal(asked, errors.length + 1);
});

test("a client's identity is that of its streams, unless another one is given", async () => {
  const shop = new Lastpair({ baseUrl: `http://127.0.0.1:${server.address().port}`, userId: "u" });
  for (const [options, expected] of [[undefined, "u"], [{ identity: undefined }, "u"], [{ identity: null }, undefined]]) {
    let user = "none yet";
    answers.push((response) => {
      user = response.req.headers["x-user-id"];
      stream(encoded("SNAPSHOT", "7", { drops: [] }))(response);
    });
    const following = shop.live(options);
    await following.ready;
    following.close();
    assert.equal(user, expected);
  }
});

test("a snapshot that cannot be had is an error of Lastpair", async () => {
  const baseUrl = `http://127.0.0.1:${server.address().port}`, reason = new Error("not any more");
  asked.length = 0;
  await assert.rejects(snapshot({ baseUrl, signal: AbortSignal.abort(reason) }), reason);
  assert.equal(asked.length, 0);
  answers.push((response) => response.destroy(), (response) => response.writeHead(502).end('{"error":"no"}'));
  await assert.rejects(snapshot({ baseUrl }), { name: "LastpairError", status: 0, code: "UNREACHABLE" });
  await assert.rejects(snapshot({ baseUrl }), { name: "LastpairError", status: 502, code: "UNEXPECTED_ANSWER" });
});

test("a stream that is closed reads nothing again, and leaves nothing at its signal", async () => {
  const activity = encoded("ACTIVITY_UPDATED", "8", { dropId: "a", latestPurchasers: [] });
  const first = stream(encoded("SNAPSHOT", "7", { drops: [DROP] }), activity);
  const closesItself = () => {
    answers.push(first);
    const { following } = follow({ onChange: (drop, event) => event.type === "ACTIVITY_UPDATED" && following.close() });
    return following;
  };
  asked.length = 0;
  const closed = closesItself();
  await until(() => closed.status === "closed");
  const { signal } = new AbortController();
  let listeners = 0, isEnded = false;
  signal.addEventListener = () => listeners++;
  signal.removeEventListener = () => listeners--;
  answers.push(first, (response) => response.on("close", () => (isEnded = true)));
  const { following } = follow({ signal });
  await until(() => asked.length === 3);
  following.close();
  await until(() => isEnded);
  assert.equal(listeners, 0);
  assert.equal(asked.length, 3);
});

/** A server of streams: each connection is answered by the next function. */
const answers = [], asked = [];
const server = http.createServer((request, response) => {
  asked.push(new URL(request.url, "http://localhost").searchParams.get("lastEventId"));
  (answers.shift() ?? (() => {}))(response);
});
before(() => new Promise((resolve) => server.listen(0, "127.0.0.1", resolve)));
after(() => {
  server.closeAllConnections();
  server.close();
});

const encoded = (type, id, data) => `event: ${type}\nid: ${id}\ndata: ${JSON.stringify(data)}\n\n`;
const stream = (...chunks) => async (response) => {
  response.writeHead(200, { "Content-Type": "text/event-stream; charset=utf-8" });
  for (const chunk of chunks) {
    response.write(chunk);
    await new Promise((resume) => setTimeout(resume, 2));
  }
};
const follow = (options) => {
  const events = [], statuses = [];
  const following = live({
    baseUrl: `http://127.0.0.1:${server.address().port}`,
    retryMs: 1,
    onChange: (drop, event) => events.push([event.type, event.id]),
    onStatus: (status) => statuses.push(status),
    ...options,
  });
  return { following, events, statuses };
};
const feedOf = (held_stock) => ({ held_stock, latest_purchasers: [] });
const DROP = { id: "a", name: "漢字 🧦: \u2028", available_stock: 5, total_stock: 5, variants: [], activity_feed: feedOf(0) };

test("every way to lose a connection: it goes on by position, and its statuses tell", async (context) => {
  const bytes = Buffer.from(encoded("SNAPSHOT", "7", { drops: [DROP] }));
  answers.push(
    (response) => response.writeHead(502, { "Content-Type": "text/html" }).end("<html>"),
    (response) => response.writeHead(503, { "Retry-After": "0" }).end("{}"),
    (response) => response.destroy(),
    (response) => response.writeHead(200, { "Content-Type": "text/html" }).end("<html>"),
    // Bytes that are cut anywhere, heartbeats, an event of a new type, and the end in the middle of an event.
    async (response) => {
      const cut = [...bytes].map((byte) => Buffer.of(byte));
      await stream("retry: 1000\n", ...cut, ": heartbeat\n: of a proxy\n\n", encoded("NEW", "8", {}))(response);
      response.end("event: STOCK_UPDATED\nid: 9\nda");
    },
    stream(": heartbeat\n", encoded("STOCK_UPDATED", "9", { dropId: "a", availableStock: 4 }), encoded("POSITION", "10", {})),
  );
  asked.length = 0;
  const { following, events, statuses } = follow();
  context.after(() => following.close());
  await until(() => events.length === 3);
  assert.deepEqual(events, [["SNAPSHOT", "7"], ["NEW", "8"], ["STOCK_UPDATED", "9"]]);
  assert.deepEqual(asked, [null, null, null, null, null, "8"]);
  assert.deepEqual(statuses, ["reconnecting", "live", "reconnecting", "live"]);
  assert.deepEqual(following.drops.get("a"), { ...DROP, available_stock: 4, activity_feed: feedOf(1) });
});

test("the units held are read again after a refund and a purchase in one transaction, and not after a purchase", async (context) => {
  const purchase = encoded("PURCHASE_COMPLETED", "8", { dropId: "a", username: "ann", qty: 1 });
  const activity = (id) => encoded("ACTIVITY_UPDATED", id, { dropId: "a", latestPurchasers: [] });
  const drop = { ...DROP, available_stock: 2, activity_feed: feedOf(2) }, after = { ...DROP, available_stock: 3 };
  answers.push(
    stream(
      encoded("SNAPSHOT", "7", { drops: [drop] }), purchase, activity("9"),
      purchase, encoded("STOCK_UPDATED", "11", { dropId: "a", availableStock: 3 }), activity("12"),
    ),
    stream(encoded("SNAPSHOT", "12", { drops: [{ ...after, activity_feed: feedOf(1) }] })),
  );
  asked.length = 0;
  const reread = [], { following } = follow({ onChange: (drop, event) => event || reread.push(drop) });
  context.after(() => following.close());
  await until(() => reread.length === 1);
  assert.deepEqual(reread, [{ ...after, activity_feed: feedOf(1) }]);
  assert.deepEqual(following.drops.get("a"), reread[0]);
  assert.equal(asked.length, 2);
});

test("a row that is older than the drop is not taken, even if as many units are available", async (context) => {
  const stock = (id, availableStock) => encoded("STOCK_UPDATED", id, { dropId: "a", availableStock });
  const activity = (id) => encoded("ACTIVITY_UPDATED", id, { dropId: "a", latestPurchasers: [] });
  const row = (held_stock) => ({ ...DROP, available_stock: 3, activity_feed: feedOf(held_stock) });
  let go, events = 0;
  answers.push(
    (response) => {
      stream(encoded("SNAPSHOT", "7", { drops: [row(1)] }), activity("8"))(response);
      go = () => response.write(stock("9", 2) + stock("10", 3) + activity("11"));
    },
    async (response) => {
      go();
      await until(() => events === 5);
      stream(encoded("SNAPSHOT", "8", { drops: [row(1)] }))(response);
    },
    stream(encoded("SNAPSHOT", "11", { drops: [row(2)] })),
  );
  const reread = [], { following } = follow({ onChange: (drop, event) => (event ? events++ : reread.push(drop)) });
  context.after(() => following.close());
  await until(() => reread.length > 0);
  assert.deepEqual(reread, [row(2)]);
});

test("RESYNC_REQUIRED is told, and the SNAPSHOT replaces the drops", async (context) => {
  answers.push((response) => stream(
    encoded("SNAPSHOT", "7", { drops: [DROP] }),
    encoded("RESYNC_REQUIRED", "7", { reason: "slow" }),
    encoded("SNAPSHOT", "20", { drops: [{ ...DROP, id: "b" }] }),
  )(response));
  const { following, events } = follow();
  context.after(() => following.close());
  await until(() => events.length === 3);
  assert.deepEqual(events, [["SNAPSHOT", "7"], ["RESYNC_REQUIRED", "7"], ["SNAPSHOT", "20"]]);
  assert.deepEqual([...following.drops.keys()], ["b"]);
});

test("Retry-After of a stream is honoured", async (context) => {
  answers.push(
    (response) => response.writeHead(429, { "Retry-After": "1" }).end("{}"),
    stream(encoded("SNAPSHOT", "7", { drops: [] })),
  );
  const begun = performance.now(), { following } = follow();
  context.after(() => following.close());
  await following.ready;
  assert.ok(performance.now() - begun >= 990);
});

test("the drops of a node that was away are added", async (context) => {
  answers.push(stream(
    encoded("SNAPSHOT", "0:7", { drops: [{ id: "a" }], incomplete: ["node 2"] }),
    encoded("SNAPSHOT", "0:7,2:3", { drops: [{ id: "b" }], completes: ["node 2"] }),
  ));
  const following = live({ baseUrl: `http://127.0.0.1:${server.address().port}`, retryMs: 20 });
  context.after(() => following.close());
  await until(() => following.drops.size === 2);
  assert.deepEqual([...following.drops.keys()], ["a", "b"]);
  const before = asked.length;
  answers.push(stream(encoded("SNAPSHOT", "0:8,2:3", { drops: [{ id: "b" }] })));
  server.closeAllConnections();
  await until(() => following.drops.size === 1);
  assert.equal(asked[before], "0:7,2:3");
});
