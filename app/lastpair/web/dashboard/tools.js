// The development tools: choose a user, create drops, reserve, purchase, cancel, and simulate a rush.

import { call, uuid } from "./api.js";
import { rush } from "./rush.js";

const JUST_BEFORE_SECONDS = -1; // so that a drop that starts now has already started when the server receives it
const EXPIRY_GRACE_MS = 3000; // the event of an expired hold comes with the server's next sweep, so it comes late
const USERS_KEY = "lastpair.users", USER_KEY = "lastpair.user";
const MAX_USERS = 50;
const HOLD_CHANGED = new Set([
  "NO_ACTIVE_RESERVATION", "RESERVATION_NOT_FOUND", "RESERVATION_EXPIRED", "RESERVATION_NOT_ACTIVE", "ALREADY_RESERVED",
]);
const $ = (id) => document.getElementById(id);

// The fallback when the browser allows no storage. The only loss then is that a reload forgets the users.
const remembered = new Map();

function recall(key) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? remembered.get(key);
  } catch {
    return remembered.get(key);
  }
}

function remember(key, value) {
  remembered.set(key, value);
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // `remembered` has the value
  }
}

export class Tools {
  #holds = new Map(); // the holds of the chosen user, as #addHold makes them, by drop and variant
  #busy = new Set();
  #unanswered = new Map(); // the calls without an answer, by drop and user; the button repeats one with the same key
  #changeCount = 0;
  #holdsUser = null;
  #isShown = false;

  constructor(state, { clock, answer, onHoldsChange }) {
    Object.assign(this, { state, clock, answer, onHoldsChange });
  }

