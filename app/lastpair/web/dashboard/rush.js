// A rush: many buyers, each a user of its own, want a unit of a new drop at once.

import { call, uuid } from "./api.js";

const AT_ONCE = 32, TRIES = 20;
const NOUNS = { OUT_OF_STOCK: "found it sold out" };

/** Create a drop, let the buyers come, and say how it ended; `report(done, text)` meanwhile. Throws Refusal. */
export async function rush({ seller, startsAt, buyers, stock }, report) {
  const { drop } = await call("POST", "/drops", {
    user: seller,
    body: { name: `Rush for ${stock}`, price: 100, total_stock: stock, starts_at: startsAt.toISOString() },
  });
  const refused = new Map();
  let done = 0, bought = 0;

  async function buy() {
    const user = uuid();
    try {
      await insist("POST", `/drops/${drop.id}/reserve`, user);
      await insist("POST", `/drops/${drop.id}/purchase`, user);
      bought += 1;
    } catch ({ code }) {
      refused.set(code, (refused.get(code) ?? 0) + 1);
    }
    done += 1;
    report(done, `${done.toLocaleString()} of ${buyers.toLocaleString()} buyers served, ${bought.toLocaleString()} got one`);
  }

  let started = 0;
  const line = async () => {
    while (started++ < buyers) await buy();
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, buyers) }, line));

  const { drop: after } = await call("GET", `/drops/${drop.id}`);
  const taken = after.total_stock - after.available_stock;
  const others = [...refused].map(([code, count]) => `${count.toLocaleString()} ${NOUNS[code] ?? `were refused (${code})`}`);
  // Others may have bought from it, too.
  const isRight = bought <= taken && taken <= stock;
  const verdict = isRight ? "Nothing was oversold" : `Something is wrong, ${taken.toLocaleString()} units are gone`;
  return [`${bought.toLocaleString()} of ${buyers.toLocaleString()} buyers got one`, ...others].join(", ") +
    `. ${verdict}: ${bought.toLocaleString()} sold of ${stock.toLocaleString()}.`;
}

/** A call that is repeated while the server is too busy for it; the key makes it count once. */
async function insist(method, path, user) {
  const key = uuid();
  for (let tries = 1; ; tries++) {
    try {
      return await call(method, path, { user, key });
    } catch (refusal) {
      if (![0, 503].includes(refusal.status) || tries === TRIES) throw refusal;
      await new Promise((resume) => setTimeout(resume, 1000 * (refusal.retryAfterSeconds || 1)));
    }
  }
}
