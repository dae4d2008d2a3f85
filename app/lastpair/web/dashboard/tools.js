// What development adds: be somebody, create drops, reserve, purchase, cancel, and simulate a rush.

import { call, uuid } from "./api.js";
import { rush } from "./rush.js";

const JUST_BEFORE_SECONDS = -1; // what starts now has started when the server hears of it
const LATE_MS = 3000; // the event of a hold that ran out comes with the next sweep
const USERS_KEY = "lastpair.users", USER_KEY = "lastpair.user";
const MAX_USERS = 50;
const $ = (id) => document.getElementById(id);

// A browser that may store nothing remembers nobody after a reload, that is all.
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
    // as said above
  }
}

export class Tools {
  /** By drop: the chosen user's hold, `{ id, expiresAt }`. */
  holds = new Map();
  #busy = new Set();
  #unanswered = new Map(); // by drop and user, a call and its key: pressed again, the button asks for the same
  #changes = 0;
  #holder = null;
  #isShown = false;

  constructor(state, { clock, answer, onHold }) {
    Object.assign(this, { state, clock, answer, onHold });
  }

  show() {
    this.#isShown = true;
    $("tools").hidden = false;
    $("tools").open = matchMedia("(min-width: 60rem)").matches; // on a phone the drops come first
    this.#listUsers(recall(USER_KEY));
    $("user").addEventListener("change", () => this.#choose());
    this.#onSubmit("user-form", (form) => this.#makeUser(form));
    this.#onSubmit("drop-form", (form) => this.#createDrop(form));
    this.#onSubmit("rush-form", (form, say) => this.#rush(form, say));
    this.#choose();
  }

  /** A button of a card was pressed. */
  async act(action, drop) {
    if (this.#busy.has(drop.id)) return; // a double click is one
    this.#busy.add(drop.id);
    this.answer(drop.id, ""); // so that the same words are said again
    try {
      const hold = this.holds.get(drop.id), user = await this.#anybody();
      if (action === "reserve") {
        let { reservation } = await this.#callOnce("reserve", drop, user);
        if (reservation.status !== "ACTIVE") ({ reservation } = await this.#callOnce("reserve", drop, user)); // that one is long over
        if (user === $("user").value) this.#hold(reservation); // else somebody else was chosen meanwhile
        this.answer(drop.id, "A unit is held for you.");
      } else if (action === "purchase") {
        await this.#callOnce("purchase", drop, user);
        this.#forget(drop.id, hold);
        this.answer(drop.id, "It is yours.");
      } else {
        await call("DELETE", `/reservations/${hold.id}/cancel`, { user });
        this.#forget(drop.id, hold);
        this.answer(drop.id, "The unit went back.");
      }
    } catch (refusal) {
      this.answer(drop.id, refusal.message, true);
      if (["NO_ACTIVE_RESERVATION", "RESERVATION_EXPIRED", "RESERVATION_NOT_ACTIVE", "ALREADY_RESERVED"].includes(refusal.code)) {
        await this.#readHolds(); // another tab was quicker
      }
    } finally {
      this.#busy.delete(drop.id);
    }
    this.onHold();
  }

  /** All is told anew: so are the holds. */
  refresh() {
    if (this.#isShown) this.#readHolds();
  }

  /** Holds that ran out, though no event said so, and those of drops that were cancelled. */
  forgetOld() {
    for (const [dropId, hold] of this.holds) {
      const isCancelled = this.state.drops.get(dropId)?.status === "cancelled";
      if (isCancelled) this.answer(dropId, "The drop was cancelled, and your hold with it.", true);
      if (isCancelled || hold.expiresAt + LATE_MS < this.clock()) {
        this.holds.delete(dropId);
        this.onHold();
      }
    }
  }

  /** A hold of somebody's ran out. */
  expired(reservationId) {
    for (const [dropId, hold] of this.holds) {
      if (hold.id === reservationId) {
        this.holds.delete(dropId);
        this.answer(dropId, "Your hold ran out, and the unit went back.", true);
        this.onHold();
      }
    }
  }

  async #callOnce(action, drop, user) {
    const whose = `${drop.id} ${user}`, last = this.#unanswered.get(whose);
    const key = last?.action === action ? last.key : uuid();
    this.#unanswered.set(whose, { action, key });
    try {
      const data = await call("POST", `/drops/${drop.id}/${action}`, { user, key });
      this.#unanswered.delete(whose);
      return data;
    } catch (refusal) {
      if (refusal.status > 0) this.#unanswered.delete(whose);
      throw refusal;
    }
  }

  #forget(dropId, hold) {
    this.#changes += 1;
    if (this.holds.get(dropId)?.id === hold?.id) this.holds.delete(dropId);
  }

  #hold(reservation) {
    this.#changes += 1;
    this.holds.set(reservation.drop_id, { id: reservation.id, expiresAt: Date.parse(reservation.expires_at) });
  }

  async #readHolds() {
    const user = $("user").value;
    if (user !== this.#holder) this.holds.clear();
    this.#holder = user;
    this.onHold();
    if (!user) return;
    const changes = this.#changes;
    const { reservations } = await call("GET", "/reservations/me", { user }).catch(() => ({}));
    if (user !== $("user").value) return; // somebody else was chosen meanwhile
    if (changes !== this.#changes) return this.#readHolds(); // the answer is older than what a button did
    if (!reservations) return; // not to be had now: what is known stands
    this.holds.clear();
    reservations.forEach((reservation) => this.#hold(reservation));
    this.#changes = changes;
    this.onHold();
  }

  /** The chosen user, or one made now. */
  async #anybody() {
    if (!$("user").value) this.#add((await call("POST", "/internal/users", { body: { username: `guest-${uuid().slice(0, 8)}` } })).user);
    return $("user").value;
  }

  /** Whom this browser made, in any tab. */
  get #users() {
    return recall(USERS_KEY) ?? [];
  }

  #add({ id, username }) {
    remember(USERS_KEY, [...this.#users, { id, username }].slice(-MAX_USERS));
    this.#listUsers(id);
    this.#choose();
  }

  #listUsers(chosen) {
    const options = this.#users.map(({ id, username }) => new Option(username, id, false, id === chosen));
    $("user").replaceChildren(...(options.length ? options : [new Option("nobody yet: make one", "")]));
  }

  #choose() {
    remember(USER_KEY, $("user").value);
    return this.#readHolds();
  }

