// Every REST method of clients/js against the service at LASTPAIR_URL, and its retries through a proxy that breaks connections.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import http from "node:http";
import { after, before, test } from "node:test";

import { Lastpair, LastpairError, VERSION } from "../../../clients/js/lastpair.js";

const { LASTPAIR_URL } = process.env;
const seller = new Lastpair({ baseUrl: LASTPAIR_URL, userId: randomUUID() });
const newBuyer = (settings) => new Lastpair({ baseUrl: LASTPAIR_URL, userId: randomUUID(), ...settings });
const newDrop = (fields) => seller.createDrop({ name: "Air", price: 19.9, total_stock: 5, status: "live", ...fields });
const rows = async (list) => {
  const all = [];
  for await (const row of list) all.push(row);
  return all;
};
const refused = (status, code) => (error) => error instanceof LastpairError && error.status === status && error.code === code;

/** A proxy before the service. `answer(request, response, pass)` decides of each request; pass() returns the service's answer. */
class Proxy {
  requests = [];
  answer = async (request, response, pass) => response.end((await pass()).body);

  async start() {
    this.server = http.createServer(async (request, response) => {
      const chunks = [];
      for await (const chunk of request) chunks.push(chunk);
      this.requests.push(request);
      const pass = async () => {
        const passed = await fetch(LASTPAIR_URL + request.url, {
          method: request.method,
          headers: Object.fromEntries(Object.entries(request.headers).filter(([name]) => /^(x-|idem|content-type)/.test(name))),
          body: chunks.length > 0 ? Buffer.concat(chunks) : undefined,
        });
        response.statusCode = passed.status;
        return { status: passed.status, body: await passed.text() };
      };
      await this.answer(request, response, pass);
    });
    await new Promise((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    this.url = `http://127.0.0.1:${this.server.address().port}`;
  }

  /** The next requests fail as these functions say, and the others pass. */
  fail(...failures) {
    this.requests = [];
    this.answer = async (request, response, pass) => {
      const failure = failures.shift();
      if (failure) await failure(response, pass, request);
      else response.end((await pass()).body);
    };
  }

  get keys() {
    return this.requests.map((request) => request.headers["idempotency-key"]);
  }
}

const cut = (response) => response.destroy();
const passThenCut = async (response, pass) => {
  await pass();
  response.destroy();
};
const status = (code, headers = {}, body = "<html>") => (response) => response.writeHead(code, headers).end(body);
const refusal = (code) => JSON.stringify({ success: false, error: { code, message: "No." }, meta: { requestId: "r" } });

const proxy = new Proxy();
before(() => proxy.start());
after(() => proxy.server.close());
const proxied = (settings) => newBuyer({ baseUrl: proxy.url, retryMs: 1, ...settings });

test("drops", async () => {
  const drop = await newDrop();
  assert.deepEqual(await seller.getDrop(drop.id), drop);
  assert.ok((await rows(seller.listDrops())).some(({ id, activity_feed }) => id === drop.id && activity_feed.held_stock === 0));
  const draft = await newDrop({ status: "draft" });
  assert.ok((await rows(seller.listDrops({ status: "draft", limit: 1 }))).some(({ id }) => id === draft.id));
  const { etag, data } = await seller.request("GET", `/drops/${drop.id}`);
  assert.deepEqual(data.drop, drop);
  assert.equal((await seller.updateDrop(drop.id, { price: 20 }, { ifMatch: etag })).price, 20);
  await assert.rejects(seller.updateDrop(drop.id, { price: 21 }, { ifMatch: etag }), refused(412, "DROP_CHANGED"));
  const actions = (await rows(seller.listDropHistory(drop.id, { limit: 1 }))).map(({ action }) => action);
  assert.deepEqual(actions, ["updated", "created"]);
});

test("options that are undefined, and a time without end, are as if they were not given", async () => {
  const buyer = proxied(), drop = await newDrop();
  proxy.fail(status(503, { "Retry-After": "0" }, refusal("OVERLOADED")));
  const undefinedOptions = { timeoutMs: undefined, retries: undefined, retryMs: undefined, baseUrl: undefined, fetch: undefined };
  assert.equal((await buyer.getDrop(drop.id, undefinedOptions)).id, drop.id);
  assert.equal((await buyer.getDrop(drop.id, { timeoutMs: Infinity, retries: 0 })).id, drop.id);
  assert.equal(proxy.requests.length, 3);
});

test("each POST has a key, and no PATCH is repeated, however they are written", async () => {
  const buyer = proxied(), drop = await newDrop();
  proxy.fail(cut);
  await buyer.reserve(drop.id, undefined, { idempotencyKey: "" });
  assert.ok(proxy.keys[0] && proxy.keys[0] === proxy.keys[1]);
  proxy.fail(cut);
  await buyer.request("post", `/drops/${drop.id}/purchase`);
  assert.ok(proxy.keys[0] && proxy.keys[0] === proxy.keys[1]);
  proxy.fail(cut);
  await assert.rejects(buyer.request("patch", `/drops/${drop.id}`, { body: { add_stock: 1 } }), refused(0, "UNREACHABLE"));
  assert.equal(proxy.requests.length, 1);
});

test("what a proxy answers may be any JSON", async () => {
  const buyer = proxied(), drop = await newDrop();
  for (const body of ['{"error":"Bad Gateway"}', '{"error":null,"meta":null}', '{"error":{}}', "[]", '"no"', "null", "{"]) {
    proxy.fail(status(502, {}, body));
    assert.equal((await buyer.getDrop(drop.id)).id, drop.id);
    proxy.fail(status(502, {}, body));
    await assert.rejects(buyer.getDrop(drop.id, { retries: 0 }), refused(502, "UNEXPECTED_ANSWER"), body);
  }
  proxy.fail(status(200, {}, '{"success":true}'));
  await assert.rejects(buyer.getDrop(drop.id), refused(200, "UNEXPECTED_ANSWER"));
});

test("a new user's name", async () => {
  const userName = `Zo\u00eb \u540d\u524d ${randomUUID()}`, drop = await newDrop(), buyer = newBuyer({ userName });
  await buyer.reserve(drop.id);
  assert.equal((await rows(seller.listDropReservations(drop.id)))[0].username, userName);
});

test("settings with which no request can be sent", () => {
  const urls = [
    undefined, // there is no page whose origin it could be
    "localhost:4000", "http://", "http://:4000", "ftp://localhost", "http://local host", "http://localhost:65536", "http://[::1",
    "http://localhost?a=1", "http://localhost/shop#a", "http://user:password@localhost",
  ];
  for (const baseUrl of urls) assert.throws(() => new Lastpair({ baseUrl }), TypeError, baseUrl);
  const identities = [
    { token: "a\nb" }, { token: "\u540d" }, { token: 5 }, { token: {} }, { userId: "a\r\nb" }, { userName: "a\nb" },
    { userId: "a\0b", token: () => "a" },
  ];
  for (const identity of identities) {
    const isSecret = (error) => error instanceof TypeError && !error.message.includes("\n");
    assert.throws(() => new Lastpair({ baseUrl: LASTPAIR_URL, ...identity }), isSecret, JSON.stringify(identity));
  }
});

test("a request that cannot be sent", async () => {
  proxy.fail();
  await assert.rejects(seller.reserve(randomUUID(), {}, { idempotencyKey: "\u540d" }), TypeError);
  await assert.rejects(seller.updateDrop(randomUUID(), {}, { ifMatch: "a\nb" }), TypeError);
  await assert.rejects(proxied().request("GE T", "/drops"), TypeError);
  await assert.rejects(proxied().request("GET", "/drops", { body: {} }), TypeError);
  for (const token of ["a\nb", 5, {}]) {
    let asked = 0;
    await assert.rejects(proxied({ token: async () => (asked++, token) }).getDrop(randomUUID()), TypeError);
    assert.equal(asked, 1);
  }
  assert.equal(proxy.requests.length, 0);
  for (const oddId of ["a b", "a\nb", "a/../b", "..", "\u540d", "%"]) {
    await assert.rejects(seller.getDrop(oddId), ({ status }) => status === 400 || status === 404, oddId);
  }
});

test("the error of fetch is the cause", async () => {
  const missing = proxied({ retries: 0 }).getDrop(randomUUID());
  proxy.fail(cut);
  await assert.rejects(missing, (error) => refused(0, "UNREACHABLE")(error) && error.cause instanceof TypeError);
});

test("a list as CSV", async () => {
  const drop = await newDrop(), buyer = newBuyer();
  await buyer.reserve(drop.id, { qty: 2 });
  const purchase = await buyer.purchase(drop.id);
  const { id } = await newBuyer().reserve(drop.id);
  const linesOf = async (csv) => (await csv).trimEnd().split("\r\n").map((line) => line.split(","));
  const [names, held, ...others] = await linesOf(seller.exportDropReservations(drop.id, { status: "ACTIVE" }));
  assert.deepEqual([held[names.indexOf("id")], held.length, others], [id, names.length, []]);
  const shaky = proxied();
  proxy.fail(cut, status(503, {}, refusal("DATABASE_UNAVAILABLE")));
  const sold = await linesOf(seller.exportDropPurchases(drop.id));
  assert.equal(sold[1][sold[0].indexOf("id")], purchase.id);
  await assert.rejects(shaky.exportDropPurchases(randomUUID()), refused(404, "DROP_NOT_FOUND"));
  assert.equal(proxy.requests.length, 3);
});

test("what happened lately", async () => {
  const drops = [await newDrop(), await newDrop()], dropIds = drops.map(({ id }) => id);
  const { events, position } = await seller.getActivity({ seconds: 600, dropIds: [dropIds[0]] });
  assert.deepEqual(events.map(({ type, dropId }) => [type, dropId]), [["DROP_CREATED", dropIds[0]]]);
  assert.match(position, /^\d+$/);
  const both = await seller.getActivity({ dropIds });
  assert.deepEqual(both.drops.map(({ dropId }) => dropId).sort(), dropIds.sort());
  assert.ok((await seller.getActivity()).bucket_seconds >= 1);
});

test("a hold and a purchase", async () => {
  const buyer = newBuyer({ userName: `buyer-${randomUUID()}` });
  const drop = await newDrop({ extension_seconds: 60, total_stock: undefined, variants: [{ name: "42", total_stock: 9 }] });
  const variant_id = drop.variants[0].id;
  const held = await buyer.reserve(drop.id, { variant_id, qty: 2 });
  assert.deepEqual([held.qty, held.variant_id, held.amount], [2, variant_id, 39.8]);
  const extended = await buyer.extendReservation(held.id);
  assert.ok(Date.parse(extended.expires_at) > Date.parse(held.expires_at));
  assert.deepEqual(await buyer.getReservation(held.id), extended);
  assert.deepEqual(await rows(buyer.listMyReservations()), [extended]);
  assert.equal((await rows(seller.listDropReservations(drop.id, { status: "ACTIVE", variant_id })))[0].variant_name, "42");
  const purchase = await buyer.purchase(drop.id, { reservation_id: held.id });
  assert.deepEqual(await buyer.getPurchase(purchase.id), purchase);
  assert.deepEqual(await rows(buyer.listMyPurchases()), [purchase]);
  assert.equal((await rows(seller.listDropPurchases(drop.id, { status: "paid" })))[0].id, purchase.id);
  const history = (await buyer.getReservationHistory(held.id)).map(({ action }) => action);
  assert.deepEqual(history, ["reserved", "extended", "purchased"]);
  assert.equal((await seller.refundPurchase(purchase.id)).status, "refunded");
  const other = await buyer.reserve(drop.id, { variant_id });
  assert.equal((await buyer.cancelReservation(other.id)).status, "CANCELLED");
  assert.equal((await seller.cancelDrop(drop.id, { refund: true })).status, "cancelled");
  assert.match((await buyer.forgetMe()).username, /^former-user-/);
});

test("baskets", async () => {
  const buyer = newBuyer(), drops = [await newDrop(), await newDrop({ total_stock: 1 })];
  const items = drops.map(({ id }) => ({ drop_id: id, qty: 1 }));
  const basket = await buyer.reserveBasket(items);
  assert.deepEqual(await buyer.getBasket(basket.id), basket);
  assert.equal((await buyer.cancelBasket(basket.id)).reservations[0].status, "CANCELLED");
  const again = await buyer.reserveBasket(items);
  assert.deepEqual((await buyer.purchaseBasket(again.id)).map(({ drop_id }) => drop_id).sort(), drops.map(({ id }) => id).sort());
  await assert.rejects(newBuyer().reserveBasket(items), (error) => {
    assert.ok(refused(409, "BASKET_REFUSED")(error));
    assert.deepEqual(error.items.map(({ index, code }) => [index, code]), [[1, "OUT_OF_STOCK"]]);
    return true;
  });
});

test("a list is read page by page, and only as far as it is needed", async () => {
  const buyer = proxied(), drops = [];
  for (let n = 0; n < 5; n++) drops.unshift(await newDrop());
  for (const { id } of [...drops].reverse()) await buyer.reserve(id);
  proxy.fail();
  const pages = [];
  for await (const page of buyer.listMyReservations({ limit: 2 }).pages()) pages.push(page.map(({ drop_id }) => drop_id));
  assert.deepEqual(pages, [drops.slice(0, 2), drops.slice(2, 4), drops.slice(4)].map((page) => page.map(({ id }) => id)));
  assert.equal(proxy.requests.length, 3);
  for await (const { drop_id } of buyer.listMyReservations({ limit: 2 })) {
    assert.equal(drop_id, drops[0].id);
    break;
  }
  assert.equal(proxy.requests.length, 4);
});

test("a node that one page of a list lacked is named until the list is read anew", async () => {
  const metas = [{ nextCursor: "1", incomplete: ["node 2"] }, {}, {}];
  const fetch = async () => Response.json({ success: true, data: { drops: [] }, meta: metas.shift() });
  const drops = proxied({ fetch }).listDrops();
  for await (const _ of drops) assert.fail();
  assert.deepEqual(drops.incomplete, ["node 2"]);
  for await (const _ of drops) assert.fail();
  assert.deepEqual(drops.incomplete, []);
});

test("a refusal has its code, status, sentence and request id, and is not repeated", async () => {
  const drop = await newDrop({ total_stock: 1 }), buyer = proxied();
  await newBuyer().reserve(drop.id);
  proxy.fail();
  await assert.rejects(buyer.reserve(drop.id), (error) => {
    assert.ok(refused(409, "OUT_OF_STOCK")(error));
    assert.match(error.message, /\w/);
    assert.match(error.requestId, /\w/);
    return true;
  });
  assert.equal(proxy.requests.length, 1);
});

test("a purchase over lost connections and a proxy's errors happens once", async () => {
  const drop = await newDrop(), buyer = proxied();
  proxy.fail(cut, passThenCut, status(502), status(503, { "Retry-After": "0" }, refusal("DATABASE_UNAVAILABLE")));
  const held = await buyer.reserve(drop.id);
  assert.equal(proxy.requests.length, 5);
  assert.equal(new Set(proxy.keys).size, 1);
  const [key] = proxy.keys;
  proxy.fail(passThenCut, passThenCut);
  const purchase = await buyer.purchase(drop.id);
  assert.equal(purchase.reservation_id, held.id);
  assert.equal(new Set(proxy.keys).size, 1);
  assert.notEqual(proxy.keys[0], key);
  assert.equal((await seller.getDrop(drop.id)).available_stock, 4);
  assert.equal((await rows(buyer.listMyPurchases())).length, 1);
});

test("it gives up after its retries, and says why", async () => {
  proxy.fail(cut, cut, cut);
  await assert.rejects(proxied({ retries: 2 }).getDrop(randomUUID()), refused(0, "UNREACHABLE"));
  proxy.fail(status(502));
  await assert.rejects(proxied({ retries: 0 }).getDrop(randomUUID()), refused(502, "UNEXPECTED_ANSWER"));
  proxy.fail(status(200, {}, "<html>"));
  await assert.rejects(proxied({ retries: 0 }).getDrop(randomUUID()), refused(0, "UNREACHABLE"));
  proxy.fail(() => {}, () => {});
  await assert.rejects(proxied({ retries: 1, timeoutMs: 1000 }).getDrop(randomUUID()), refused(0, "TIMEOUT"));
  assert.equal(proxy.requests.length, 2);
});

test("Retry-After is honoured, and a long one is the caller's business", async () => {
  const drop = await newDrop(), begun = performance.now();
  proxy.fail(status(429, { "Retry-After": "1" }, refusal("RATE_LIMITED")));
  await proxied().getDrop(drop.id);
  assert.ok(performance.now() - begun >= 990);
  proxy.fail(status(429, { "Retry-After": "60" }, refusal("RATE_LIMITED")));
  await assert.rejects(proxied().getDrop(drop.id), (error) => (
    refused(429, "RATE_LIMITED")(error) && error.retryAfterMs === 60_000
  ));
});

test("a PATCH is repeated only if it was not started", async () => {
  const drop = await newDrop();
  const owner = (settings) => new Lastpair({ baseUrl: proxy.url, retryMs: 1, userId: drop.created_by, ...settings });
  proxy.fail(passThenCut);
  await assert.rejects(owner().updateDrop(drop.id, { add_stock: 1 }), refused(0, "UNREACHABLE"));
  assert.equal((await seller.getDrop(drop.id)).total_stock, 6);
  proxy.fail(status(503, { "Retry-After": "0" }, refusal("OVERLOADED")));
  assert.equal((await owner().updateDrop(drop.id, { add_stock: 1 })).total_stock, 7);
  assert.equal(proxy.keys[0], undefined);
});

test("a removal over a lost connection: the repeat finds nothing, because the first attempt removed it", async () => {
  const owner = proxied(), overloaded = status(503, { "Retry-After": "0" }, refusal("OVERLOADED"));
  const missing = refused(404, "WEBHOOK_ENDPOINT_NOT_FOUND");
  const { id } = await owner.createWebhookEndpoint({ url: "https://example.com/hook", event_types: ["drop.updated"] });
  proxy.fail(passThenCut, overloaded);
  assert.equal(await owner.deleteWebhookEndpoint(id), undefined);
  assert.equal(proxy.requests.length, 3);
  await assert.rejects(owner.deleteWebhookEndpoint(id), missing);
  proxy.fail(overloaded);
  await assert.rejects(owner.deleteWebhookEndpoint(id), missing); // no attempt can have removed it
});

test("what is given back over a lost connection is answered as the first attempt left it", async () => {
  const drop = await newDrop(), buyer = proxied();
  const held = await buyer.reserve(drop.id);
  proxy.fail(passThenCut);
  assert.equal((await buyer.cancelReservation(held.id)).status, "CANCELLED");
  const basket = await buyer.reserveBasket([{ drop_id: drop.id }]);
  proxy.fail(passThenCut);
  assert.equal((await buyer.cancelBasket(basket.id)).reservations[0].status, "CANCELLED");
  proxy.fail(passThenCut);
  await assert.rejects(buyer.cancelReservation(randomUUID()), refused(404, "RESERVATION_NOT_FOUND"));
  proxy.fail(passThenCut);
  assert.match((await buyer.forgetMe()).username, /^former-user-/);
});

test("a signal ends a request, and the pause before a retry", async () => {
  const reason = new Error("left"), controller = new AbortController();
  proxy.fail(() => controller.abort(reason));
  await assert.rejects(proxied().getDrop(randomUUID(), { signal: controller.signal }), reason);
  await assert.rejects(proxied().getDrop(randomUUID(), { signal: controller.signal }), reason);
  assert.equal(proxy.requests.length, 1);
  const another = new AbortController();
  proxy.fail((response) => {
    response.writeHead(503, { "Retry-After": "20" }).end("{}");
    setTimeout(() => another.abort(reason), 100);
  });
  await assert.rejects(proxied().getDrop(randomUUID(), { signal: another.signal }), reason);
});

test("one's own key, and a token that a function returns for each attempt", async () => {
  let tokens = 0;
  const drop = await newDrop();
  const buyer = proxied({ token: async () => `token-${++tokens}` });
  proxy.fail(cut);
  const held = await buyer.reserve(drop.id, {}, { idempotencyKey: "mine" });
  assert.deepEqual(proxy.keys, ["mine", "mine"]);
  assert.deepEqual(proxy.requests.map(({ headers }) => headers.authorization), ["Bearer token-1", "Bearer token-2"]);
  assert.equal((await buyer.reserve(drop.id, {}, { idempotencyKey: "mine" })).id, held.id);
});

test("one's own fetch sends each attempt", async () => {
  const statuses = [];
  const counted = async (url, request) => {
    const response = await fetch(url, request);
    statuses.push(response.status);
    return response;
  };
  proxy.fail(async (response) => response.writeHead(502).end());
  await proxied({ fetch: counted }).listDrops({ limit: 1 }).pages().next();
  assert.deepEqual(statuses, [502, 200]);
});

test("the version is that of the service", async () => {
  const { version } = await (await fetch(`${LASTPAIR_URL}/healthz`)).json().then(({ data }) => data);
  assert.equal(VERSION, version);
});
