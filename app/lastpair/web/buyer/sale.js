// What the page knows: the drop, by the events of the server, and what the buyer holds and has bought of it. No DOM.

export class Sale {
  isRemoved = false; // the seller made it a draft again, or deleted it
  holds = []; // the buyer's, newest first
  purchases = []; // the buyer's that are paid or to be paid
  lapsed = null; // the hold that ran out while the page was open
  released = null; // the hold that the buyer let go
  wantsMore = false; // the buyer has bought, and wants another one

  constructor(drop) {
    this.drop = drop;
  }

  /** Take the drop as it is now; undefined: it is not for sale any more. */
  takeDrop(drop) {
    this.isRemoved = drop === undefined;
    if (drop) this.drop = drop;
  }

  /** Let go of a hold that the server has let go. */
  expire(reservationId) {
    const hold = this.holds.find(({ id }) => id === reservationId);
    if (hold) this.#letGo(hold);
  }

  /** Take what the buyer holds and has bought. */
  takeMine({ holds, purchases }, now) {
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

  /** The units that are held by anyone; null until the events have said so. */
  get held() {
    return this.drop.activity_feed?.held_stock ?? null;
  }

  /** The units that are sold; null if that is not known. */
  get sold() {
    return this.held === null ? null : this.drop.total_stock - this.drop.available_stock - this.held;
  }

  /** How many units the buyer holds or has bought. */
  get units() {
    return [...this.holds, ...this.purchases].reduce((sum, { qty }) => sum + qty, 0);
  }

  /** How many more units the buyer may have, as far as the drop's limit goes. */
  get allowed() {
    const { limit_per_user: limit } = this.drop;
    return limit === null ? Infinity : Math.max(0, limit - this.units);
  }

  /** How many units are left of a size, or of the drop; of the size that has most if none is chosen. */
  leftOf(variantId) {
    const { variants } = this.drop, variant = variants.find(({ id }) => id === variantId);
    if (variant || variants.length === 0) return (variant ?? this.drop).available_stock;
    return Math.max(...variants.map(({ available_stock: available }) => available));
  }

  /** How many units the buyer can reserve at once of a size, or of the drop. */
  mostOf(variantId) {
    return Math.min(this.allowed, this.leftOf(variantId));
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