  async #makeUser(form) {
    const { user } = await call("POST", "/internal/users", { body: { username: form.username.value } });
    this.#add(user);
    form.username.value = "";
    return `You are ${user.username}.`;
  }

  async #createDrop(form) {
    const at = (seconds) => new Date(this.clock() + 1000 * seconds).toISOString();
    const starts = form.starts.value, ends = form.ends.value;
    const { drop } = await call("POST", "/drops", {
      user: await this.#anybody(),
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

  async #rush(form, say) {
    const progress = $("rush-progress"), served = $("rush-served"), buyers = Number(form.buyers.value);
    say(""); // what the last one came to
    progress.value = 0;
    progress.hidden = served.hidden = false;
    try {
      const startsAt = new Date(this.clock() + 1000 * JUST_BEFORE_SECONDS);
      return await rush({ seller: await this.#anybody(), startsAt, buyers, stock: Number(form.stock.value) }, (done, text) => {
        progress.value = done / buyers;
        served.textContent = text;
      });
    } finally {
      progress.hidden = served.hidden = true;
    }
  }

  /** Say what became of a form, with its button off meanwhile. */
  #onSubmit(id, work) {
    const form = $(id), button = form.querySelector("button"), line = form.querySelector(".answer");
    const say = (text, isRefusal = false) => {
      line.textContent = text;
      line.classList.toggle("refusal", isRefusal);
    };
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (button.ariaDisabled === "true") return;
      button.ariaDisabled = "true"; // and not disabled, which would take the keyboard away
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
