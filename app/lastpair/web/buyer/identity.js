// Who the buyer is. The page has no sign-in of its own.

const USER_KEY = "lastpair.buyer", TOKEN_KEY = "lastpair.token";

/** A random UUID. crypto.randomUUID needs a secure origin; a phone that opens a development machine over plain HTTP has none. */
export function uuid() {
  const digits = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const version = `4${digits.slice(13, 16)}`, variant = `8${digits.slice(17, 20)}`;
  return [digits.slice(0, 8), digits.slice(8, 12), version, variant, digits.slice(20)].join("-");
}

/** AUTH_MODE=header, in development: a guest, who is kept in this browser. The server makes the user at the first reserve. */
class Guest {
  #id = recall("localStorage", USER_KEY);

  get isKnown() {
    return this.#find() !== null;
  }

  /** What the client of the API needs to know of the user, who is invented now if `isNeeded` and there is none. */
  identity(isNeeded) {
    if (!this.isKnown && isNeeded) remember("localStorage", USER_KEY, (this.#id = uuid()));
    return this.#id && { userId: this.#id, userName: `guest-${this.#id.slice(0, 13)}` };
  }

  #find() {
    return (this.#id = recall("localStorage", USER_KEY) ?? this.#id); // another tab may have invented one
  }
}

/**
 * AUTH_MODE=jwt: the shop opens the page, or its frame, with `#token=…`. The token is taken out of the address at once, and kept
 * for this tab until it is closed, so that a reload keeps it. To renew it, the shop sets the fragment again.
 */
class Token {
  #token = recall("sessionStorage", TOKEN_KEY);

  constructor(onChange) {
    this.#take();
    addEventListener("hashchange", () => {
      if (this.#take()) onChange();
    });
  }

  get isKnown() {
    return this.#token !== null;
  }

  identity() {
    return this.#token && { token: this.#token };
  }

  #take() {
    const token = takeToken();
    if (token) remember("sessionStorage", TOKEN_KEY, (this.#token = token));
    return token !== null;
  }
}

/** The token of `#token=…`. It is taken out of the address at once. Null if there is none. */
export function takeToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token") || null;
  if (token) history.replaceState(history.state, "", location.pathname + location.search);
  return token;
}

/** The buyer. Calls onChange() when the shop gives another token. */
export function identify(authMode, onChange) {
  return authMode === "jwt" ? new Token(onChange) : new Guest();
}

// A frame whose browser blocks storage has none; then the buyer is known as long as the page is open.
export function recall(storage, key) {
  try {
    return window[storage].getItem(key);
  } catch {
    return null;
  }
}

export function remember(storage, key, value) {
  try {
    window[storage].setItem(key, value);
  } catch {
    // see recall
  }
}
