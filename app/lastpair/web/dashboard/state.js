// The state of the page: the drops, computed from the events of the server. This module does not touch the DOM.

export const HISTORY_MS = 5 * 60 * 1000;
const OVER_SHOWN_MS = HISTORY_MS, MISSED_MS = 2000, SAMPLE_MS = 250, MAX_NEWS = 100, MAX_REMEMBERED_EVENTS = 1000;

/** The drops by id, and the news, newest first. Times are in milliseconds, by the server's clock. */
export class State {
  drops = new Map();
  news = [];

  /**
   * `clock` returns the time. The state calls:
   * - `onChange(dropId)` when a drop must be drawn again, or with null when all must and the set of drops may be another;
   * - `onNews()` after it added a line of news;
   * - `onSoldUnknown(dropId)` when the events do not say how many units of a drop are sold;
   * - `onHoldExpired(reservationId)` when a hold has expired.
   */
  constructor(clock, { onChange, onNews, onSoldUnknown, onHoldExpired }) {
    Object.assign(this, { clock, onChange, onNews, onSoldUnknown, onHoldExpired });
  }

  #sequence = 0; // how many events have arrived
  #sequences = new Map(); // the sequence numbers of the latest events, by event id

  /** Change the state as this event says. */
  apply(type, data, id) {
    this.#sequences.set(id, ++this.#sequence);
    if (this.#sequences.size > MAX_REMEMBERED_EVENTS) this.#sequences.delete(this.#sequences.keys().next().value);
    this[type]?.(data);
    const drop = this.drops.get(data.dropId);
    if (drop) drop.lastType = type;
  }

  /**
   * Correct the number of units sold from a drop's row in the snapshot with this id. Does nothing and returns false when the
   * event with this id has not arrived yet, or when the drop has changed since, because the row then describes another moment.
   */
  correctSold(row, id) {
    const drop = this.drops.get(row.id);
    if (!(drop.lastSequence <= this.#sequences.get(id))) return false;
    drop.sold_stock = row.total_stock - row.available_stock - row.activity_feed.held_stock;
    this.onChange(row.id);
    return true;
  }

  /** Remove the drops that have been over for OVER_SHOWN_MS. A new SNAPSHOT would not contain them either. */
  removeOver() {
    const now = this.clock();
    for (const [dropId, drop] of this.drops) {
      drop.overSince = isOver(statusAt(drop, now)) ? (drop.overSince ?? now) : undefined;
      if (drop.overSince < now - OVER_SHOWN_MS) {
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
    if (this.drops.has(row.id)) return this.DROP_UPDATED({ drop: row });
    this.drops.set(row.id, { ...this.#drop({ ...row, activity_feed: { latest_purchasers: [], held_stock: 0 } }), sold_stock: 0 });
    this.#addNews(row.id, "was added", { at: row.updatedAt });
    this.onChange(null);
  }

  DROP_REMOVED({ dropId }) {
    if (this.drops.delete(dropId)) this.onChange(null);
  }

  DROP_UPDATED({ drop: row }) {
    const drop = this.drops.get(row.id);
    if (!drop) return; // the drop ended before the page was opened
    const statusBefore = drop.status;
    Object.assign(drop, row);
    this.#sample(drop);
    const becameText = { live: "is live", ended: "has ended" }[row.status] ?? `is ${row.status}`;
    this.#addNews(row.id, statusBefore === row.status ? "was changed" : becameText, { at: row.updatedAt });
    this.onChange(row.id);
  }

  STOCK_UPDATED({ dropId, availableStock, variants = [] }) {
    this.#change(dropId, (drop) => {
      drop.available_stock = availableStock;
      for (const changed of variants) {
        const variant = drop.variants.find(({ id }) => id === changed.id);
        if (variant) variant.available_stock = changed.availableStock;
      }
      this.#sample(drop);
      this.#addNews(dropId, availableStock ? `has ${availableStock.toLocaleString()} left` : "has none left", { kind: "stock" });
    });
  }

  RESERVATION_EXPIRED({ dropId, reservationId }) {
    this.#change(dropId, () => {
      this.#addNews(dropId, "got a unit back: a hold ran out", { kind: "expiry" });
      this.onHoldExpired(reservationId);
    });
  }

  PURCHASE_COMPLETED({ dropId, username, qty = 1, purchasedAt }) {
    this.#change(dropId, (drop) => {
      drop.sold_stock += qty;
      this.#addNews(dropId, `was bought by ${username}${qty > 1 ? ` × ${qty}` : ""}`, { kind: "sale", at: purchasedAt });
    });
  }

  ACTIVITY_UPDATED({ dropId, latestPurchasers }) {
    this.#change(dropId, (drop) => {
      drop.latest_purchasers = latestPurchasers;
      // After a PURCHASE_COMPLETED this event belongs to that purchase. Otherwise it may come from a refund, and no event says
      // how many sold units the refund took back.
      if (drop.lastType !== "PURCHASE_COMPLETED") this.onSoldUnknown(dropId);
    });
  }

  #change(dropId, change) {
    const drop = this.drops.get(dropId);
    if (drop) {
      drop.lastSequence = this.#sequence;
      change(drop);
      this.onChange(dropId);
    }
  }

  #drop({ activity_feed: { latest_purchasers, held_stock }, ...row }, history = []) {
    const sold_stock = row.total_stock - row.available_stock - held_stock;
    const drop = { ...row, latest_purchasers, sold_stock, history, lastSequence: this.#sequence };
    this.#sample(drop);
    return drop;
  }

  #sample(drop) {
    const now = this.clock(), { history } = drop, last = history.at(-1);
    if (history.length > 1 && now - last.at < SAMPLE_MS) last.left = drop.available_stock;
    else history.push({ at: now, left: drop.available_stock });
    while (history.length > 2 && history[1].at < now - HISTORY_MS) history.shift();
  }

  #addNews(dropId, what, { kind = "drop", at } = {}) {
    const { name } = this.drops.get(dropId);
    const now = this.clock(), happenedAt = Date.parse(at ?? ""), newest = this.news[0];
    // Replace the newest line if it tells the stock of the same drop, because in a rush the stock changes many times a second.
    if (kind === "stock" && newest?.kind === "stock" && newest.dropId === dropId) this.news.shift();
    // Show the event's own time only for an event that the page missed and received late. Otherwise use the page's clock for all
    // lines, because a line could show an earlier time than the line below it if two clocks were used.
    this.news.unshift({ at: happenedAt < now - MISSED_MS ? happenedAt : now, dropId, kind, name, what });
    this.news.length = Math.min(this.news.length, MAX_NEWS);
    this.onNews();
  }
}

/** The status of a drop at a moment. The clock decides when a start or an end has passed that no event has reported yet. */
export function statusAt(drop, now) {
  const startsAt = Date.parse(drop.starts_at ?? ""), endsAt = Date.parse(drop.ends_at ?? "");
  if (!["scheduled", "live"].includes(drop.status)) return drop.status;
  if (endsAt <= now) return "ended";
  return startsAt <= now ? "live" : "scheduled";
}

/** What to call the state of a drop at a moment: its status, or else "sold out" or "paused" while nothing of it can be had. */
export function shownStatus(drop, now) {
  const status = statusAt(drop, now);
  if (status !== "live") return status;
  if (drop.available_stock === 0) return "sold out";
  return drop.paused_at ? "paused" : "live";
}

/** Whether a drop with this status sells nothing more, now or later. */
export function isOver(status) {
  return ["ended", "cancelled"].includes(status);
}

/** The number of units that are held, so neither left nor sold. */
export function heldStock(drop) {
  return Math.max(0, drop.total_stock - drop.available_stock - drop.sold_stock);
}
