// The form in the drawer that makes a drop.

import { uuid } from "/buyer/identity.js";

import { call } from "./api.js";
import { onSubmit } from "./dialogs.js";
import { $, cloneOf } from "./dom.js";

// After these answers to a repeat it is still not known whether the first call made the drop.
const UNKNOWING_STATUSES = new Set([401, 403, 408, 425, 429]);
const JUST_BEFORE_SECONDS = -1; // so that a drop that starts now has already started when the server receives it
const TERMS = ["limit_per_user", "hold_seconds", "extension_seconds", "rehold_after_seconds"];
const PARTS = { name: "sizes", total_stock: "units", price: "size_price" }; // what a field of a variant is called in the form

export class DropForm {
  #form = $("drop-form");
  #lines = []; // of each variant that is asked for: the line of sizes that has it
  #unanswered = null; // the call without an answer; the same form repeats it with the same key

  /** `findSeller()` says who makes the drop; `clock` is the server's time. Calls `onCreated(drop)`, and is empty then. */
  constructor({ findSeller, clock, onCreated }) {
    Object.assign(this, { findSeller, clock, onCreated });
    $("add-sizes").addEventListener("click", () => this.#addLine());
    for (const name of ["starts", "ends"]) this.#field(name).addEventListener("change", () => this.#arrange());
    this.#arrange();
    onSubmit(this.#form, () => this.#create(), (path) => this.#fieldAt(path));
  }

  async #create() {
    const user = await this.findSeller(), asked = this.#asked(user);
    if (this.#unanswered?.asked !== asked) this.#unanswered = { asked, key: uuid(), body: this.#body() };
    const { key, body } = this.#unanswered;
    const { drop } = await call("POST", "/drops", { user, key, body }).catch((refusal) => {
      if (refusal.status === 0 || refusal.status >= 500) this.#unanswered.isLost = true;
      else if (!this.#unanswered.isLost || !UNKNOWING_STATUSES.has(refusal.status)) this.#unanswered = null;
      throw refusal;
    });
    this.#unanswered = null;
    if (this.#asked(user) === asked) this.#empty(); // else the next drop is in it already
    this.onCreated(drop);
  }

  #asked(user) {
    return JSON.stringify([user, ...new FormData(this.#form)]);
  }

  #body() {
    const variants = this.#variants(), now = this.clock();
    const startsAt = this.#moment("starts", now), endsAt = this.#moment("ends", startsAt ?? now);
    const terms = TERMS.filter((name) => this.#field(name).value !== "");
    const image_url = this.#field("image_url").value.trim();
    return {
      name: this.#field("name").value,
      price: Number(this.#field("price").value),
      currency: this.#field("currency").value.toUpperCase(),
      ...(this.#hasSizes ? { variants } : { total_stock: Number(this.#field("total_stock").value) }),
      starts_at: startsAt && new Date(startsAt).toISOString(),
      ends_at: endsAt && new Date(endsAt).toISOString(),
      ...Object.fromEntries(terms.map((name) => [name, Number(this.#field(name).value)])),
      ...(image_url && { image_url }),
    };
  }

  /** The time that a choice means: so many seconds after `from`, or the one that is given beside it; null if there is none. */
  #moment(name, from) {
    const { value } = this.#field(name);
    if (value === "at") return Date.parse(this.#field(`${name}_at`).value);
    return value === "" ? null : from + 1000 * (Number(value) || JUST_BEFORE_SECONDS);
  }

  /** A line has sizes of the same units and price, with commas in between. */
  #variants() {
    this.#lines = [];
    return [...$("size-lines").children].flatMap((line) => {
      const [names, units, price] = [...line.querySelectorAll("input")].map(({ value }) => value);
      return names.split(",").map((name) => name.trim()).filter(Boolean).map((name) => {
        this.#lines.push(line);
        return { name, total_stock: Number(units), ...(price !== "" && { price: Number(price) }) };
      });
    });
  }

  /** The field to which a refusal belongs: `price`, `ends_at`, `variants.2.total_stock`, or `variants.name` of all. */
  #fieldAt(path) {
    const [isSize, place = 0, part = "name"] = path.match(/^variants(?:\.(\d+))?(?:\.(\w+))?$/) ?? [];
    if (isSize) return (this.#lines[place] ?? $("size-lines").firstElementChild)?.querySelector(`[name=${PARTS[part]}]`);
    const field = this.#field(path);
    return field?.disabled ? this.#field(path.replace(/_at$/, "")) : field;
  }

  #field(name) {
    return this.#form.elements.namedItem(name);
  }

  get #hasSizes() {
    return $("size-lines").children.length > 0;
  }

  #addLine() {
    const last = $("size-lines").lastElementChild ?? this.#form;
    const units = last.querySelector("[name=units], [name=total_stock]").value;
    $("size-lines").append(cloneOf("size-line"));
    const line = $("size-lines").lastElementChild;
    line.querySelector("[name=units]").value = units;
    line.querySelector("button").addEventListener("click", () => this.#removeLine(line));
    this.#arrange();
    line.querySelector("input").focus();
  }

  #removeLine(line) {
    const next = line.nextElementSibling ?? line.previousElementSibling;
    line.remove();
    this.#arrange();
    (next?.querySelector("button") ?? $("add-sizes")).focus();
  }

  /** Show the fields that count: the units unless there are sizes, and a time where one is to be given. */
  #arrange() {
    const show = (name, isShown) => {
      const field = this.#field(name);
      field.disabled = field.parentElement.hidden = !isShown;
    };
    show("total_stock", !this.#hasSizes);
    for (const name of ["starts", "ends"]) show(`${name}_at`, this.#field(name).value === "at");
  }

  #empty() {
    this.#form.reset();
    $("size-lines").replaceChildren();
    this.#form.querySelector("details").open = false;
    this.#arrange();
  }
}
