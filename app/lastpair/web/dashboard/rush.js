// Simulates a rush: many buyers, each a new user, try to buy one unit of a new drop at the same time.

import { call, uuid } from "./api.js";

const MAX_CONCURRENT = 32, MAX_TRIES = 20;
const REFUSAL_TEXTS = { OUT_OF_STOCK: "found it sold out" };

/**
 * Creates a drop, lets the buyers buy, and returns sentences about the result. Calls `report(served, text)` after each buyer.
 * Throws Refusal.
 */
export async function rush({ seller, startsAt, buyers, stock }, report) {
  const { drop } = await call("POST", "/drops", {
    user: seller,
    body: { name: `Rush for ${stock}`, price: 100, total_stock: stock, starts_at: startsAt.toISOString() },
  });
  const refused = new Map();
  let served = 0, bought = 0;

  async function buy() {
    const user = uuid();
    try {
      await callWithRetries("POST", `/drops/${drop.id}/reserve`, user);
      await callWithRetries("POST", `/drops/${drop.id}/purchase`, user);
      bought += 1;
    } catch ({ code }) {
      refused.set(code, (refused.get(code) ?? 0) + 1);
    }
    served += 1;
    report(served, `${served.toLocaleString()} of ${buyers.toLocaleString()} buyers served, ${bought.toLocaleString()} got one`);
  }

  let started = 0;
  const buyOneAfterAnother = async () => {
    while (started++ < buyers) await buy();
  };
  await Promise.all(Array.from({ length: Math.min(MAX_CONCURRENT, buyers) }, buyOneAfterAnother));

  const { drop: after } = await call("GET", `/drops/${drop.id}`);
  const taken = after.total_stock - after.available_stock;
  const textOf = (code) => REFUSAL_TEXTS[code] ?? `were refused (${code})`;
  const others = [...refused].map(([code, count]) => `${count.toLocaleString()} ${textOf(code)}`);
  // People who look at the page may have bought from this drop too, so more units may be taken than these buyers bought.
  const isRight = bought <= taken && taken <= stock;
  const verdict = isRight ? "Nothing was oversold" : `Something is wrong, ${taken.toLocaleString()} units are gone`;
  return [`${bought.toLocaleString()} of ${buyers.toLocaleString()} buyers got one`, ...others].join(", ") +
    `. ${verdict}: ${bought.toLocaleString()} sold of ${stock.toLocaleString()}.`;
}

/** Calls the API, again and again while the server is too busy or out of reach. The idempotency key makes the call count once. */
async function callWithRetries(method, path, user) {
  const key = uuid();
  for (let tries = 1; ; tries++) {
    try {
      return await call(method, path, { user, key });
    } catch (refusal) {
      if (![0, 503].includes(refusal.status) || tries === MAX_TRIES) throw refusal;
      await new Promise((resume) => setTimeout(resume, 1000 * (refusal.retryAfterSeconds || 1)));
    }
  }
}