  show() {
    this.#isShown = true;
    $("tools").hidden = false;
    $("tools").open = matchMedia("(min-width: 60rem)").matches; // closed on a phone, so that the drops come first
    this.#listUsers(recall(USER_KEY));
    $("user").addEventListener("change", () => this.#onUserChosen());
    this.#onSubmit("user-form", (form) => this.#createUserFromForm(form));
    this.#onSubmit("drop-form", (form) => this.#createDropFromForm(form));
    this.#onSubmit("rush-form", (form, say) => this.#rushFromForm(form, say));
    this.#onUserChosen();
  }

  /** The hold of the chosen user on a drop, or on its variant. */
  holdOf(dropId, variantId) {
    return this.#holds.get(`${dropId} ${variantId}`);
  }

  /** Do what the pressed button of a card says: reserve, purchase or cancel. `variantId` is the chosen one, if there are some. */
  async act(action, drop, variantId) {
    if (this.#busy.has(drop.id)) return; // ignore the second click of a double click
    if (drop.variants.length > 0 && variantId === null) {
      const isLeft = drop.variants.some(({ available_stock: left }) => left > 0);
      return this.answer(drop.id, isLeft ? "Choose a size first." : "None is left of any size.", true);
    }
    this.#busy.add(drop.id);
    this.answer(drop.id, ""); // so that a screen reader speaks the answer again, even if it is the same
    try {
      const hold = this.holdOf(drop.id, variantId), user = await this.#userOrGuest();
      if (action === "reserve") {
        const body = variantId === null ? undefined : { variant_id: variantId };
        let { reservation } = await this.#callIdempotently("reserve", drop, user, body);
        // A repeated call returns the reservation of the first one. If that is no longer active, reserve with a new key.
        if (reservation.status !== "ACTIVE") ({ reservation } = await this.#callIdempotently("reserve", drop, user, body));
        if (user === $("user").value) this.#addHold(reservation); // not if another user was chosen meanwhile
        this.answer(drop.id, "A unit is held for you.");
      } else if (action === "purchase") {
        await this.#callIdempotently("purchase", drop, user, { reservation_id: hold.id });
        this.#removeHold(hold);
        this.answer(drop.id, "It is yours.");
      } else {
        await call("DELETE", `/reservations/${hold.id}/cancel`, { user });
        this.#removeHold(hold);
        this.answer(drop.id, "The unit went back.");
      }
    } catch (refusal) {
      this.answer(drop.id, refusal.message, true);
      if (HOLD_CHANGED.has(refusal.code)) {
        await this.#readHolds(); // the hold was changed elsewhere, for example in another tab
      }
    } finally {
      this.#busy.delete(drop.id);
    }
    this.onHoldsChange();
  }

  /** Read the holds again after a SNAPSHOT, because the page may have missed events about them. */
  refreshHolds() {
    if (this.#isShown) this.#readHolds();
  }

  /** Remove the holds of cancelled drops, and the holds that have expired although no event has said so. */
  removeOldHolds() {
    for (const [key, { dropId, expiresAt }] of this.#holds) {
      const isCancelled = this.state.drops.get(dropId)?.status === "cancelled";
      if (isCancelled) this.answer(dropId, "The drop was cancelled, and your hold with it.", true);
      if (isCancelled || expiresAt + EXPIRY_GRACE_MS < this.clock()) {
        this.#holds.delete(key);
        this.onHoldsChange();
      }
    }
  }

  /** Remove an expired hold, if it belongs to the chosen user, and say so. */
  onHoldExpired(reservationId) {
    for (const [key, hold] of this.#holds) {
      if (hold.id === reservationId) {
        this.#holds.delete(key);
        this.answer(hold.dropId, "Your hold ran out, and the unit went back.", true);
        this.onHoldsChange();
      }
    }
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

  async #readHolds() {
    const user = $("user").value;
    if (user !== this.#holdsUser) this.#holds.clear();
    this.#holdsUser = user;
    this.onHoldsChange();
    if (!user) return;
    const changeCount = this.#changeCount;
    const { reservations } = await call("GET", "/reservations/me", { user }).catch(() => ({}));
    if (user !== $("user").value) return; // another user was chosen meanwhile
    if (changeCount !== this.#changeCount) return this.#readHolds(); // the answer is older than what a button did
    if (!reservations) return; // the call failed; keep the holds that are known
    this.#holds.clear();
    reservations.forEach((reservation) => this.#addHold(reservation));
    this.#changeCount = changeCount; // because #addHold counted, and reading the holds is no change by a button
    this.onHoldsChange();
  }

  /** The id of the chosen user, or of a guest that is created now. */
  async #userOrGuest() {
    if (!$("user").value) await this.#createUser(`guest-${uuid().slice(0, 8)}`);
    return $("user").value;
  }

  /** The users that this browser created, in any tab. */
  get #users() {
    return recall(USERS_KEY) ?? [];
  }

  /** Create a user with this name, and choose it. */
  async #createUser(name) {
    const { user } = await call("POST", "/internal/users", { body: { username: name } });
    remember(USERS_KEY, [...this.#users, { id: user.id, username: user.username }].slice(-MAX_USERS));
    this.#listUsers(user.id);
    this.#onUserChosen();
    return user;
  }

  #listUsers(chosen) {
    const options = this.#users.map(({ id, username }) => new Option(username, id, false, id === chosen));
    $("user").replaceChildren(...(options.length ? options : [new Option("nobody yet: make one", "")]));
  }

  #onUserChosen() {
    remember(USER_KEY, $("user").value);
    return this.#readHolds();
  }

  async #createUserFromForm(form) {
    const user = await this.#createUser(form.username.value);
    form.username.value = "";
    return `You are ${user.username}.`;
  }

  async #createDropFromForm(form) {
    const at = (seconds) => new Date(this.clock() + 1000 * seconds).toISOString();
    const starts = form.starts.value, ends = form.ends.value;
    const { drop } = await call("POST", "/drops", {
      user: await this.#userOrGuest(),
      body: {
        name: form.elements.name.value,
        price: Number(form.price.value),
        total_stock: Number(form.total_stock.value),
        starts_at: starts === "" ? null : at(Number(starts) || JUST_BEFORE_SECONDS),
        ends_at: ends === "" ? null : at(Number(starts) + Number(ends)),
      },
    });
    return `${drop.name} was created.`;
  }

  async #rushFromForm(form, say) {
    const progress = $("rush-progress"), line = $("rush-served"), buyers = Number(form.buyers.value);
    say(""); // clear the result of the last rush
    progress.value = 0;
    progress.hidden = line.hidden = false;
    try {
      const startsAt = new Date(this.clock() + 1000 * JUST_BEFORE_SECONDS);
      const seller = await this.#userOrGuest(), stock = Number(form.stock.value);
      return await rush({ seller, startsAt, buyers, stock }, (served, text) => {
        progress.value = served / buyers;
        line.textContent = text;
      });
    } finally {
      progress.hidden = line.hidden = true;
    }
  }

  /** When the form is submitted, do the work and show its result. The button is off meanwhile. */
  #onSubmit(id, work) {
    const form = $(id), button = form.querySelector("button"), line = form.querySelector(".answer");
    const say = (text, isRefusal = false) => {
      line.textContent = text;
      line.classList.toggle("refusal", isRefusal);
    };
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (button.ariaDisabled === "true") return;
      button.ariaDisabled = "true"; // not `disabled`, because that would lose the keyboard focus
      try {
        say(await work(form, say));
      } catch (refusal) {
        say(refusal.message, true);
      } finally {
        button.ariaDisabled = "false";
      }
    });
  }
}
