// What the buyer asks of the shop. The client sends a request again after a passing failure; all its attempts have one key.

import { Lastpair } from "/lastpair.js";
import { uuid } from "./identity.js";

const RETRIES = 3; // then the buyer should know
const PAGE = { limit: 200 };

/** Whether a payment can be paid still. */
export const isOpen = ({ status }) => status === "pending" || status === "failed";

export class Buying {
  #dropId;
  #buyer;
  #clock;
  #unanswered; // the last call, if it got no answer. Asked again it has the same key, so that nothing is done twice

  constructor(dropId, buyer, clock) {
    [this.#dropId, this.#buyer, this.#clock] = [dropId, buyer, clock];
  }

  /** All that the buyer holds and has bought of the drop, and the payment that is open. */
  async mine() {
    if (!this.#buyer.isKnown) return { holds: [], purchases: [], payment: null };
    const client = this.#client();
    const [holds, purchases] = await Promise.all([
      this.#ofDrop(client.listMyReservations(PAGE)), this.#ofDrop(client.listMyPurchases(PAGE)),
    ]);
    const payment = await this.#openPayment(purchases);
    return payment === undefined ? this.mine() : { holds, purchases, payment };
  }

  async reserve(variantId, qty) {
    const body = variantId === null && qty === 1 ? undefined : { variant_id: variantId, qty };
    const sentAt = Date.now(), isRepeat = this.#unanswered !== undefined;
    const hold = await this.#once(["reserve", body], (client, options) => client.reserve(this.#dropId, body, options));
    if (hold.status !== "ACTIVE") return this.reserve(variantId, qty); // the repeat of a call whose hold is over by now
    if (!isRepeat) this.#clock.learnFromTime(hold.createdAt, sentAt);
    return hold;
  }

  /** Buy what is held. Returns the purchase, and its payment if there is one. */
  async purchase({ id }) {
    const purchase = await this.#once(
      ["purchase", id], (client, options) => client.purchase(this.#dropId, { reservation_id: id }, options),
    );
    return { purchase, payment: await this.#openPayment([purchase]) ?? null };
  }

  payment({ id }) {
    return this.#client().getPayment(id);
  }

  cancelPayment({ id }) {
    return this.#client().cancelPayment(id);
  }

  extend({ id }) {
    return this.#once(["extend", id], (client, options) => client.extendReservation(id, options));
  }

  release({ id }) {
    return this.#client().cancelReservation(id);
  }

  /** The payment of the newest purchase that is to be paid; null if there is none, undefined if it has ended meanwhile. */
  async #openPayment(purchases) {
    const unpaid = purchases.find(({ status, payment_id: paymentId }) => status === "pending" && paymentId);
    if (!unpaid) return null;
    const payment = await this.payment({ id: unpaid.payment_id });
    return isOpen(payment) ? payment : undefined;
  }

  async #once(asked, call) {
    const question = JSON.stringify(asked);
    const key = this.#unanswered?.question === question ? this.#unanswered.key : uuid();
    this.#unanswered = { question, key };
    try {
      const row = await call(this.#client(true), { idempotencyKey: key });
      this.#unanswered = undefined;
      return row;
    } catch (error) {
      if (error.status >= 400 && error.status < 500) this.#unanswered = undefined;
      throw error;
    }
  }

  /** A client for the buyer as it is now. A guest is made if the call `needsBuyer`. */
  #client(needsBuyer = false) {
    return new Lastpair({ ...this.#buyer.identity(needsBuyer), retries: RETRIES, fetch: this.#fetch });
  }

  #fetch = async (...request) => {
    const sentAt = Date.now(), response = await fetch(...request);
    this.#clock.learnFrom(response, sentAt);
    return response;
  };

  async #ofDrop(list) {
    const rows = [];
    for await (const row of list) {
      if (row.drop_id === this.#dropId) rows.push(row);
    }
    return rows;
  }
}
