// Follows the payments of the buyer: by the buyer's own events, and while those do not come by asking.

import { live } from "/lastpair.js";

const ASK_MS = 5000;

export class Paying {
  #following = null;
  #hasEvents = false;
  #timer;

  /** Calls onPayment(payment) with what an event or an answer tells, and onGap() when events may have been missed. */
  constructor(sale, { dropId, buyer, buying, onPayment, onGap }) {
    Object.assign(this, { sale, dropId, buyer, buying, onPayment, onGap });
  }

  /** Begin. To call it again changes nothing. The buyer is known, because there is a payment. */
  follow() {
    if (this.#following) return;
    const { userId } = this.buyer.identity();
    this.#following = live({
      dropIds: [this.dropId],
      identity: userId ? { userId } : { token: () => this.buyer.identity().token },
      onChange: (_, event) => {
        if (event?.type === "SNAPSHOT") this.onGap();
        if (event?.type === "PAYMENT_UPDATED") this.onPayment(event.data.payment);
      },
      onStatus: (status) => {
        this.#hasEvents = status === "live";
        if (status === "closed") this.#following = null; // the token was refused, and there may be another one later
      },
    });
    this.#timer ??= setInterval(() => this.#ask(), ASK_MS);
  }

  async #ask() {
    const { payment } = this.sale;
    if (!payment || this.#hasEvents || document.hidden) return;
    const asked = await this.buying.payment(payment).catch(() => null);
    if (asked) this.onPayment(asked);
  }
}
