// Runs in the page before its own scripts: a stream of events that the test makes, instead of the server's. `tell(count)` sends
// so many, and returns when the page has read them.

(() => {
  delete window.SharedWorker; // so that each page has a stream of its own
  const DROPS = 50, STOCK = 100_000, UNITS = 20, encoder = new TextEncoder(), realFetch = window.fetch;
  const drops = new Map(), streams = [];
  let eventId = 1, made = 0;

  const uuid = (n) => `00000000-0000-7000-8000-${String(n).padStart(12, "0")}`;
  function newDrop() {
    const id = uuid(made), at = new Date().toISOString();
    const drop = {
      ...TEMPLATE, id, name: `Drop ${made++}`, total_stock: STOCK, available_stock: STOCK, status: "live", starts_at: at, ends_at: null,
      createdAt: at, updatedAt: at, activity_feed: { latest_purchasers: [], held_stock: 0 },
    };
    drops.set(id, drop);
    return drop;
  }
  const encoded = (type, data, id = ++eventId) => encoder.encode(`event: ${type}\nid: ${id}\ndata: ${JSON.stringify(data)}\n\n`);
  function bare({ activity_feed, ...row }) {
    return row;
  }

  const json = (data) => Response.json({ success: true, data, meta: {} });
  window.fetch = async (url, options) => {
    const { pathname, searchParams } = new URL(url, location);
    if (pathname === "/api/watchers") return json({ watchers: 1 });
    if (pathname !== "/api/events") return realFetch(url, options);
    const asked = searchParams.getAll("dropId");
    const rows = asked.length ? asked.map((id) => drops.get(id)).filter(Boolean) : [...drops.values()];
    let stream;
    const body = new ReadableStream({
      start(controller) {
        stream = controller;
        stream.enqueue(encoded("SNAPSHOT", { drops: rows }, eventId));
        if (asked.length) stream.close();
        else streams.push(stream);
      },
      cancel() {
        if (!asked.length) streams.splice(streams.indexOf(stream), 1);
      },
    }, { highWaterMark: 0 });
    return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
  };

  /** One thing that happens to a drop, as the events of its transaction. */
  function happening(n) {
    const live = [...drops.values()].filter(({ status }) => status === "live"), drop = live[n % live.length], { id: dropId } = drop;
    const feed = drop.activity_feed, stock = () => ["STOCK_UPDATED", { dropId, availableStock: drop.available_stock }];
    const purchasers = () => ["ACTIVITY_UPDATED", { dropId, latestPurchasers: feed.latest_purchasers }];
    if (n % UNITS === UNITS - 1) { // a hold expires
      drop.available_stock += 1;
      feed.held_stock -= 1;
      return [stock(), ["RESERVATION_EXPIRED", { dropId, reservationId: uuid(n) }]];
    }
    if (n % 97 === 0 && feed.latest_purchasers.length) { // a refund: no event says how many are sold then
      drop.available_stock += 1;
      feed.latest_purchasers = feed.latest_purchasers.slice(1);
      return [stock(), purchasers()];
    }
    if (n % 2 === 0) { // a hold
      drop.available_stock -= 2;
      feed.held_stock += 2;
      return [stock()];
    }
    const username = `buyer-${n}`, purchasedAt = new Date().toISOString();
    feed.held_stock -= 1;
    feed.latest_purchasers = [{ username, purchasedAt, qty: 1 }, ...feed.latest_purchasers].slice(0, 3);
    return [["PURCHASE_COMPLETED", { dropId, username, qty: 1, purchasedAt }], purchasers()];
  }

  /** A drop ends, another one is removed, one changes, and two are new. */
  function turnover() {
    const [, ended, removed, changed] = [...drops.values()].filter(({ status }) => status === "live");
    ended.status = "ended";
    drops.delete(removed.id);
    changed.price += 1;
    const events = [["DROP_UPDATED", { drop: bare(ended) }], ["DROP_REMOVED", { dropId: removed.id }]];
    drops.delete(ended.id);
    return [...events, ["DROP_UPDATED", { drop: bare(changed) }], ...[0, 1].map(() => ["DROP_CREATED", { drop: bare(newDrop()) }])];
  }

  /** Other tasks run. A timer would wait for the clock of the test. */
  function turn() {
    return new Promise((done) => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => {
        port1.close();
        done();
      };
      port2.postMessage(null);
    });
  }

  let told = 0;
  window.tell = async (count, isNewMinute) => {
    const events = isNewMinute ? turnover() : [];
    while (events.length < count) events.push(...happening(told++));
    for (const [type, data] of events) for (const stream of streams) stream.enqueue(encoded(type, data));
    for (const stream of streams) while (stream.desiredSize < 0) await turn();
    for (let n = 0; n < 10; n++) await turn();
    return streams.length;
  };
  for (let n = 0; n < DROPS; n++) newDrop();
})();
