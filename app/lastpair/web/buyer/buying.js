// What the buyer asks of the shop. The client sends a request again after a passing failure; all its attempts have one key.

import { Lastpair } from "/lastpair.js";
import { uuid } from "./identity.js";

const RETRIES = 3; // then the buyer should know
const PAGE = { limit: 200 };

export class Buying {
  #dropId;
  #buyer;
  #clock;
  #unanswered; // the last call, if it got no answer. Asked again it has the same key, so that nothing is done twice

  constructor(dropId, buyer, clock) {
    [this.#dropId, this.#buyer, this.#clock] = [dropId, buyer, clock];
  }

  /** All that the buyer holds and has bought of the drop. */
  async mine() {
    if (!this.#buyer.isKnown) return { holds: [], purchases: [] };
    const client = this.#client();
    const [holds, purchases] = await Promise.all([
      this.#ofDrop(client.listMyReservations(PAGE)), this.#ofDrop(client.listMyPurchases(PAGE)),
    ]);
    return { holds, purchases };
  }

  async reserve(variantId, qty) {
    const body = variantId === null && qty === 1 ? undefined : { variant_id: variantId, qty };
    const sentAt = Date.now(), isRepeat = this.#unanswered !== undefined;
    const hold = await this.#once(["reserve", body], (client, options) => client.reserve(this.#dropId, body, options));
    if (hold.status !== "ACTIVE") return this.reserve(variantId, qty); // the repeat of a call whose hold is over by now
    if (!isRepeat) this.#clock.learnFromTime(hold.createdAt, sentAt);
    return hold;
  }

  purchase({ id }) {
    return this.#once(["purchase", id], (client, options) => client.purchase(this.#dropId, { reservation_id: id }, options));
  }

  extend({ id }) {
    return this.#once(["extend", id], (client, options) => client.extendReservation(id, options));
  }

  release({ id }) {
    return this.#client().cancelReservation(id);
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
