// The users that this browser made, and the one whose buttons are pressed. Development only.

import { uuid } from "/buyer/identity.js";

import { call } from "./api.js";

const USERS_KEY = "lastpair.users", USER_KEY = "lastpair.user", MAX_USERS = 50, NOBODY = "A new guest";

// The fallback when the browser allows no storage. The only loss then is that a reload forgets the users.
const remembered = new Map();

export function recall(key) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? remembered.get(key);
  } catch {
    return remembered.get(key);
  }
}

export function remember(key, value) {
  remembered.set(key, value);
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // `remembered` has the value
  }
}

/** The users, shown in a <select>; `label` shows the chosen one. Calls onChoose() when another one is chosen. */
export class Users {
  constructor(select, label, onChoose) {
    Object.assign(this, { select, label, onChoose });
    this.#list(recall(USER_KEY));
    select.addEventListener("change", () => this.#choose(select.value));
  }

  /** The id of the chosen user, or "" when there is none. */
  get current() {
    return this.select.value;
  }

  /** The id of the chosen user, or of a guest that is created now. */
  async currentOrGuest() {
    if (!this.current) await this.create(`guest-${uuid().slice(0, 8)}`);
    return this.current;
  }

  /** Create a user with this name, and choose it. */
  async create(name) {
    const { user } = await call("POST", "/internal/users", { body: { username: name } });
    remember(USERS_KEY, [...this.#users, { id: user.id, username: user.username }].slice(-MAX_USERS));
    this.#list(user.id);
    this.#choose(user.id);
    return user;
  }

  /** The users that this browser created, in any tab. */
  get #users() {
    return recall(USERS_KEY) ?? [];
  }

  #choose(id) {
    remember(USER_KEY, id);
    this.#show();
    this.onChoose();
  }

  #show() {
    this.label.textContent = this.current ? `Acting as ${this.select.selectedOptions[0].textContent}` : "Act as…";
  }

  #list(chosen) {
    const options = this.#users.map(({ id, username }) => new Option(username, id, false, id === chosen));
    this.select.replaceChildren(...(options.length ? options : [new Option(NOBODY, "")]));
    this.#show();
  }
}
