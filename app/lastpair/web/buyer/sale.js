// What the page knows: the drop, by the events of the server, and what the buyer holds and has bought of it. No DOM.

export class Sale {
  isRemoved = false; // the seller made it a draft again, or deleted it
  holds = []; // the buyer's, newest first
  purchases = []; // the buyer's that are paid or to be paid, newest first
  refunded = []; // those that had a payment and were refunded as a whole
  payment = null; // the open one, of the newest purchase that is to be paid
  confirmed = null; // the id of the payment that the buyer has made, and of which the provider has not told yet
  unpaid = null; // what was not paid: { purchase, why }, where why is "expired", "cancelled" by the buyer, or "ended" by others
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

  /** Take what the buyer holds and has bought, and the payment that is open. */
  takeMine({ holds, purchases, payment }, now) {
    const gone = this.holds.find((hold) => !holds.some(({ id }) => id === hold.id));
    const isBought = purchases.some(({ reservation_id: id }) => id === gone?.id);
    if (gone && !isBought && Date.parse(gone.expires_at) <= now) this.lapsed = gone;
    this.holds = holds;
    const { payment: paid } = this, isOver = (purchase) => purchase.payment_id === paid?.id && purchase.status === "cancelled";
    const cancelled = purchases.find(isOver);
    if (cancelled && this.unpaid?.purchase.id !== cancelled.id) {
      this.unpaid = { purchase: cancelled, why: Date.parse(paid.expires_at) <= now ? "expired" : "ended" };
    }
    this.purchases = purchases.filter(({ status }) => status === "paid" || status === "pending");
    this.refunded = purchases.filter(({ status, payment_id: paymentId }) => status === "refunded" && paymentId);
    this.takePayment(payment, now);
  }

  /** Take the payment that is open, or null. */
  takePayment(payment, now) {
    const wasFailed = this.payment?.status === "failed";
    this.payment = payment;
    if (payment?.id !== this.confirmed || (payment?.status === "failed" && !wasFailed)) this.confirmed = null;
    if (payment) this.unpaid = null;
    this.lapse(now);
  }

  /** The buyer does not pay: the units have gone back. */
  cancelPayment() {
    this.#endPayment("cancelled");
  }

  /** Let go of the holds whose time is over, whether or not an event has said so. */
  lapse(now) {
    for (const hold of this.holds) {
      if (Date.parse(hold.expires_at) <= now) this.#letGo(hold);
    }
    if (Date.parse(this.payment?.expires_at) <= now) this.#endPayment("expired");
  }

  #endPayment(why) {
    const { id } = this.payment, isOfPayment = ({ payment_id: paymentId }) => paymentId === id;
    this.unpaid = { purchase: this.purchases.find(isOfPayment), why };
    this.lapsed = this.released = null;
    this.purchases = this.purchases.filter((purchase) => !isOfPayment(purchase));
    this.payment = null;
  }

  #letGo(lapsed) {
    this.lapsed = lapsed;
    this.released = this.unpaid = null;
    this.holds = this.holds.filter((hold) => hold !== lapsed);
  }

  /** The newest purchase that is paid. */
  get bought() {
    return this.purchases.find(({ status }) => status === "paid");
  }

  /** The purchase that the open payment is for. */
  get unpaidPurchase() {
    return this.purchases.find(({ payment_id: paymentId }) => paymentId === this.payment.id);
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
    return [...this.holds, ...this.purchases].reduce((sum, { qty, refunded_qty: back = 0 }) => sum + qty - back, 0);
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
  if (sale.payment) return "paying";
  if (sale.bought && !sale.wantsMore) return "bought";
  if (sale.refunded.length > 0 && !sale.wantsMore && !sale.unpaid && !sale.lapsed && !sale.released) return "refunded";
  if (status === "ended") return "ended";
  if (status === "scheduled") return "soon";
  if (sale.drop.available_stock === 0) return "soldOut";
  return sale.drop.paused_at ? "paused" : "onSale";
}
