// Who is signed in, where identity is by token (AUTH_MODE=jwt): the seller whose token this tab has.

import { recall, remember, takeToken } from "/buyer/identity.js";

import { call, callFor } from "./api.js";
import { ask } from "./dialogs.js";
import { $, setText } from "./dom.js";
import { capitalized } from "./format.js";

const TOKEN_KEY = "lastpair.seller-token";
const TOKEN = /^[\w.-]+$/;
const CHECK = "/drops?status=draft&limit=1"; // a small answer that only a seller gets

/**
 * The token comes by "Sign in", or with `#token=…` in the address. It is kept in this tab alone, until it is closed. Calls
 * onChange(isSignedIn) when a seller has signed in or out.
 */
export class Session {
  token = null;
  #arrived = takeToken();
  #claims = {};
  #isStarted = false;

  constructor({ say, onChange }) {
    Object.assign(this, { say, onChange });
    addEventListener("hashchange", () => {
      this.#arrived = takeToken() ?? this.#arrived;
      if (this.#isStarted) this.#arrive();
    });
    $("account").addEventListener("click", () => {
      this.#tell("");
      if (this.token) this.#askToSignOut();
      else this.#askToSignIn();
    });
  }

  /** Offer to sign in, and go on with the token that this tab has. The claim of this name in a token is the seller's name. */
  start(nameClaim) {
    if (this.#isStarted) return;
    this.#isStarted = true;
    this.nameClaim = nameClaim;
    callFor(this);
    const kept = recall("sessionStorage", TOKEN_KEY);
    if (kept) this.#begin(kept);
    else this.#show();
    this.#arrive();
  }

  /** A call was refused because of the token. */
  onRefused(refusal) {
    this.#end();
    this.#tell(`You are signed out. ${reasonOf(refusal)}`);
  }

  /** Use the token that came with the address. It is asked first if it is another seller's. */
  async #arrive() {
    const token = this.#arrived;
    this.#arrived = null;
    if (!token) return;
    try {
      await check(token);
    } catch (refusal) {
      return this.#tell(`This address did not sign you in. ${reasonOf(refusal)}`);
    }
    const claims = claimsOf(token), name = this.#nameOf(claims);
    if (!this.token || claims.sub === this.#claims.sub) return this.#accept(token);
    ask({
      title: "Sign in as another seller?", submit: "Sign in",
      text: `You are signed in as ${this.#nameOf(this.#claims)} (${this.#claims.sub}).`
        + ` This address would sign you in as ${name} (${claims.sub}).`,
    }, () => this.#accept(token));
  }

  #askToSignIn() {
    ask({
      title: "Sign in", submit: "Sign in", text: "Paste a seller’s token. It is kept in this tab, until you close it.",
      fields: [{ name: "token", label: "Token", class: "secret", autocomplete: "off", spellcheck: "false", required: true }],
    }, async (values) => {
      const token = values.token.trim().replace(/^Bearer\s+/i, "");
      await check(token).catch((refusal) => {
        throw new Error(reasonOf(refusal));
      });
      this.#accept(token);
    });
  }

  #askToSignOut() {
    const title = `Signed in as ${this.#nameOf(this.#claims)}`, text = "When you sign out, this tab forgets the token.";
    ask({ title, text, submit: "Sign out" }, () => this.#end());
  }

  #accept(token) {
    remember("sessionStorage", TOKEN_KEY, token);
    this.#begin(token);
    this.say(`You are signed in as ${this.#nameOf(this.#claims)}.`);
  }

  #begin(token) {
    this.token = token;
    this.#claims = claimsOf(token);
    this.#tell("");
    this.#show();
    this.onChange(true);
  }

  #end() {
    try {
      sessionStorage.removeItem(TOKEN_KEY);
    } catch {
      // a browser that allows no storage has kept nothing
    }
    this.token = null;
    this.#claims = {};
    this.#show();
    this.onChange(false);
  }

  #show() {
    $("account").hidden = false;
    setText($("account-name"), this.token ? `Signed in as ${this.#nameOf(this.#claims)}` : "Sign in");
  }

  #tell(text) {
    setText($("session-notice"), text);
    $("session-notice").hidden = !text;
  }

  #nameOf(claims) {
    return [claims[this.nameClaim], claims.sub].find((name) => typeof name === "string" && name.trim()) ?? "a seller";
  }
}

/** Throws a Refusal if the token is refused, or is not a seller's. */
async function check(token) {
  if (!TOKEN.test(token)) throw new Error("The text is no token."); // a header cannot have each letter
  await call("GET", CHECK, { token });
}

/** What the API says about a token, in words for the one who has it. */
function reasonOf({ code, message }) {
  if (code === "FORBIDDEN") return `This is not a seller’s token. ${message}`;
  return capitalized(message.replace(/^Authorization: /, ""));
}

/** The claims of a token that the server has accepted. */
function claimsOf(token) {
  try {
    const text = atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (letter) => letter.charCodeAt(0))));
  } catch {
    return {}; // somebody changed the storage of this tab
  }
}
