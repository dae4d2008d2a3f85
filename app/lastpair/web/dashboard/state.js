// The state of the page: the drops as the client has them, and what the page adds to them. This module does not touch the DOM.

import { pointsOf } from "./activity.js";
import { Series } from "./series.js";

const OVER_SHOWN_MS = 5 * 60 * 1000, MAX_REMEMBERED_EVENTS = 1000;

/** The drops by id. Times are in milliseconds, by the server's clock. */
export class State {
  drops = new Map();
  /** The rows of the client's live(). Those that the page keeps are added to them, so that their events change them, too. */
  rows = new Map();

  /**
   * `clock` returns the time. The state calls:
   * - `onChange(dropId)` when a drop must be drawn again, or with null when all must and the set of drops may be another;
   * - `onHappening({ kind, drop, units, name, text, at })` when something happened that the feed tells;
   * - `onHoldExpired(reservationId)` when a hold has expired.
   */
  constructor(clock, { onChange, onHappening, onHoldExpired }) {
    Object.assign(this, { clock, onChange, onHappening, onHoldExpired });
  }

  #sequence = 0; // how many events have arrived
  #seen = new Set(); // the latest events

  /** Take over the row of a drop as an event has changed it. Without an event, its stock was read again. */
  apply(row, event) {
    if (event) this.#remember(event);
    if (event?.type === "SNAPSHOT") return this.#startWith(event.data);
    if (!row) return; // the drop ended before the page was opened, or the event has no drop
    if (event?.type === "DROP_REMOVED") return this.#remove(row.id);
    const drop = this.drops.get(row.id);
    if (!drop) return this.#addNew(row);
    const before = { ...drop };
    if (event) drop.lastSequence = this.#sequence;
    Object.assign(drop, fieldsOf(row));
    this.#sample(drop);
    this[event?.type]?.(drop, before, event.data);
    this.onChange(row.id);
  }

  /**
   * Whether this event of `GET /api/activity` has arrived. Only the latest ones are remembered. Ids are not compared, because an
   * id of a stream is a position.
   */
  hasSeen({ type, dropId, at }) {
    return this.#seen.has(eventKey(type, dropId, at));
  }

  /** Add drops that no event brought, such as drafts and drops that are over. They stay until the page is left. */
  add(rows) {
    for (const row of rows) {
      if (this.drops.has(row.id)) continue;
      this.rows.set(row.id, row);
      this.drops.set(row.id, { ...this.#drop(row), isKept: true });
    }
    this.onChange(null);
  }

  /** Put what `GET /api/activity` remembers in front of what the page has seen itself. */
  addPast({ from, to, events, drops }) {
    for (const { dropId, points } of drops) {
      const drop = this.drops.get(dropId);
      if (!drop) continue;
      const { series } = drop, now = series.seenAt(Date.parse(to));
      series.addOlder(pointsOf(points, events.filter((event) => event.dropId === dropId), { from, drop, now }));
      this.onChange(dropId);
    }
  }

  /** Remove the drops that have been over for OVER_SHOWN_MS. A new SNAPSHOT would not contain them either. */
  removeOver() {
    const now = this.clock();
    for (const [dropId, drop] of this.drops) {
      drop.overSince = isOver(statusAt(drop, now)) ? (drop.overSince ?? now) : undefined;
      if (!drop.isKept && drop.overSince < now - OVER_SHOWN_MS) {
        this.rows.delete(dropId);
        this.#remove(dropId);
      }
    }
  }

  // What the feed and others are told of an event, by its type.

  DROP_CREATED(drop, before) {
    this.DROP_UPDATED(drop, before); // the page had its draft
  }

  DROP_UPDATED(drop, before) {
    this.#tell("changed", drop, { text: changeOf(before, drop), at: drop.updatedAt });
  }

  STOCK_UPDATED(drop, before) {
    const taken = before.available_stock - drop.available_stock;
    if (taken !== 0) this.#tell(taken > 0 ? "held" : "returned", drop, { units: Math.abs(taken) });
  }

  RESERVATION_EXPIRED(drop, before, { reservationId }) {
    this.onHoldExpired(reservationId);
  }

  PURCHASE_COMPLETED(drop, before, { username, qty, purchasedAt }) {
    this.#tell("sold", drop, { units: qty, name: username, at: purchasedAt });
  }

  #remember({ type, data }) {
    this.#sequence++;
    this.#seen.add(eventKey(type, data.dropId ?? data.drop?.id, data.at));
    if (this.#seen.size > MAX_REMEMBERED_EVENTS) this.#seen.delete(this.#seen.values().next().value);
  }

  #startWith({ drops: rows, completes }) {
    const before = this.drops, kept = [...before].filter(([, drop]) => completes || drop.isKept);
    this.drops = new Map([...kept, ...rows.map((row) => [row.id, this.#drop(row, before.get(row.id))])]);
    for (const [dropId, { row }] of kept) {
      if (!this.rows.has(dropId)) this.rows.set(dropId, row);
    }
    this.onChange(null);
  }

  #addNew(row) {
    const drop = this.#drop(row);
    this.drops.set(row.id, drop);
    this.#tell("added", drop, { text: "was added", at: row.updatedAt });
    this.onChange(null);
  }

  #remove(dropId) {
    if (this.drops.delete(dropId)) this.onChange(null);
  }

  #drop(row, before) {
    const drop = { ...fieldsOf(row), series: before?.series ?? new Series(), lastSequence: this.#sequence };
    this.#sample(drop);
    return drop;
  }

  #sample(drop) {
    drop.series.add({ at: this.clock(), ...stockOf(drop) });
  }

  #tell(kind, drop, { at, ...what }) {
    const now = this.clock(), happenedAt = Date.parse(at ?? "") || now;
    this.onHappening({ kind, drop, at: Math.min(happenedAt, now), ...what });
  }
}

/** The fields of a row, with its purchasers and the units that are sold, and the row itself. */
function fieldsOf(row) {
  const { activity_feed: { latest_purchasers, held_stock }, ...fields } = row;
  return { ...fields, latest_purchasers, sold_stock: row.total_stock - row.available_stock - held_stock, row };
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
 * What a drop has brought, and whether this is certain. Where payments are made, `money` has what the drop has brought, if it was
 * read; else it is null. What was not read is what the sold units cost at the prices of now. With payments that is not certain,
 * because money may have gone back. Without them only sizes make it uncertain: sizes with prices of their own count by
 * what is taken of them, and the events do not say which of that is held.
 */
export function revenueOf(drop, money) {
  if (money?.has(drop.id)) return { amount: money.get(drop.id), isExact: true };
  const { sold, held } = stockOf(drop), taken = sold + held;
  if (drop.variants.every(({ price }) => price === drop.price)) return { amount: sold * drop.price, isExact: !money };
  const worth = drop.variants.reduce((sum, { price, total_stock: t, available_stock: a }) => sum + price * (t - a), 0);
  return { amount: taken ? (worth * sold) / taken : 0, isExact: held === 0 && !money };
}

/** The same for an event of the stream and for that event in `GET /api/activity`, whose times are more exact. */
function eventKey(type, dropId, at) {
  return `${type} ${dropId} ${Date.parse(at)}`;
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
