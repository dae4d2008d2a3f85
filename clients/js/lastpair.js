// The JavaScript client of Lastpair: the REST API, and the state of drops as it changes. It has no dependency and needs no build
// step. It runs in browsers, in workers, and in Node 18 or later. lastpair.d.ts has the types and describes every method.

/** Tabs share a worker by its name, so a worker of one version never serves the tabs of another. */
export const VERSION = "0.3.0";

// Requests.

const TIMEOUT_MS = 20_000, RETRIES = 5, RETRY_MS = 300, MAX_RETRY_MS = 4000, MAX_RETRY_AFTER_MS = 30_000;
const MAX_TIMER_MS = 2 ** 31 - 1; // a timer for longer, or for Infinity, would end at once
const PASSING_STATUSES = new Set([0, 429, 502, 503, 504]);
const NOT_STARTED_CODES = new Set(["RATE_LIMITED", "OVERLOADED", "IDENTITY_UNAVAILABLE"]);
// The answer to a DELETE whose row is gone. All other DELETEs leave the row, and answer it each time.
const REMOVED_CODE = "WEBHOOK_ENDPOINT_NOT_FOUND";

/**
 * A refusal of the API, or a request that got no answer: then `status` is 0, and `code` is UNREACHABLE, with the error of `fetch`
 * as its `cause`, or TIMEOUT. What cannot be sent at all is a TypeError.
 */
export class LastpairError extends Error {
  constructor(status, { code, message, items }, { requestId, retryAfterMs, ...options } = {}) {
    super(message, options);
    Object.assign(this, { name: "LastpairError", status, code, items, requestId, retryAfterMs });
  }
}

/** A list that is read page by page, as far as it is needed. */
class List {
  #read;
  incomplete = [];

  constructor(read) {
    this.#read = read;
  }

  async *pages() {
    this.incomplete = [];
    let cursor;
    do {
      const { rows, nextCursor, incomplete = [] } = await this.#read(cursor);
      this.incomplete = [...new Set([...this.incomplete, ...incomplete])];
      yield rows;
      cursor = nextCursor;
    } while (cursor !== undefined);
  }

  async *[Symbol.asyncIterator]() {
    for await (const rows of this.pages()) yield* rows;
  }
}

export class Lastpair {
  #settings;

  constructor({
    baseUrl = "", token, userId, userName, fetch, timeoutMs = TIMEOUT_MS, retries = RETRIES, retryMs = RETRY_MS,
  } = {}) {
    urlOf(baseUrl, "");
    checkIdentity({ token, userId, userName });
    this.#settings = { baseUrl: baseUrl.replace(/\/$/, ""), token, userId, userName, fetch, timeoutMs, retries, retryMs };
  }

  // Buyers.

