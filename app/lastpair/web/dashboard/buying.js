// The holds of the chosen user, and what a buyer does: reserve, pay, and let a hold go. Development only.

import { uuid } from "/buyer/identity.js";

import { call } from "./api.js";
import { formatCountdown, formatMoney, formatNumber, formatTime } from "./format.js";
import { shownStatus, stockOf } from "./state.js";

const EXPIRY_GRACE_MS = 3000; // the event of an expired hold comes with the server's next sweep, so it comes late
const MISSED_MS = 3000; // an event comes at once, and the holds are looked through every second
const HOLD_CHANGED = new Set([
  "NO_ACTIVE_RESERVATION", "RESERVATION_NOT_FOUND", "RESERVATION_EXPIRED", "RESERVATION_NOT_ACTIVE", "ALREADY_RESERVED",
]);

export class Buying {
  #holds = new Map(); // the holds of the chosen user, as #addHold makes them, by drop and variant
  #missed = []; // holds that were gone when the holds were read again; the event that says why may come later
  #busy = new Set();
  #unanswered = new Map(); // the calls without an answer, by drop and user; the button repeats one with the same key
  #changeCount = 0;
  #holdsUser = null;

  /** `say(text, isRefusal)` speaks the outcome of a button; `onHoldsChange()` draws the drops again. */
  constructor(state, users, { clock, say, onHoldsChange }) {
    Object.assign(this, { state, users, clock, say, onHoldsChange });
  }

  /** The hold of the chosen user on a drop, or on its variant. */
  holdOf(dropId, variantId) {
    return this.#holds.get(`${dropId} ${variantId}`);
  }

