// What the page knows: the drop, by the events of the server, and what the buyer holds and has bought of it. No DOM.

export class Sale {
  sold = null; // units; null until a SNAPSHOT has said how many are held
  isRemoved = false; // the seller made it a draft again, or deleted it
  holds = []; // the buyer's, newest first
  purchases = []; // the buyer's that are paid or to be paid
  lapsed = null; // the hold that ran out while the page was open
  released = null; // the hold that the buyer let go
  wantsMore = false; // the buyer has bought, and wants another one
  #lastType = null;

  /** Calls onUnknown() when the events do not say how many units are sold, so that a SNAPSHOT is needed. */
  constructor(drop, onUnknown) {
    Object.assign(this, { drop, onUnknown });
  }

  /** Change as this event says. Returns whether the status of the drop changed, and perhaps the buyer's holds with it. */
  apply(type, data) {
    const before = this.drop.status;
    this[type]?.(data);
    this.#lastType = type;
    return this.drop.status !== before;
  }

  SNAPSHOT({ drops: [row] }) {
    this.isRemoved = row === undefined;
    if (!row) return;
    const { activity_feed: { held_stock: held }, ...drop } = row;
    this.drop = drop;
    this.sold = drop.total_stock - drop.available_stock - held;
  }

  DROP_CREATED({ drop }) {
    this.isRemoved = false;
    this.drop = drop;
    this.onUnknown();
  }

  DROP_UPDATED({ drop }) {
    this.drop = drop;
  }

  DROP_REMOVED() {
    this.isRemoved = true;
  }

  STOCK_UPDATED({ availableStock, variants = [] }) {
    this.drop.available_stock = availableStock;
    for (const { id, availableStock: available } of variants) {
      const variant = this.drop.variants.find((each) => each.id === id);
      if (variant) variant.available_stock = available;
    }
  }

  PURCHASE_COMPLETED({ qty = 1 }) {
    if (this.sold !== null) this.sold += qty;
  }

  ACTIVITY_UPDATED() {
    if (this.#lastType !== "PURCHASE_COMPLETED") this.onUnknown(); // a refund, of which no event says how many units
  }

  RESERVATION_EXPIRED({ reservationId }) {
    const hold = this.holds.find(({ id }) => id === reservationId);
    if (hold) this.#letGo(hold);
  }

  /** Take what the buyer holds and has bought; null: there is no buyer. */
  takeMine(mine, now) {
    const { holds = [], purchases = [] } = mine ?? {};
    const gone = this.holds.find((hold) => !holds.some(({ id }) => id === hold.id));
    const isBought = purchases.some(({ reservation_id: id }) => id === gone?.id);
    if (gone && !isBought && Date.parse(gone.expires_at) <= now) this.lapsed = gone;
    this.holds = holds;
    this.purchases = purchases.filter(({ status }) => status === "paid" || status === "pending");
  }

  /** Let go of the holds whose time is over, whether or not an event has said so. */
  lapse(now) {
    for (const hold of this.holds) {
      if (Date.parse(hold.expires_at) <= now) this.#letGo(hold);
    }
  }

  #letGo(lapsed) {
    this.lapsed = lapsed;
    this.released = null;
    this.holds = this.holds.filter((hold) => hold !== lapsed);
  }

  /** The units that are held by anyone; null if that is not known. */
  get held() {
    return this.sold === null ? null : Math.max(0, this.drop.total_stock - this.drop.available_stock - this.sold);
  }

  /** Whether the buyer may hold one more unit, as far as the drop's limit goes. */
  get mayHaveMore() {
    const units = [...this.holds, ...this.purchases].reduce((sum, { qty }) => sum + qty, 0);
    return this.drop.limit_per_user === null || units < this.drop.limit_per_user;
  }
}

/** The status of a drop at a moment. The clock decides, because the event of a start or an end may come a little later. */
export function statusAt(drop, now) {
  if (!["scheduled", "live"].includes(drop.status)) return drop.status;
  if (Date.parse(drop.ends_at ?? "") <= now) return "ended";
  return Date.parse(drop.starts_at) <= now ? "live" : "scheduled";
}

/**
 * Where the buyer is in this drop at a moment: the name of one of the views in views.js. What the buyer has comes first, then
 * what the drop does.
 */
export function phaseAt(sale, now) {
  const status = statusAt(sale.drop, now);
  if (sale.isRemoved) return "removed";
  if (status === "cancelled") return "cancelled";
  if (sale.holds.length > 0) return "held";
  if (sale.purchases.length > 0 && !sale.wantsMore) return "bought";
  if (status === "ended") return "ended";
  if (status === "scheduled") return "soon";
  if (sale.drop.available_stock === 0) return "soldOut";
  return sale.drop.paused_at ? "paused" : "onSale";
}