  listDrops(query, options) { return this.#list("/drops", "drops", query, options); }
  getDrop(dropId, options) { return this.#call("GET", `/drops/${id(dropId)}`, "drop", undefined, options); }
  reserve(dropId, body, options) { return this.#call("POST", `/drops/${id(dropId)}/reserve`, "reservation", body, options); }
  purchase(dropId, body, options) { return this.#call("POST", `/drops/${id(dropId)}/purchase`, "purchase", body, options); }

  listMyReservations(query, options) { return this.#list("/reservations/me", "reservations", query, options); }
  getReservation(reservationId, options) {
    return this.#call("GET", `/reservations/${id(reservationId)}`, "reservation", undefined, options);
  }
  extendReservation(reservationId, options) {
    return this.#call("POST", `/reservations/${id(reservationId)}/extend`, "reservation", undefined, options);
  }
  cancelReservation(reservationId, options) {
    return this.#call("DELETE", `/reservations/${id(reservationId)}`, "reservation", undefined, options);
  }
  getReservationHistory(reservationId, options) {
    return this.#call("GET", `/reservations/${id(reservationId)}/history`, "history", undefined, options);
  }

  reserveBasket(items, options) { return this.#call("POST", "/baskets", "basket", { items }, options); }
  getBasket(basketId, options) { return this.#call("GET", `/baskets/${id(basketId)}`, "basket", undefined, options); }
  purchaseBasket(basketId, options) {
    return this.#call("POST", `/baskets/${id(basketId)}/purchase`, "purchases", undefined, options);
  }
  cancelBasket(basketId, options) { return this.#call("DELETE", `/baskets/${id(basketId)}`, "basket", undefined, options); }

  listMyPurchases(query, options) { return this.#list("/purchases/me", "purchases", query, options); }
  getPurchase(purchaseId, options) { return this.#call("GET", `/purchases/${id(purchaseId)}`, "purchase", undefined, options); }
  getPayment(paymentId, options) { return this.#call("GET", `/payments/${id(paymentId)}`, "payment", undefined, options); }
  cancelPayment(paymentId, options) { return this.#call("DELETE", `/payments/${id(paymentId)}`, "payment", undefined, options); }
  forgetMe(options) { return this.#call("DELETE", "/users/me", "user", undefined, options); }

  // Sellers.

  createDrop(drop, options) { return this.#call("POST", "/drops", "drop", drop, options); }
  updateDrop(dropId, changes, options) { return this.#call("PATCH", `/drops/${id(dropId)}`, "drop", changes, options); }
  cancelDrop(dropId, body, options) { return this.#call("POST", `/drops/${id(dropId)}/cancel`, "drop", body, options); }
  refundPurchase(purchaseId, body, options) {
    return this.#call("POST", `/purchases/${id(purchaseId)}/refund`, "purchase", body, options);
  }
  listDropHistory(dropId, query, options) { return this.#list(`/drops/${id(dropId)}/history`, "history", query, options); }
  listDropReservations(dropId, query, options) {
    return this.#list(`/drops/${id(dropId)}/reservations`, "reservations", query, options);
  }
  listDropPurchases(dropId, query, options) {
    return this.#list(`/drops/${id(dropId)}/purchases`, "purchases", query, options);
  }
  exportDropReservations(dropId, query, options) { return this.#csv(`/drops/${id(dropId)}/reservations`, query, options); }
  exportDropPurchases(dropId, query, options) { return this.#csv(`/drops/${id(dropId)}/purchases`, query, options); }
  listDropPayments(dropId, query, options) { return this.#list(`/drops/${id(dropId)}/payments`, "payments", query, options); }
  getDropMoney(dropId, options) { return this.#call("GET", `/drops/${id(dropId)}/money`, "money", undefined, options); }
  listPaymentProblems(query, options) { return this.#list("/payments/problems", "problems", query, options); }
  listDropProviderCalls(dropId, query, options) {
    return this.#list(`/drops/${id(dropId)}/provider-calls`, "calls", query, options);
  }
  retryProviderCall(callId, options) {
    return this.#call("POST", `/provider-calls/${id(callId)}/retry`, "call", undefined, options);
  }

  createWebhookEndpoint(endpoint, options) {
    return this.#call("POST", "/webhook-endpoints", "webhook_endpoint", endpoint, options);
  }
  listWebhookEndpoints(query, options) { return this.#list("/webhook-endpoints", "webhook_endpoints", query, options); }
  getWebhookEndpoint(endpointId, options) {
    return this.#call("GET", `/webhook-endpoints/${id(endpointId)}`, "webhook_endpoint", undefined, options);
  }
  updateWebhookEndpoint(endpointId, changes, options) {
    return this.#call("PATCH", `/webhook-endpoints/${id(endpointId)}`, "webhook_endpoint", changes, options);
  }
  deleteWebhookEndpoint(endpointId, options) {
    return this.#call("DELETE", `/webhook-endpoints/${id(endpointId)}`, "webhook_endpoint", undefined, options);
  }
  rotateWebhookSecret(endpointId, options) {
    return this.#call("POST", `/webhook-endpoints/${id(endpointId)}/rotate-secret`, "webhook_endpoint", undefined, options);
  }
  sendTestWebhook(endpointId, options) {
    return this.#call("POST", `/webhook-endpoints/${id(endpointId)}/test`, "webhook_delivery", undefined, options);
  }
  listWebhookDeliveries(endpointId, query, options) {
    return this.#list(`/webhook-endpoints/${id(endpointId)}/deliveries`, "webhook_deliveries", query, options);
  }
  replayWebhookDelivery(deliveryId, options) {
    return this.#call("POST", `/webhook-deliveries/${id(deliveryId)}/replay`, "webhook_delivery", undefined, options);
  }

  // Everybody.

  getActivity({ seconds, dropIds: dropId } = {}, options) {
    return this.#call("GET", "/activity", "activity", undefined, { ...options, query: { seconds, dropId } });
  }
  watchers(options) { return this.#call("GET", "/watchers", "watchers", undefined, options); }
  live(options) {
    const { baseUrl, token, userId } = this.#settings;
    return live({ baseUrl, identity: token || userId ? { token, userId } : undefined, ...given(options) });
  }

  async request(method, path, { query = {}, body, signal, idempotencyKey, ifMatch, accept, ...options } = {}) {
    const { baseUrl, userId, userName, ...settings } = { ...this.#settings, ...given(options) };
    const parameters = Object.entries(query).flatMap(([name, value]) => [value ?? []].flat().map((each) => [name, each]));
    const search = parameters.length > 0 ? `?${new URLSearchParams(parameters)}` : "";
    const url = urlOf(baseUrl, path + search);
    method = method.toUpperCase();
    const key = method === "POST" ? idempotencyKey || newKey() : undefined; // retries repeat it, so nothing happens twice
    let mayBeDone = false;
    for (let failures = 0; ; failures++) {
      const headers = identityHeaders({ token: await currentToken(settings), userId, userName });
      if (key) headers.set("Idempotency-Key", key);
      if (ifMatch) headers.set("If-Match", ifMatch);
      if (accept) headers.set("Accept", accept);
      if (body !== undefined) headers.set("Content-Type", "application/json");
      const request = { method, headers, body: body && JSON.stringify(body) };
      new Request(url, request); // throws what fetch would call a lost connection, although no attempt can succeed
      try {
        return await attempt(url, request, settings, signal);
      } catch (error) {
        if (!(error instanceof LastpairError)) throw error;
        const { code, requestId } = error;
        if (mayBeDone && method === "DELETE" && code === REMOVED_CODE) return { data: {}, meta: { requestId } };
        mayBeDone ||= !NOT_STARTED_CODES.has(code);
        if (failures >= settings.retries || !mayRetry(method, error)) throw error;
        const backoffMs = backoff(settings.retryMs, failures, MAX_RETRY_MS);
        await sleep((error.retryAfterMs ?? 0) + backoffMs, signal);
      }
    }
  }

  async #call(method, path, name, body, options) {
    const { data } = await this.request(method, path, { ...options, body });
    return data[name];
  }

  async #csv(path, query, options) {
    return (await this.request("GET", path, { ...options, query, accept: "text/csv" })).data;
  }

  #list(path, name, query, options) {
    return new List(async (cursor) => {
      const { data, meta } = await this.request("GET", path, { ...options, query: { ...query, cursor } });
      return { rows: data[name], ...meta };
    });
  }
}

/** The options that are given. One that is undefined must not hide a setting. */
function given(options = {}) {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

/** An id as a segment of a path. */
function id(value) {
  return encodeURIComponent(value);
}

/** The URL of a path of the API. Throws TypeError if no request can be sent there. */
function urlOf(baseUrl, path) {
  new URL(baseUrl, globalThis.location?.href); // throws for "http://", to which the path would add a host
  const url = new URL(`${baseUrl.replace(/\/$/, "")}/api${path}`, globalThis.location?.href);
  const isSendable = /^https?:$/.test(url.protocol) && !url.username && !url.password && !/[?#]/.test(baseUrl);
  if (!isSendable) throw new TypeError("baseUrl: it must be of http or https, without a password, a query and a fragment");
  return url.href;
}

/** A text as a header can have it: each character stands for a byte of the text in UTF-8. */
function utf8(text) {
  return String.fromCharCode(...new TextEncoder().encode(text));
}

/** A new Idempotency-Key. It must differ from the user's other keys and is no secret; Node 18 has no global `crypto`. */
function newKey() {
  return Array.from({ length: 3 }, () => Math.random().toString(36).slice(2)).join("-");
}

/**
 * Whether it is safe and sensible to send the request again. A PATCH has no key and may add stock, so it is repeated only if it
 * was not started.
 */
function mayRetry(method, { status, code, retryAfterMs = 0 }) {
  if (!PASSING_STATUSES.has(status) || retryAfterMs > MAX_RETRY_AFTER_MS) return false;
  return method !== "PATCH" || NOT_STARTED_CODES.has(code);
}

/** The pause after so many failures in a row, with jitter, so that not all clients come back at the same moment. */
function backoff(firstMs, failures, maxMs) {
  return Math.min(firstMs * 2 ** failures, maxMs) * (0.5 + Math.random() / 2);
}

/** Wait. Rejects with the signal's reason as soon as it is aborted. */
function sleep(ms, signal) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const timer = setTimeout(finish, ms);
    function finish() {
      clearTimeout(timer);
      signal?.removeEventListener("abort", finish);
      if (signal?.aborted) reject(signal.reason);
      else resolve();
    }
    signal?.addEventListener("abort", finish);
  });
}

/** The `{ data, meta, etag }` of one attempt. Throws LastpairError, or the signal's reason. */
async function attempt(url, request, { fetch = globalThis.fetch, timeoutMs }, signal) {
  signal?.throwIfAborted();
  const connection = new AbortController(), abort = () => connection.abort();
  const timer = setTimeout(abort, Math.min(timeoutMs, MAX_TIMER_MS));
  signal?.addEventListener("abort", abort);
  let response, answer;
  try {
    response = await fetch(url, { ...request, signal: connection.signal });
    const isCsv = response.ok && response.headers.get("Content-Type")?.startsWith("text/csv");
    answer = isCsv ? { success: true, data: await response.text(), meta: {} } : await response.json();
  } catch (cause) {
    signal?.throwIfAborted();
    if (connection.signal.aborted) {
      throw new LastpairError(0, { code: "TIMEOUT", message: `The server did not answer within ${timeoutMs} ms.` });
    }
    if (response === undefined || response.ok) {
      const message = "The server cannot be reached. Try again in a moment.";
      throw new LastpairError(0, { code: "UNREACHABLE", message }, { cause });
    }
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
  }
  const { success, data, meta } = answer ?? {};
  if (success && data !== undefined) return { data, meta: meta ?? {}, etag: response.headers.get("ETag") ?? undefined };
  throw refusalOf(response, answer, `The answer ${response.status} is not one of the API.`);
}

/** The error that an answer says. A proxy's may be any JSON: then the error has this message. */
function refusalOf(response, answer, message) {
  const { error, meta } = answer ?? {};
  const isRefusal = typeof error?.code === "string" && typeof error.message === "string";
  return new LastpairError(response.status, isRefusal ? error : { code: "UNEXPECTED_ANSWER", message }, {
    requestId: meta?.requestId,
    retryAfterMs: retryAfterMs(response),
  });
}

/** How long an answer says to wait. */
function retryAfterMs(response) {
  const seconds = Number(response.headers.get("Retry-After") ?? NaN); // NaN also for a date, which no answer of the API has
  return seconds >= 0 ? 1000 * seconds : undefined;
}

// The state of drops.

const STREAM_RETRY_MS = 1000, MAX_STREAM_RETRY_MS = 30_000, MAX_STREAM_RETRY_AFTER_MS = 300_000;
const SILENCE_MS = 40_000; // a running server sends at least a heartbeat every 15 s
const HIDDEN_MS = 10_000;
const MAX_REREAD = 50;
const WORKER_BEAT_MS = 10_000, WORKER_SILENCE_MS = 40_000, WORKER_START_MS = 5000;

/** Follows drops until it is closed. */
export function live(options) {
  return new Live(options);
}

class Live {
  drops = new Map();
  status = "connecting";
  #settings;
  #source;
  #lastEventId = null;
  #hiddenTimer;
  #settleReady;
  #bought = new Set(); // drops of which the last event was PURCHASE_COMPLETED
  #unsure = new Set(); // drops whose held_stock must be read again
  #rereadTimer;
  #rereading; // the AbortController of the request
  #rereads = 0; // that were in vain

  constructor({
    baseUrl = "", dropIds = [], identity, hiddenMs = HIDDEN_MS, retryMs = STREAM_RETRY_MS, shared = true, signal, onChange,
    onStatus,
  } = {}) {
    const url = eventsUrl(baseUrl, dropIds);
    checkIdentity(identity ?? {});
    this.#settings = { url, baseUrl, identity, hiddenMs, retryMs, shared, signal, onChange, onStatus };
    this.ready = new Promise((resolve, reject) => {
      this.#settleReady = { resolve, reject };
    });
    this.ready.catch(() => {}); // nobody has to wait for it
    if (signal?.aborted) return this.close();
    signal?.addEventListener("abort", this.#onAbort);
    globalThis.document?.addEventListener("visibilitychange", this.#onVisibility);
    for (const [type, listener] of Object.entries(this.#listeners)) globalThis.addEventListener?.(type, listener);
    this.#resume();
    if (globalThis.document?.hidden) this.#onVisibility();
  }

  close() {
    this.#settings.signal?.removeEventListener("abort", this.#onAbort);
    globalThis.document?.removeEventListener("visibilitychange", this.#onVisibility);
    for (const [type, listener] of Object.entries(this.#listeners)) globalThis.removeEventListener?.(type, listener);
    clearTimeout(this.#hiddenTimer);
    this.#end("closed");
    this.#settleReady.reject(new LastpairError(0, { code: "CLOSED", message: "The subscription was closed." }));
  }

  #onAbort = () => this.close();

  #onVisibility = () => {
    clearTimeout(this.#hiddenTimer);
    if (document.hidden) this.#hiddenTimer = setTimeout(this.#pause, Math.min(this.#settings.hiddenMs, MAX_TIMER_MS));
    else this.#resume();
  };

  #pause = () => this.#end("paused");

  // A browser that loses its network leaves the connection open, and without this a page would wait for SILENCE_MS.
  #onOffline = () => this.#source && this.#end("reconnecting");

  #onOnline = () => this.status !== "paused" && this.#resume();

  #resume = () => {
    if (this.status === "closed") return;
    if (this.#source !== undefined) return this.#source.wake();
    if (this.status === "paused") this.#setStatus("connecting");
    this.#source = openSource(this.#settings, this.#lastEventId, {
      events: (events) => {
        for (const event of events) {
          if (this.#source) this.#apply(event); // a handler may have closed it
        }
      },
      status: (status) => this.#setStatus(status),
      refused: (error) => {
        this.#settleReady.reject(error instanceof Error ? error : new LastpairError(error.status, error, error)); // a worker's
        this.close();
      },
    });
    this.#rereadSoon();
  };

  // A page that the browser keeps for the way back must hold no stream.
  #listeners = { pagehide: this.#pause, pageshow: this.#resume, offline: this.#onOffline, online: this.#onOnline };

  #end(status) {
    clearTimeout(this.#rereadTimer);
    this.#rereading?.abort();
    this.#source?.close();
    this.#source = undefined;
    if (this.status !== "closed") this.#setStatus(status);
  }

  #setStatus(status) {
    if (status === this.status) return;
    this.status = status;
    this.#tell(this.#settings.onStatus, status);
  }

  #apply(event) {
    this.#lastEventId = event.id;
    if (event.type === "POSITION") return;
    const dropId = event.data.dropId ?? event.data.drop?.id, before = this.drops.get(dropId);
    applyEvent(this.drops, event);
    this.#tell(this.#settings.onChange, this.drops.get(dropId) ?? before, event);
    if (event.type === "SNAPSHOT") this.#settleReady.resolve(this);
    this.#noteHeld(event, dropId);
  }

  /**
   * A refund is announced like a change of a purchaser's name, and without its units, so the units held are read again then. An
   * ACTIVITY_UPDATED right after a PURCHASE_COMPLETED tells of that purchase alone.
   */
  #noteHeld({ type, data }, dropId) {
    if (type === "SNAPSHOT") {
      if (!data.completes) this.#bought.clear();
      for (const { id } of data.drops) this.#unsure.delete(id);
    } else if (type === "ACTIVITY_UPDATED" && !this.#bought.has(dropId) && this.drops.has(dropId)) {
      const isFirst = this.#unsure.size === 0;
      this.#unsure.add(dropId);
      if (isFirst) this.#rereadSoon();
    }
    if (type === "PAYMENT_UPDATED") return; // it may come between the two, and tells nothing of the drop
    if (type === "PURCHASE_COMPLETED") this.#bought.add(dropId);
    else this.#bought.delete(dropId);
  }

  #rereadSoon() {
    clearTimeout(this.#rereadTimer);
    if (this.#unsure.size === 0 || this.#source === undefined) return;
    this.#rereadTimer = setTimeout(() => this.#reread(), backoff(this.#settings.retryMs, this.#rereads, MAX_STREAM_RETRY_MS));
  }

  async #reread() {
    const dropIds = [...this.#unsure].slice(0, MAX_REREAD), asked = new Map(this.drops);
    const { signal } = this.#rereading = new AbortController();
    const answer = await snapshot({ baseUrl: this.#settings.baseUrl, dropIds, signal }).catch(() => undefined);
    if (signal.aborted) return;
    let isInVain = true;
    for (const row of answer?.drops ?? []) {
      const drop = this.drops.get(row.id);
      // A drop that changed meanwhile may look like an older row: after a hold and a refund as many are available as before.
      if (!drop || drop !== asked.get(row.id) || !this.#unsure.has(row.id) || !isSameMoment(drop, row)) continue;
      isInVain = false;
      this.#unsure.delete(row.id);
      this.drops.set(row.id, { ...drop, activity_feed: row.activity_feed });
      this.#tell(this.#settings.onChange, this.drops.get(row.id), undefined);
    }
    for (const dropId of dropIds) {
      if (!this.drops.has(dropId)) this.#unsure.delete(dropId);
    }
    // A drop that changes all the time has its first pause at any moment, so only a request that failed makes the next one wait long.
    this.#rereads = answer === undefined ? this.#rereads + 1 : Number(isInVain);
    this.#rereadSoon();
  }

  #tell(handler, ...args) {
    try {
      handler?.(...args);
    } catch (error) {
      // An error in the page does not mean that the connection is lost. It is reported as any error that nobody catches.
      queueMicrotask(() => {
        throw error;
      });
    }
  }
}

/** Change the drops, a Map by id, as an event says. A drop that changes is replaced by a new object. */
export function applyEvent(drops, { type, data }) {
  const drop = drops.get(data.dropId ?? data.drop?.id);
  const change = (fields) => {
    if (drop) drops.set(drop.id, { ...drop, ...fields });
  };
  switch (type) {
    case "SNAPSHOT":
      if (!data.completes) drops.clear(); // else these are missing from the one before
      for (const row of data.drops) drops.set(row.id, row);
      break;
    case "DROP_CREATED":
      drops.set(data.drop.id, { activity_feed: { latest_purchasers: [], held_stock: 0 }, ...drop, ...withHeld(drop, data.drop) });
      break;
    case "DROP_UPDATED":
      change(withHeld(drop, data.drop));
      break;
    case "DROP_REMOVED":
      drops.delete(data.dropId);
      break;
    case "STOCK_UPDATED": {
      const left = new Map((data.variants ?? []).map((variant) => [variant.id, variant.availableStock]));
      const variants = drop?.variants.map((variant) => (
        left.has(variant.id) ? { ...variant, available_stock: left.get(variant.id) } : variant
      ));
      change(withHeld(drop, { available_stock: data.availableStock, variants }));
      break;
    }
    case "PURCHASE_COMPLETED":
      change({ activity_feed: { ...drop?.activity_feed, held_stock: drop?.activity_feed.held_stock - data.qty } });
      break;
    case "ACTIVITY_UPDATED":
      change({ activity_feed: { ...drop?.activity_feed, latest_purchasers: data.latestPurchasers } });
  }
}

/** These new fields of a drop, and the units held that follow from them: what is neither left nor sold. */
function withHeld(drop, fields) {
  if (!drop) return fields;
  const { total_stock, available_stock, activity_feed } = drop, after = { total_stock, ...fields };
  const sold = total_stock - available_stock - activity_feed.held_stock;
  return { ...fields, activity_feed: { ...activity_feed, held_stock: after.total_stock - after.available_stock - sold } };
}

/** Whether a row that was read again tells the same stock and purchasers as the drop. If not, one of them is newer. */
function isSameMoment(drop, row) {
  const facts = ({ total_stock, available_stock, activity_feed }) => (
    JSON.stringify([total_stock, available_stock, activity_feed.latest_purchasers])
  );
  return facts(drop) === facts(row);
}

/** The drops with these ids, in any status but draft, as they are now: `{ drops, id }`, with the id of the last event in them. */
export async function snapshot({ baseUrl = "", dropIds = [], signal } = {}) {
  const url = eventsUrl(baseUrl, dropIds), connection = new AbortController(), abort = () => connection.abort(signal.reason);
  signal?.throwIfAborted();
  signal?.addEventListener("abort", abort);
  let cause;
  try {
    for await (const events of receive(url, connection)) {
      const found = events.find(({ type }) => type === "SNAPSHOT");
      if (found) return { ...found.data, id: found.id };
    }
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof LastpairError) throw error;
    cause = error;
  } finally {
    signal?.removeEventListener("abort", abort);
  }
  throw new LastpairError(0, { code: "UNREACHABLE", message: "The stream ended before its SNAPSHOT." }, { cause });
}

function eventsUrl(baseUrl, dropIds) {
  const query = new URLSearchParams([...new Set(dropIds)].sort().map((dropId) => ["dropId", dropId]));
  return urlOf(baseUrl, `/events?${query}`);
}

// Where events come from: a stream of one's own, or that of the worker which all tabs share.

let isWorkerBroken = false;

/** A stream with an identity is never shared, because the next tab may be another user's. */
function openSource({ url, identity, retryMs, shared }, lastEventId, handlers) {
  if (shared && !identity && globalThis.document && globalThis.SharedWorker && !isWorkerBroken) {
    return new SharedSource(url, retryMs, lastEventId, handlers);
  }
  return new OwnSource(url, retryMs, lastEventId, handlers, identity);
}

/** An identity that no header can have. It does not show the value, because a token is a secret. */
class IdentityError extends TypeError {}

/** The headers that say who asks. */
function identityHeaders({ token, userId, userName }) {
  if (token && typeof token !== "string") throw new IdentityError(`token: it must be a string, not a value of ${typeof token}`);
  try {
    return new Headers({
      ...(token && { Authorization: `Bearer ${token}` }),
      ...(userId && { "X-User-Id": userId }),
      ...(userName && { "X-User-Name": utf8(userName) }),
    });
  } catch {
    throw new IdentityError("token, userId, userName: one has a character that a header cannot have, a line break for example");
  }
}

/** A token that is a function is asked for anew each time. */
async function currentToken({ token }) {
  return typeof token === "function" ? token() : token;
}

/** Throws TypeError if no request can be sent with this identity. What a function returns is checked each time. */
function checkIdentity({ token, userId, userName }) {
  identityHeaders({ token: typeof token === "function" ? undefined : token, userId, userName });
}

/**
 * A stream that goes on after lost connections. It calls the handlers `events([{ type, data, id }, …])`, `status("live" |
 * "reconnecting")`, and `refused(error)` if the request itself is wrong, so that another try would be in vain.
 *
 * It reads the stream with fetch, in browsers as well as in Node, because that is one code for both, and because EventSource
 * hides the heartbeats (without them a dead connection looks like a quiet one) and gives up for good on a proxy's 502.
 */
class OwnSource {
  #connection;
  #isClosed = false;
  #endPause;
  #notBefore = 0;

  constructor(url, retryMs, lastEventId, handlers, identity) {
    this.#run(url, retryMs, lastEventId, handlers, identity);
  }

  close() {
    this.#isClosed = true;
    this.#connection.abort();
    this.#endPause?.();
  }

  /** Try again now, because somebody looks or the network is back. It is not sooner than the server asked for. */
  wake() {
    if (Date.now() >= this.#notBefore) this.#endPause?.();
  }

  async #run(url, retryMs, lastEventId, handlers, identity) {
    let failures = 0;
    while (!this.#isClosed) {
      let askedMs = 0, isAsked = false;
      this.#connection = new AbortController();
      try {
        const position = lastEventId === null ? "" : `&lastEventId=${encodeURIComponent(lastEventId)}`;
        const onOpen = () => {
          failures = 0;
          if (!this.#isClosed) handlers.status("live");
        };
        const headers = identityHeaders({ ...identity, token: await currentToken(identity ?? {}) });
        if (this.#isClosed) return;
        isAsked = true;
        for await (const events of receive(url + position, this.#connection, onOpen, headers)) {
          if (this.#isClosed) return;
          lastEventId = events.at(-1).id;
          handlers.events(events);
        }
      } catch (error) {
        if (this.#isClosed) return;
        const { status, retryAfterMs = 0 } = isAsked ? error : {}; // else it is an error of the function that returns a token
        const isRefused = status === 400 || (status === 401 && typeof identity?.token !== "function");
        if (isRefused || error instanceof IdentityError) return handlers.refused(error);
        askedMs = Math.min(retryAfterMs, MAX_STREAM_RETRY_AFTER_MS);
      }
      if (this.#isClosed) return;
      handlers.status("reconnecting");
      if (this.#isClosed) return; // by the handler
      await this.#pause(backoff(retryMs, failures++, MAX_STREAM_RETRY_MS), askedMs);
    }
  }

  async #pause(milliseconds, askedMs) {
    this.#notBefore = Date.now() + askedMs;
    let timer;
    await new Promise((resume) => {
      this.#endPause = resume;
      timer = setTimeout(resume, Math.max(milliseconds, askedMs));
    });
    clearTimeout(timer);
  }
}

/**
 * Yields the events of one connection, those together that came together. Calls onOpen() when the first bytes arrive. Throws when
 * the connection breaks, falls silent, or is refused.
 */
async function* receive(url, connection, onOpen, headers) {
  let silence;
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(() => connection.abort(), SILENCE_MS);
  };
  heard();
  try {
    const response = await fetch(url, { signal: connection.signal, headers, cache: "no-store" });
    if (!response.ok || !response.headers.get("Content-Type")?.startsWith("text/event-stream")) {
      throw refusalOf(response, await response.json().catch(() => {}), "This is no event stream.");
    }
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      heard();
      onOpen?.();
      onOpen = undefined;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      const events = [];
      for (const block of blocks) {
        const { event: type, data, id } = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
        if (data) events.push({ type, data: JSON.parse(data), id });
      }
      if (events.length > 0) yield events;
    }
  } finally {
    clearTimeout(silence);
    connection.abort();
  }
}

/**
 * The same, from the worker that all tabs share. Without it ten tabs would take more than the six connections that a browser
 * opens to a host over HTTP/1.1. If the worker does not start or falls silent, the tab gets a stream of its own.
 */
class SharedSource {
  #url;
  #retryMs;
  #lastEventId;
  #handlers;
  #port;
  #timer;
  #own;

  constructor(url, retryMs, lastEventId, handlers) {
    this.#url = url;
    this.#retryMs = retryMs;
    this.#lastEventId = lastEventId;
    this.#handlers = handlers;
    this.#connect();
  }

  close() {
    this.#handlers = undefined;
    this.#disconnect();
    this.#own?.close();
  }

  wake() {
    this.#port?.postMessage("wake");
    this.#own?.wake();
  }

  #connect() {
    this.#disconnect();
    try {
      const name = `lastpair ${VERSION}`;
      const worker = new SharedWorker(new URL("./lastpair-worker.js", import.meta.url), { type: "module", name });
      worker.onerror = () => this.#useOwn();
      this.#port = worker.port;
    } catch { // this file is of another origin, or a policy forbids workers
      return this.#useOwn();
    }
    this.#timer = setTimeout(() => this.#useOwn(), WORKER_START_MS);
    this.#port.onmessage = ({ data: { type, value } }) => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#connect(), WORKER_SILENCE_MS); // after a sleep of the machine, for example
      if (type === "events") this.#lastEventId = value.at(-1).id;
      this.#handlers?.[type]?.(value);
    };
    this.#port.postMessage({ url: this.#url, retryMs: this.#retryMs, lastEventId: this.#lastEventId });
  }

  #disconnect() {
    clearTimeout(this.#timer);
    this.#port?.postMessage("close");
    this.#port?.close();
    this.#port = undefined;
  }

  #useOwn() {
    this.#disconnect();
    if (this.#handlers === undefined || this.#own) return;
    isWorkerBroken = true;
    this.#own = new OwnSource(this.#url, this.#retryMs, this.#lastEventId, this.#handlers);
  }
}

/** What lastpair-worker.js does: it serves the streams of all tabs, and as few of them as possible. */
export function serveTabs() {
  // A tab that crashes stays in both sets until all tabs are gone and the worker with them. What is posted to it costs nothing.
  const ports = new Set(), streams = new Set();
  addEventListener("connect", ({ ports: [port] }) => {
    ports.add(port);
    port.onmessage = ({ data }) => {
      if (data === "close") {
        ports.delete(port);
        for (const each of streams) each.leave(port);
      } else if (data === "wake") {
        for (const each of streams) each.wake(port);
      } else {
        (find(data) ?? new TabStream(streams, data)).join(port);
      }
    };
  });
  setInterval(() => {
    for (const port of ports) port.postMessage({ type: "beat" });
  }, WORKER_BEAT_MS);

  /** A stream that gives a tab exactly what it lacks: one at its position, or one whose SNAPSHOT is still the state. */
  function find({ url, lastEventId }) {
    const isAtPosition = (stream) => (lastEventId === null ? stream.isNew : stream.lastEventId === lastEventId);
    return [...streams].find((stream) => stream.url === url && isAtPosition(stream));
  }
}

/**
 * A stream of the worker and the tabs that get its events. Positions cannot be compared but for equality, so a tab that comes
 * with no position, or with another one, gets a stream of its own at first. As soon as two streams have reached the same event,
 * the rest is the same for both, and they become one.
 */
class TabStream {
  #tabs = new Set();
  #status = "connecting";
  #snapshot;
  #source;
  #streams;

  constructor(streams, { url, retryMs, lastEventId }) {
    this.url = url;
    this.lastEventId = lastEventId;
    this.isNew = lastEventId === null; // no event came after the SNAPSHOT, or not even that
    this.#streams = streams.add(this);
    this.#source = new OwnSource(url, retryMs, lastEventId, {
      events: (events) => this.#onEvents(events),
      status: (status) => {
        this.#status = status;
        this.#tell("status", status);
      },
      refused: ({ status, code, message, requestId }) => {
        streams.delete(this); // no other tab may join it
        this.#tell("refused", { status, code, message, requestId });
      },
    });
  }

  join(port) {
    this.#tabs.add(port);
    port.postMessage({ type: "status", value: this.#status });
    if (this.#snapshot && this.isNew) port.postMessage({ type: "events", value: [this.#snapshot] });
    this.#source.wake();
  }

  wake(port) {
    if (this.#tabs.has(port)) this.#source.wake();
  }

  leave(port) {
    if (this.#tabs.delete(port) && this.#tabs.size === 0) this.#end();
  }

  #onEvents(events) {
    let untold = [];
    for (const event of events) {
      untold.push(event);
      this.lastEventId = event.id;
      this.isNew = event.type === "SNAPSHOT" && !event.data.completes;
      this.#snapshot = this.isNew ? event : undefined;
      if (event.type === "RESYNC_REQUIRED") continue; // a SNAPSHOT comes next, which only the tabs of this stream need
      for (const other of this.#streams) {
        if (other === this || other.url !== this.url || other.lastEventId !== event.id) continue;
        this.#tell("events", untold); // the tabs of the other stream have these
        untold = [];
        this.#takeOver(other);
      }
    }
    if (untold.length > 0) this.#tell("events", untold);
  }

  #takeOver(other) {
    if (other.isNew && !this.isNew) [this.isNew, this.#snapshot] = [true, other.#snapshot];
    for (const port of other.#tabs) {
      this.#tabs.add(port);
      port.postMessage({ type: "status", value: this.#status });
    }
    other.#end();
  }

  #end() {
    this.#streams.delete(this);
    this.#source.close();
  }

  #tell(type, value) {
    for (const port of this.#tabs) port.postMessage({ type, value });
  }
}
