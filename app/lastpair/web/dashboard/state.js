// The state of the page: the drops, computed from the events of the server. This module does not touch the DOM.

import { pointsOf } from "./activity.js";
import { Series } from "./series.js";

const OVER_SHOWN_MS = 5 * 60 * 1000, MAX_REMEMBERED_EVENTS = 1000;

/** The drops by id. Times are in milliseconds, by the server's clock. */
export class State {
  drops = new Map();

  /**
   * `clock` returns the time. The state calls:
   * - `onChange(dropId)` when a drop must be drawn again, or with null when all must and the set of drops may be another;
   * - `onHappening({ kind, drop, units, name, text, at })` when something happened that the feed tells;
   * - `onSoldUnknown(dropId)` when the events do not say how many units of a drop are sold;
   * - `onHoldExpired(reservationId)` when a hold has expired.
   */
  constructor(clock, { onChange, onHappening, onSoldUnknown, onHoldExpired }) {
    Object.assign(this, { clock, onChange, onHappening, onSoldUnknown, onHoldExpired });
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

  /** Whether the event with this id has arrived. Only the latest ones are remembered. */
  hasSeen(id) {
    return this.#sequences.has(id);
  }

  /** Add drops that no event brought, such as drafts and drops that are over. They stay until the page is left. */
  add(rows) {
    for (const row of rows) {
      if (!this.drops.has(row.id)) this.drops.set(row.id, { ...this.#drop(row), isKept: true });
    }
    this.onChange(null);
  }

  /** Put the buckets of `GET /api/activity` in front of what the page has seen itself. */
  addPast({ from, to, drops }) {
    for (const { dropId, points } of drops) {
      const drop = this.drops.get(dropId);
      if (!drop) continue;
      const { series } = drop, now = series.points.findLast(({ at }) => at <= Date.parse(to)) ?? series.points[0];
      series.addOlder(pointsOf(points, { from, drop, now }));
      this.onChange(dropId);
    }
  }

  /**
   * Correct the number of units sold from a drop's row in the snapshot with this id. Does nothing and returns false when the
   * event with this id has not arrived yet, or when the drop has changed since, because the row then describes another moment.
   */
  correctSold(row, id) {
    const drop = this.drops.get(row.id);
    if (!(drop.lastSequence <= this.#sequences.get(id))) return false;
    drop.sold_stock = row.total_stock - row.available_stock - row.activity_feed.held_stock;
    this.#sample(drop);
    this.onChange(row.id);
    return true;
  }

  /** Remove the drops that have been over for OVER_SHOWN_MS. A new SNAPSHOT would not contain them either. */
  removeOver() {
    const now = this.clock();
    for (const [dropId, drop] of this.drops) {
      drop.overSince = isOver(statusAt(drop, now)) ? (drop.overSince ?? now) : undefined;
      if (!drop.isKept && drop.overSince < now - OVER_SHOWN_MS) {
        this.drops.delete(dropId);
        this.onChange(null);
      }
    }
  }

  SNAPSHOT({ drops }) {
    const before = this.drops, kept = [...before].filter(([, drop]) => drop.isKept);
    this.drops = new Map([...kept, ...drops.map((row) => [row.id, this.#drop(row, before.get(row.id))])]);
    this.onChange(null);
  }

  DROP_CREATED({ drop: row }) {
    if (this.drops.has(row.id)) return this.DROP_UPDATED({ drop: row });
    this.drops.set(row.id, this.#drop(row));
    this.#tell("added", row.id, { text: "was added", at: row.updatedAt });
    this.onChange(null);
  }

  DROP_REMOVED({ dropId }) {
    if (this.drops.delete(dropId)) this.onChange(null);
  }

  DROP_UPDATED({ drop: row }) {
    const drop = this.drops.get(row.id);
    if (!drop) return; // the drop ended before the page was opened
    const text = changeOf(drop, row);
    drop.lastSequence = this.#sequence;
    Object.assign(drop, row);
    this.#sample(drop);
    this.#tell("changed", row.id, { text, at: row.updatedAt });
    this.onChange(row.id);
  }

  STOCK_UPDATED({ dropId, availableStock, variants = [] }) {
    this.#change(dropId, (drop) => {
      const taken = drop.available_stock - availableStock;
      drop.available_stock = availableStock;
      for (const changed of variants) {
        const variant = drop.variants.find(({ id }) => id === changed.id);
        if (variant) variant.available_stock = changed.availableStock;
      }
      if (taken !== 0) this.#tell(taken > 0 ? "held" : "returned", dropId, { units: Math.abs(taken) });
    });
  }

  RESERVATION_EXPIRED({ dropId, reservationId }) {
    this.#change(dropId, () => this.onHoldExpired(reservationId));
  }

  PURCHASE_COMPLETED({ dropId, username, qty = 1, purchasedAt }) {
    this.#change(dropId, (drop) => {
      drop.sold_stock += qty;
      this.#tell("sold", dropId, { units: qty, name: username, at: purchasedAt });
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
      this.#sample(drop);
      this.onChange(dropId);
    }
  }

  #drop({ activity_feed: { latest_purchasers, held_stock } = { latest_purchasers: [], held_stock: 0 }, ...row }, before) {
    const sold_stock = row.total_stock - row.available_stock - held_stock;
    const drop = { ...row, latest_purchasers, sold_stock, series: before?.series ?? new Series(), lastSequence: this.#sequence };
    this.#sample(drop);
    return drop;
  }

  #sample(drop) {
    drop.series.add({ at: this.clock(), ...stockOf(drop) });
  }

  #tell(kind, dropId, { at, ...what }) {
    const now = this.clock(), happenedAt = Date.parse(at ?? "") || now;
    this.onHappening({ kind, drop: this.drops.get(dropId), at: Math.min(happenedAt, now), ...what });
  }
}

const FIELDS = { name: "name", price: "price", starts_at: "start", ends_at: "end", total_stock: "stock" };

/** In words, what an update changes of a drop. */
export function changeOf(before, after) {
  if (before.status !== after.status) return { live: "is live", ended: "has ended" }[after.status] ?? `is ${after.status}`;
  if (!before.paused_at !== !after.paused_at) return after.paused_at ? "is paused" : "goes on";
  const added = after.total_stock - before.total_stock;
  if (added) return added > 0 ? `has ${added.toLocaleString()} more` : `has ${(-added).toLocaleString()} fewer`;
  const changed = Object.keys(FIELDS).filter((field) => before[field] !== after[field]).map((field) => FIELDS[field]);
  return changed.length ? `has another ${changed.join(" and ")}` : "was changed";
}

/** How many units of a drop are sold, held and left. */
export function stockOf({ total_stock: total, available_stock: left, sold_stock: sold }) {
  return { sold, held: Math.max(0, total - left - sold), left };
}

/**
 * What the sold units of a drop cost at the prices of now, and whether this is certain: sizes with prices of their own count by
 * what is taken of them, and the events do not say which of that is held.
 */
export function revenueOf(drop) {
  const { sold, held } = stockOf(drop), taken = sold + held;
  if (drop.variants.every(({ price }) => price === drop.price)) return { amount: sold * drop.price, isExact: true };
  const worth = drop.variants.reduce((sum, { price, total_stock: t, available_stock: a }) => sum + price * (t - a), 0);
  return { amount: taken ? (worth * sold) / taken : 0, isExact: held === 0 };
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
