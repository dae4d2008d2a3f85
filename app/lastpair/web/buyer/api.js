// Calls the HTTP API for the buyer.

import { uuid } from "./identity.js";

const TIMEOUT_MS = 20_000;

/** An error that the API answered: its code, and as the message the sentence for people. */
export class Refusal extends Error {
  constructor({ code, message }) {
    super(message);
    this.code = code;
  }
}

export class Api {
  #key = null; // of a call that got no answer; its repeat uses the same, so that nothing is done twice

  constructor(buyer, clock) {
    Object.assign(this, { buyer, clock });
  }

  /** All that the buyer holds and has bought of a drop, or null if there is no buyer yet. */
  async mine(dropId) {
    if (!this.buyer.isKnown) return null;
    const [{ reservations }, { purchases }] = await Promise.all([
      this.#call("GET", "/reservations/me?limit=200"), this.#call("GET", "/purchases/me?limit=200"),
    ]);
    const isOfDrop = (row) => row.drop_id === dropId;
    return { holds: reservations.filter(isOfDrop), purchases: purchases.filter(isOfDrop) };
  }

  async reserve(dropId, variantId) {
    const sentAt = Date.now();
    const { reservation } = await this.#callOnce(`/drops/${dropId}/reserve`, variantId === null ? {} : { variant_id: variantId });
    if (reservation.status !== "ACTIVE") return this.reserve(dropId, variantId); // a repeat, of a hold that is over by now
    this.clock.learnFromTime(reservation.createdAt, sentAt);
    return reservation;
  }

  async purchase(dropId, reservationId) {
    return (await this.#callOnce(`/drops/${dropId}/purchase`, { reservation_id: reservationId })).purchase;
  }

  async cancel(reservationId) {
    await this.#call("DELETE", `/reservations/${reservationId}`);
  }

  async #callOnce(path, body) {
    const asked = JSON.stringify([path, body]);
    const key = this.#key?.asked === asked ? this.#key.key : uuid();
    this.#key = { asked, key };
    try {
      const data = await this.#call("POST", path, { key, body });
      this.#key = null;
      return data;
    } catch (refusal) {
      if (refusal.code !== "UNREACHABLE") this.#key = null;
      throw refusal;
    }
  }

  async #call(method, path, { key, body } = {}) {
    let answer;
    try {
      const sentAt = Date.now();
      const response = await fetch(`/api${path}`, {
        method,
        headers: {
          ...this.buyer.headers(method !== "GET"),
          ...(key && { "Idempotency-Key": key }),
          ...(body && { "Content-Type": "application/json" }),
        },
        body: body && JSON.stringify(body),
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      answer = await response.json();
      this.clock.learnFrom(response, sentAt);
    } catch {
      throw new Refusal({ code: "UNREACHABLE", message: "" });
    }
    if (!answer.success) throw new Refusal(answer.error);
    return answer.data;
  }
}
