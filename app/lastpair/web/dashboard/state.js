// What the page knows: the drops as the events tell of them. No DOM here.

export const HISTORY_MS = 5 * 60 * 1000;
const OVER_MS = HISTORY_MS, LATE_MS = 2000, SAMPLE_MS = 250, FEED_LENGTH = 100, REMEMBERED = 1000;

/** The drops by id, and the latest of what happened, newest first. Times are the server's, in milliseconds. */
export class State {
  drops = new Map();
  feed = [];

  /**
   * `clock` gives the time; `onChange(dropId)` hears of a drop that looks different now, null: all do; `onFeed()` of a new line in
   * the feed, `onDoubt(dropId)` of a drop whose numbers the events leave open, `onExpired(reservationId)` of a hold that ran out.
   */
  constructor(clock, { onChange, onFeed, onDoubt, onExpired }) {
    Object.assign(this, { clock, onChange, onFeed, onDoubt, onExpired });
  }

  #count = 0;
  #countOf = new Map(); // of the latest events, by id

  /** Take in an event. */
  apply(type, data, id) {
    this.#countOf.set(id, ++this.#count);
    if (this.#countOf.size > REMEMBERED) this.#countOf.delete(this.#countOf.keys().next().value);
    this[type]?.(data);
    const drop = this.drops.get(data.dropId);
    if (drop) drop.lastType = type;
  }

  /** Take in how a drop was after the event of that id; false when that one has not come yet, or something came after it. */
  settle(row, id) {
    const drop = this.drops.get(row.id);
    if (!(drop.lastCount <= this.#countOf.get(id))) return false;
    drop.sold_stock = row.total_stock - row.available_stock - row.activity_feed.held_stock;
    this.onChange(row.id);
    return true;
  }

  /** Drops that have been over for a while leave, as they are in no new SNAPSHOT. */
  forgetOver() {
    const now = this.clock();
    for (const [dropId, drop] of this.drops) {
      drop.overSince = isOver(statusAt(drop, now)) ? (drop.overSince ?? now) : undefined;
      if (drop.overSince < now - OVER_MS) {
        this.drops.delete(dropId);
        this.onChange(null);
      }
    }
  }

  SNAPSHOT({ drops }) {
    const before = this.drops;
    this.drops = new Map(drops.map((row) => [row.id, this.#drop(row, before.get(row.id)?.history)]));
    this.onChange(null);
  }

  DROP_CREATED({ drop: row }) {
    this.drops.set(row.id, { ...this.#drop({ ...row, activity_feed: { latest_purchasers: [], held_stock: 0 } }), sold_stock: 0 });
    this.#tell(row.id, "was added", { at: row.createdAt });
    this.onChange(null);
  }

  DROP_UPDATED({ drop: row }) {
    const drop = this.drops.get(row.id);
    if (!drop) return; // one that had ended before the page was opened
    const statusBefore = drop.status;
    Object.assign(drop, row);
    this.#sample(drop);
    const news = { live: "is live", ended: "has ended" }[row.status] ?? `is ${row.status}`;
    this.#tell(row.id, statusBefore === row.status ? "was changed" : news, { at: row.updatedAt });
    this.onChange(row.id);
  }

  STOCK_UPDATED({ dropId, availableStock }) {
    this.#change(dropId, (drop) => {
      drop.available_stock = availableStock;
      this.#sample(drop);
      this.#tell(dropId, availableStock ? `has ${availableStock.toLocaleString()} left` : "has none left", { kind: "stock" });
    });
  }

  RESERVATION_EXPIRED({ dropId, reservationId }) {
    this.#change(dropId, () => {
      this.#tell(dropId, "got a unit back: a hold ran out", { kind: "expiry" });
      this.onExpired(reservationId);
    });
  }

  PURCHASE_COMPLETED({ dropId, username, purchasedAt }) {
    this.#change(dropId, (drop) => {
      drop.sold_stock += 1;
      this.#tell(dropId, `was bought by ${username}`, { kind: "sale", at: purchasedAt });
    });
  }

  ACTIVITY_UPDATED({ dropId, latestPurchasers }) {
    this.#change(dropId, (drop) => {
      drop.latest_purchasers = latestPurchasers;
      // Behind a sale it is of that. Else it may be of a refund, and no event says how many units that took back from the sold.
      if (drop.lastType !== "PURCHASE_COMPLETED") this.onDoubt(dropId);
    });
  }

  #change(dropId, change) {
    const drop = this.drops.get(dropId);
    if (drop) {
      drop.lastCount = this.#count;
      change(drop);
      this.onChange(dropId);
    }
  }

  #drop({ activity_feed: { latest_purchasers, held_stock }, ...row }, history = []) {
    const sold_stock = row.total_stock - row.available_stock - held_stock;
    const drop = { ...row, latest_purchasers, sold_stock, history, lastCount: this.#count };
    this.#sample(drop);
    return drop;
  }

  #sample(drop) {
    const now = this.clock(), { history } = drop, last = history.at(-1);
    if (history.length > 1 && now - last.at < SAMPLE_MS) last.left = drop.available_stock;
    else history.push({ at: now, left: drop.available_stock });
    while (history.length > 2 && history[1].at < now - HISTORY_MS) history.shift();
  }

  #tell(dropId, what, { kind = "news", at } = {}) {
    const { name } = this.drops.get(dropId);
    const now = this.clock(), toldAt = Date.parse(at ?? ""), newest = this.feed[0];
    // A rush changes stock many times a second: the newest line says how it is.
    if (kind === "stock" && newest?.kind === "stock" && newest.dropId === dropId) this.feed.shift();
    // What was missed happened when it says. Else one clock for all, or a line would seem older than the one below it.
    this.feed.unshift({ at: toldAt < now - LATE_MS ? toldAt : now, dropId, kind, name, what });
    this.feed.length = Math.min(this.feed.length, FEED_LENGTH);
    this.onFeed();
  }
}

/** How a drop stands at a moment: what it says it is, unless the clock knows better than the last event. */
export function statusAt(drop, now) {
  const startsAt = Date.parse(drop.starts_at ?? ""), endsAt = Date.parse(drop.ends_at ?? "");
  if (!["scheduled", "live"].includes(drop.status)) return drop.status;
  if (endsAt <= now) return "ended";
  return startsAt <= now ? "live" : "scheduled";
}

/** Nothing more is sold of it. */
export function isOver(status) {
  return ["ended", "cancelled"].includes(status);
}

/** Units held: neither left nor sold. */
export function heldStock(drop) {
  return Math.max(0, drop.total_stock - drop.available_stock - drop.sold_stock);
}
