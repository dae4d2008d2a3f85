// What the page knows: the drops as the events tell of them. No DOM here.

export const HISTORY_MS = 5 * 60 * 1000;
const SAMPLE_MS = 1000, FEED_LENGTH = 100;

/** The drops by id, and the latest of what happened, newest first. Times are the server's, in milliseconds. */
export class State {
  drops = new Map();
  feed = [];

  /** `clock` gives the time; `onChange(dropId)` hears of a drop that looks different now, null: all do. */
  constructor(clock, { onChange, onFeed, onDoubt }) {
    Object.assign(this, { clock, onChange, onFeed, onDoubt });
  }

  /** Take in an event. */
  apply(type, data) {
    this[type]?.(data);
  }

  SNAPSHOT({ drops }) {
    const before = this.drops;
    this.drops = new Map(drops.map((row) => [row.id, this.#drop(row, before.get(row.id)?.history)]));
    this.onChange(null);
  }

  DROP_CREATED({ drop: row }) {
    this.drops.set(row.id, this.#drop({ ...row, activity_feed: { latest_purchasers: [], held_stock: 0 } }));
    this.#tell(row.id, "was added");
    this.onChange(null);
  }

  DROP_UPDATED({ drop: row }) {
    const drop = this.drops.get(row.id);
    if (!drop) return; // one that had ended before the page was opened
    const statusBefore = drop.status;
    Object.assign(drop, row);
    this.#sample(drop);
    this.#tell(row.id, statusBefore === row.status ? "was changed" : { live: "is live", ended: "has ended" }[row.status] ?? `is ${row.status}`);
    this.onChange(row.id);
  }

  STOCK_UPDATED({ dropId, availableStock }) {
    this.#change(dropId, (drop) => {
      drop.available_stock = availableStock;
      drop.sold_stock = Math.min(drop.sold_stock, drop.total_stock - availableStock); // fewer after a refund
      this.#sample(drop);
      this.#tell(dropId, availableStock ? `has ${availableStock.toLocaleString()} left` : "has none left", "stock");
    });
  }

  RESERVATION_EXPIRED({ dropId, reservationId }) {
    this.#change(dropId, () => {
      this.#tell(dropId, "got a unit back: a hold ran out");
      this.onExpired?.(reservationId);
    });
  }

  PURCHASE_COMPLETED({ dropId, username }) {
    this.#change(dropId, (drop) => {
      drop.sold_stock += 1;
      drop.isSaleExplained = true;
      this.#tell(dropId, `was bought by ${username}`);
    });
  }

  ACTIVITY_UPDATED({ dropId, latestPurchasers }) {
    this.#change(dropId, (drop) => {
      drop.latest_purchasers = latestPurchasers;
      // Without a sale it is a refund, of which no event says how many units it took back from the sold.
      if (!drop.isSaleExplained) this.onDoubt(dropId);
      drop.isSaleExplained = false;
    });
  }

  #change(dropId, change) {
    const drop = this.drops.get(dropId);
    if (drop) {
      drop.eventCount += 1;
      change(drop);
      this.onChange(dropId);
    }
  }

  #drop({ activity_feed: { latest_purchasers, held_stock }, ...row }, history = []) {
    const drop = { ...row, latest_purchasers, sold_stock: row.total_stock - row.available_stock - held_stock, history, eventCount: 0 };
    this.#sample(drop);
    return drop;
  }

  #sample(drop) {
    const now = this.clock(), { history } = drop, last = history.at(-1);
    if (last && now - last.at < SAMPLE_MS) last.left = drop.available_stock;
    else history.push({ at: now, left: drop.available_stock });
    while (history.length > 2 && history[1].at < now - HISTORY_MS) history.shift();
  }

  #tell(dropId, what, kind = "news") {
    const { name } = this.drops.get(dropId);
    const newest = this.feed[0];
    // A rush changes stock many times a second: the newest line says how it is.
    if (kind === "stock" && newest?.kind === "stock" && newest.dropId === dropId) this.feed.shift();
    this.feed.unshift({ at: this.clock(), dropId, kind, name, what });
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

/** Units held: neither left nor sold. */
export function heldStock(drop) {
  return Math.max(0, drop.total_stock - drop.available_stock - drop.sold_stock);
}