  /** All holds of the chosen user on a drop. */
  holdsOf(dropId) {
    return [...this.#holds.values()].filter((hold) => hold.dropId === dropId);
  }

  /** Do what was pressed: reserve, purchase or cancel. `variantId` is the chosen size, or null of a drop without sizes. */
  async act(action, drop, variantId) {
    if (this.#busy.has(drop.id)) return; // ignore the second click of a double click
    this.#busy.add(drop.id);
    this.say(""); // so that a screen reader speaks the outcome again, even if it is the same
    try {
      const outcome = await this[action](drop, variantId, await this.users.currentOrGuest());
      this.onHoldsChange(); // so that the buttons are right when the outcome is told
      this.say(outcome);
    } catch (refusal) {
      this.say(`${drop.name}: ${refusal.message}`, true);
      if (HOLD_CHANGED.has(refusal.code)) await this.readHolds(); // the hold was changed elsewhere, for example in another tab
    } finally {
      this.#busy.delete(drop.id);
    }
  }

  async reserve(drop, variantId, user) {
    const body = variantId === null ? undefined : { variant_id: variantId };
    let { reservation } = await this.#callIdempotently("reserve", drop, user, body);
    // A repeated call returns the reservation of the first one. If that is no longer active, reserve with a new key.
    if (reservation.status !== "ACTIVE") ({ reservation } = await this.#callIdempotently("reserve", drop, user, body));
    if (user === this.users.current) this.#addHold(reservation); // not if another user was chosen meanwhile
    const { expires_at, createdAt } = reservation, begin = Math.max(this.clock(), Date.parse(createdAt));
    const time = formatCountdown(Date.parse(expires_at) - begin);
    return `${nameOf(drop, variantId)} is held for you. Pay within ${time}, or it goes back.`;
  }

  async purchase(drop, variantId, user) {
    const hold = this.holdOf(drop.id, variantId);
    const { payment } = await this.#callIdempotently("purchase", drop, user, { reservation_id: hold.id });
    this.#removeHold(hold);
    if (payment) return `${nameOf(drop, variantId)} is to be paid until ${formatTime(payment.expires_at)}, at the provider.`;
    return `${nameOf(drop, variantId)} is yours.`;
  }

  async cancel(drop, variantId, user) {
    const hold = this.holdOf(drop.id, variantId);
    await call("DELETE", `/reservations/${hold.id}/cancel`, { user });
    this.#removeHold(hold);
    return `${nameOf(drop, variantId)} went back. Nothing was paid.`;
  }

  /** Remove the holds of cancelled drops, and the holds that have expired although no event has said so. */
  removeOldHolds() {
    for (const [key, hold] of this.#holds) {
      if (this.#isCancelled(hold) || hold.expiresAt + EXPIRY_GRACE_MS < this.clock()) {
        this.#holds.delete(key);
        this.onHoldsChange();
      }
    }
    this.#missed = this.#missed.filter((hold) => !this.#isCancelled(hold) && this.clock() < hold.missedAt + MISSED_MS);
  }

  /** Whether the drop of a hold was cancelled. Says so. */
  #isCancelled({ dropId }) {
    const drop = this.state.drops.get(dropId), isCancelled = drop?.status === "cancelled";
    if (isCancelled) this.say(`${drop.name} was cancelled, and your hold with it.`, true);
    return isCancelled;
  }

  /** Remove an expired hold, if it belongs to the chosen user, and say so. */
  onHoldExpired(reservationId) {
    for (const [key, { id, dropId, variantId }] of this.#holds) {
      if (id === reservationId) {
        this.#holds.delete(key);
        this.say(`Time ran out, so ${nameOf(this.state.drops.get(dropId), variantId)} went back. Nothing was paid.`, true);
        this.onHoldsChange();
      }
    }
  }

  /** Read the holds of the chosen user, for example after a SNAPSHOT, because the page may have missed events about them. */
  async readHolds() {
    const user = this.users.current;
    if (user !== this.#holdsUser) {
      this.#holds.clear();
      this.#missed = [];
    }
    this.#holdsUser = user;
    this.onHoldsChange();
    if (!user) return;
    const changeCount = this.#changeCount;
    const { reservations } = await call("GET", "/reservations/me", { user }).catch(() => ({}));
    if (user !== this.users.current) return; // another user was chosen meanwhile
    if (changeCount !== this.#changeCount) return this.readHolds(); // the answer is older than what a button did
    if (!reservations) return; // the call failed; keep the holds that are known
    const found = new Set(reservations.map(({ id }) => id)), missedAt = this.clock();
    for (const hold of this.#holds.values()) if (!found.has(hold.id)) this.#missed.push({ ...hold, missedAt });
    this.#holds.clear();
    reservations.forEach((reservation) => this.#addHold(reservation));
    this.#changeCount = changeCount; // because #addHold counted, and reading the holds is no change by a button
    this.onHoldsChange();
  }

  /** Call the API with an idempotency key. A repeat of a call that got no answer uses the key of that call. */
  async #callIdempotently(action, drop, user, body) {
    const dropAndUser = `${drop.id} ${user}`, last = this.#unanswered.get(dropAndUser);
    const asked = JSON.stringify([action, body]), key = last?.asked === asked ? last.key : uuid();
    this.#unanswered.set(dropAndUser, { asked, key });
    try {
      const data = await call("POST", `/drops/${drop.id}/${action}`, { user, key, body });
      this.#unanswered.delete(dropAndUser);
      return data;
    } catch (refusal) {
      if (refusal.status > 0) this.#unanswered.delete(dropAndUser);
      throw refusal;
    }
  }

  #removeHold({ id, dropId, variantId }) {
    this.#changeCount += 1;
    if (this.holdOf(dropId, variantId)?.id === id) this.#holds.delete(`${dropId} ${variantId}`);
  }

  #addHold(reservation) {
    this.#changeCount += 1;
    const { id, drop_id: dropId, variant_id: variantId, qty, amount, currency, expires_at } = reservation;
    const hold = { id, dropId, variantId, qty, amount, currency, expiresAt: Date.parse(expires_at) };
    this.#holds.set(`${dropId} ${variantId}`, hold);
  }
}

/** A drop with the size, if it is one of several: "Air One, 42". */
function nameOf(drop, variantId) {
  const size = drop.variants.find(({ id }) => id === variantId)?.name;
  return size ? `${drop.name}, ${size}` : drop.name;
}

/**
 * What a buyer can do with a drop now: `{ action, label, note }`. Without an action nothing can be done, and the note says why,
 * so that no request is sent that the state already refuses.
 */
export function offerOf(drop, hold, now, variantId = null) {
  if (hold) return { action: "purchase", label: `Pay ${formatCountdown(hold.expiresAt - now)}`, note: holdNote(hold, now) };
  const status = shownStatus(drop, now), { held } = stockOf(drop);
  const variant = drop.variants.find(({ id }) => id === variantId);
  if (status === "live" && drop.variants.length > 0 && !variant) return { label: "Reserve", note: "Choose a size first." };
  if (status === "live" && variant?.available_stock === 0) return { label: "Reserve", note: "None of this size is left." };
  if (status === "live") return { action: "reserve", label: variant ? `Reserve ${variant.name}` : "Reserve", note: "" };
  const comingBack = `None is left now. ${formatNumber(held)} held and not paid yet, so some may come back.`;
  const notes = {
    "sold out": held ? comingBack : "All are sold.",
    paused: "The sale is paused.",
    scheduled: "The sale has not begun.",
    draft: "This is a draft. Only you see it.",
    ended: "The sale has ended.",
    cancelled: "The drop was cancelled.",
  };
  return { label: status === "sold out" ? "Sold out" : "Reserve", note: notes[status] };
}

function holdNote({ qty, amount, currency, expiresAt }, now) {
  const units = qty > 1 ? `${qty} are` : "One is";
  return `${units} held for ${formatCountdown(expiresAt - now)}. It costs ${formatMoney(amount, currency)}.`;
}
