// What a seller does on a drop's page: change the drop, and see its holders, buyers and history. The page acts as the seller who
// is signed in; in development, where nobody signs in, as the one who made the drop.

import { call, readPage } from "./api.js";
import { ask } from "./dialogs.js";
import { $, make, setText } from "./dom.js";
import { capitalized, formatCountdown, formatMoney, formatNumber, formatTime } from "./format.js";
import { isOver, statusAt } from "./state.js";

const PAGE_ROWS = 25, REREAD_MS = 2000;
const YEARS = { min: "2000-01-01T00:00", max: "9999-12-31T23:59" }; // others are slips of the hand

/** "2026-12-24T18:00" in the time zone of the browser, as an <input type="datetime-local"> has it, and back. */
function toLocal(time) {
  if (!time) return "";
  const date = new Date(time);
  return new Date(date - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}
const fromLocal = (text) => (text ? new Date(text).toISOString() : null);

/** The buttons of a drop: `{ name, label, isOn(status, drop), press(drop, say) }`. `say(text, isRefusal)` tells the outcome. */
const ACTIONS = [
  { name: "edit", label: "Edit", isOn: (status) => !isOver(status), press: edit },
  { name: "stock", label: "Add stock", isOn: (status) => !isOver(status), press: addStock },
  { name: "start", label: "Start now", isOn: (status) => ["draft", "scheduled"].includes(status), press: start },
  { name: "pause", label: "Pause", isOn: (status, { paused_at }) => status === "live" && !paused_at, press: pause },
  { name: "resume", label: "Resume", isOn: (status, { paused_at }) => status === "live" && paused_at, press: pause },
  { name: "end", label: "End now", isOn: (status) => status === "live", press: end },
  { name: "cancel", label: "Cancel drop", isOn: (status) => !isOver(status), press: cancel, isGrave: true },
  { name: "refund", label: "Refund all", isOn: isOver, press: refundAll, isGrave: true },
];

const change = (drop, body) => call("PATCH", `/drops/${drop.id}`, { user: drop.created_by, body });

function edit(drop, say) {
  const hasSizes = drop.variants.length > 0, given = {
    name: drop.name, price: String(drop.price), starts_at: toLocal(drop.starts_at), ends_at: toLocal(drop.ends_at),
    limit_per_user: String(drop.limit_per_user ?? ""), hold_seconds: String(drop.hold_seconds ?? ""),
  };
  const parse = {
    name: String, price: Number, starts_at: fromLocal, ends_at: fromLocal,
    limit_per_user: (text) => (text ? Number(text) : null), hold_seconds: (text) => (text ? Number(text) : null),
  };
  ask({
    title: "Edit the drop", submit: "Save",
    text: hasSizes ? "Sizes that have a price of their own keep it." : "",
    fields: [
      { name: "name", label: "Name", value: given.name, maxlength: 200, required: true },
      { name: "price", label: `Price, ${drop.currency}`, value: given.price, type: "number", min: 0, step: "any",
        required: true },
      { name: "starts_at", label: "Starts", type: "datetime-local", ...YEARS, value: given.starts_at },
      { name: "ends_at", label: "Ends", type: "datetime-local", ...YEARS, value: given.ends_at },
      { name: "limit_per_user", label: "Units a buyer may have (empty: any number)", type: "number", min: 1,
        value: given.limit_per_user },
      { name: "hold_seconds", label: "Seconds of a hold (empty: the usual time)", type: "number", min: 1, max: 86_400,
        value: given.hold_seconds },
    ],
  }, async (values) => {
    const changed = Object.keys(given).filter((name) => values[name] !== given[name]);
    if (changed.length === 0) return;
    await change(drop, Object.fromEntries(changed.map((name) => [name, parse[name](values[name])])));
    say(`${drop.name} was changed.`);
  });
}

function addStock(drop, say) {
  const sizes = drop.variants.map(({ id, name }) => ({ value: id, text: name }));
  ask({
    title: "Add stock", submit: "Add", text: "A negative number takes units away that are neither held nor sold.",
    fields: [
      ...(sizes.length ? [{ name: "size", label: "Size", options: sizes }] : []),
      { name: "units", label: "Units", type: "number", value: "10", required: true },
    ],
  }, async ({ size, units }) => {
    const add_stock = Number(units);
    const variants = drop.variants.map(({ id }) => (id === size ? { id, add_stock } : { id }));
    await change(drop, size ? { variants } : { add_stock });
    say(`${drop.name} has ${formatNumber(Math.abs(add_stock))} ${add_stock < 0 ? "fewer" : "more"}.`);
  });
}

async function start(drop, say) {
  await change(drop, { status: "live" });
  say(`${drop.name} is live.`);
}

async function pause(drop, say) {
  const paused = !drop.paused_at; // before the event of the change arrives
  await change(drop, { paused });
  say(paused ? `${drop.name} is paused. What is held can still be paid.` : `${drop.name} goes on.`);
}

function end(drop, say) {
  const text = "Nobody can reserve any more. This cannot be taken back.";
  ask({ title: "End the sale?", submit: "End now", text }, async () => {
    await change(drop, { status: "ended" });
    say(`${drop.name} has ended.`);
  });
}

function cancel(drop, say) {
  ask({
    title: "Cancel the drop?", submit: "Cancel the drop", isGrave: true,
    text: "Every hold is released and nobody can buy any more. This cannot be taken back.",
    fields: [{ name: "refund", label: "Refund all that was sold", type: "checkbox" }],
  }, async ({ refund }) => {
    await call("POST", `/drops/${drop.id}/cancel`, { user: drop.created_by, body: { refund } });
    say(`${drop.name} was cancelled${refund ? ", and its sales are refunded" : ""}.`);
  });
}

function refundAll(drop, say) {
  ask({
    title: "Refund all sales?", submit: "Refund all", isGrave: true,
    text: "Every purchase that is paid is refunded, and every hold is released. This cannot be taken back.",
  }, async () => {
    await call("POST", `/drops/${drop.id}/cancel`, { user: drop.created_by, body: { refund: true } });
    say(`The sales of ${drop.name} are refunded.`);
  });
}

/** Shows the buttons that make sense now. They are made once, so what has the focus keeps it. */
export class SellerActions {
  #buttons = ACTIONS.map((action) => {
    const { name, label, isGrave } = action;
    const button = make("button", { type: "button", class: `btn${isGrave ? " grave" : ""}`, "data-action": name }, label);
    button.addEventListener("click", () => this.#press(action, button));
    return [action, button];
  });

  constructor(element, say) {
    Object.assign(this, { element, say });
    element.append(...this.#buttons.map(([, button]) => button));
  }

  render(drop, now) {
    this.drop = drop;
    const status = statusAt(drop, now);
    for (const [{ isOn }, button] of this.#buttons) button.hidden = !isOn(status, drop);
  }

  async #press({ press }, button) {
    if (button.ariaDisabled === "true") return; // the second click of a double click
    button.ariaDisabled = "true";
    this.say("");
    try {
      await press(this.drop, this.say);
    } catch (refusal) {
      this.say(refusal.message, true);
    } finally {
      button.ariaDisabled = "false";
    }
  }
}

const TABS = {
  holders: {
    label: "Holders", path: "reservations?status=ACTIVE&", list: "reservations", none: "Nobody holds a unit now.",
    columns: ["Buyer", "Size", "Units", "Held at", "Time left"],
    cells: (row, now) => [row.username, row.variant_name ?? "", formatNumber(row.qty), formatTime(row.createdAt),
      formatCountdown(Date.parse(row.expires_at) - now)],
  },
  buyers: {
    label: "Buyers", path: "purchases?", list: "purchases", none: "Nobody has bought yet.",
    columns: ["Buyer", "Size", "Units", "Bought at", "Amount", "Status"],
    cells: (row) => [row.username, row.variant_name ?? "", formatNumber(row.qty), formatTime(row.createdAt),
      row.amount === null ? "" : formatMoney(row.amount, row.currency), refundCell(row)],
  },
  history: {
    label: "History", path: "history?", list: "history", none: "Nothing was changed yet.",
    columns: ["What", "By", "At"],
    cells: (row, now, drop) => [describe(row, drop), row.username ?? row.db_user, formatTime(row.at)],
  },
};

/** What can be refunded of a purchase, or what became of it. */
function refundCell(row) {
  if (row.status !== "paid") return row.status === "pending" ? "to be paid" : row.status;
  const part = row.refunded_qty > 0 ? `${formatNumber(row.refunded_qty)} of ${formatNumber(row.qty)} refunded ` : "";
  return make("span", {}, part, refundButton(row));
}

function refundButton(purchase) {
  return make("button", { type: "button", class: "btn small", "data-refund": purchase.id, "aria-label":
    `Refund ${purchase.username}` }, "Refund");
}

const CHANGED = { add_stock: "stock", total_stock: "stock", starts_at: "start", ends_at: "end", paused_at: "paused",
  limit_per_user: "limit per buyer", hold_seconds: "seconds of a hold", rehold_after_seconds: "seconds until the next hold",
  extension_seconds: "seconds more for a hold", image_url: "picture", held_stock: "held units" };

/** A change in words: "Price $120.00 → $100.00". */
function describe({ action, details }, { currency }) {
  if (action !== "updated") return capitalized(action);
  const changes = Object.entries(details).map(([field, { from, to }]) =>
    `${CHANGED[field] ?? field} ${valueOf(field, from, currency)} → ${valueOf(field, to, currency)}`);
  return capitalized(changes.join(", "));
}

function valueOf(field, value, currency) {
  if (value === null || value === undefined) return "none";
  if (field === "price") return formatMoney(value, currency);
  if (field.endsWith("_at")) return formatTime(value);
  return typeof value === "object" ? "changed" : String(value);
}

/**
 * The tabs Holders, Buyers and History, and more where payments are made. The one that is shown is read again when its drop has
 * changed.
 */
export class SellerTables {
  #tabs = {};
  #tab = "holders";
  #rereadMs = Infinity;
  #rows = [];
  #cursor;
  #readAt = -Infinity;
  #readSequence = null;
  #isReading = false;

  constructor(state, { clock, say }) {
    Object.assign(this, { state, clock, say });
    this.tabs = [];
    this.add(TABS);
    $("tabs").addEventListener("keydown", (event) => this.#onKey(event));
    $("more").addEventListener("click", () => this.#read(true));
    $("table").addEventListener("click", ({ target }) => {
      this.#refund(target.dataset.refund);
      this.#retry(target.dataset.retry);
    });
    this.#choose("holders");
  }

  /** Add tabs. What they show is read again after this time, even if no event came, because no event tells of it. */
  add(tabs, rereadMs = Infinity) {
    Object.assign(this.#tabs, tabs);
    this.#rereadMs = rereadMs;
    const added = Object.entries(tabs).map(([name, { label }]) => {
      const attributes = { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": "table", "data-tab": name };
      const tab = make("button", attributes, label);
      tab.addEventListener("click", () => this.#choose(name));
      return tab;
    });
    for (const tab of added) tab.tabIndex = -1;
    this.tabs.push(...added);
    $("tabs").append(...added);
  }

  show(drop) {
    this.drop = drop;
    this.#clear();
  }

  /** Forget the rows, because they are the seller's. */
  hide() {
    this.show(null);
  }

  /** Read again if the drop has changed, at most every REREAD_MS. Between two readings only the time left moves. */
  tick(drop) {
    this.drop = drop;
    const age = this.clock() - this.#readAt, isChanged = this.#readSequence !== drop.lastSequence;
    if (age > this.#rereadMs || (age > REREAD_MS && isChanged)) this.#read();
    else if (this.#tab === "holders") this.#draw();
  }

  #clear() {
    this.#rows = [];
    this.#cursor = undefined;
    this.#readSequence = null;
    this.#readAt = -Infinity;
    setText($("table-note"), "");
    this.#draw();
  }

  #choose(name) {
    this.#tab = name;
    for (const tab of this.tabs) {
      const isChosen = tab.dataset.tab === name;
      tab.ariaSelected = String(isChosen);
      tab.tabIndex = isChosen ? 0 : -1;
    }
    $("table").setAttribute("aria-labelledby", `tab-${name}`);
    this.#clear();
    if (this.drop) this.#read();
  }

  #onKey(event) {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!move) return;
    event.preventDefault();
    const place = this.tabs.findIndex(({ ariaSelected }) => ariaSelected === "true");
    const next = this.tabs.at((place + move) % this.tabs.length);
    this.#choose(next.dataset.tab);
    next.focus();
  }

  async #read(isMore = false) {
    if (this.#isReading) return;
    this.#isReading = true;
    const { drop } = this, tab = this.#tab, { path, list } = this.#tabs[tab], sequence = drop.lastSequence;
    const rows = isMore ? PAGE_ROWS : Math.min(200, Math.max(PAGE_ROWS, this.#rows.length));
    const cursor = isMore ? `&cursor=${this.#cursor}` : "";
    this.#readAt = this.clock();
    const whole = path.startsWith("/") ? path : `/drops/${drop.id}/${path}`;
    const page = await readPage(`${whole}limit=${rows}${cursor}`, { user: drop.created_by }).catch(() => null);
    this.#isReading = false;
    if (!this.drop) return; // the seller has signed out meanwhile
    if (this.drop.id !== drop.id || this.#tab !== tab) return this.#read(); // another tab or drop was chosen meanwhile
    if (!page) return; // the next tick asks again
    this.#rows = isMore ? [...this.#rows, ...page[list]] : page[list];
    this.#cursor = page.nextCursor;
    this.#readSequence = sequence;
    this.#draw(true);
  }

  #draw(isRead = this.#readSequence !== null) {
    const { columns, cells, none, isShown = () => true } = this.#tabs[this.#tab], now = this.clock();
    const hasSizes = this.drop?.variants.length > 0;
    const keep = (list) => list.filter((_, place) => hasSizes || columns[place] !== "Size");
    const { refund, retry } = document.activeElement?.dataset ?? {};
    const alive = this.#rows.filter((row) => (
      isShown(row, this.drop) && (this.#tab !== "holders" || Date.parse(row.expires_at) > now)
    ));
    const head = make("tr", {}, ...keep(columns).map((text) => make("th", { scope: "col" }, text)));
    const body = alive.map((row) => make("tr", {}, ...keep(cells(row, now, this.drop)).map((cell) => make("td", {}, cell))));
    $("table-head").replaceChildren(...(body.length ? [head] : []));
    $("table-body").replaceChildren(...body);
    setText($("table-note"), isRead && body.length === 0 ? none : "");
    $("more").hidden = !this.#cursor;
    if (refund) (document.querySelector(`[data-refund="${refund}"]`) ?? $("table")).focus();
    if (retry) (document.querySelector(`[data-retry="${retry}"]`) ?? $("table")).focus();
  }

  async #refund(purchaseId) {
    const row = this.#rows.find(({ id }) => id === purchaseId);
    if (!row) return;
    this.say("");
    const left = row.qty - row.refunded_qty, back = (row.amount ?? 0) - (row.refunded_amount ?? 0);
    const most = formatMoney(back, row.currency ?? "USD");
    ask({
      title: "Refund this purchase?", submit: "Refund", isGrave: true,
      text: left > 1
        ? `${row.username} gets back what the units cost, ${most} for all ${formatNumber(left)}. They go back to stock.`
        : `${row.username} gets ${most} back, and the unit goes back to stock.`,
      fields: left > 1
        ? [{ name: "units", label: "Units", type: "number", min: 1, max: left, value: String(left), required: true }] : [],
    }, async ({ units }) => {
      const body = left > 1 ? { qty: Number(units) } : undefined;
      await call("POST", `/purchases/${purchaseId}/refund`, { user: this.drop.created_by, body });
      this.say(`${row.username} was refunded.`);
      await this.#read();
    });
  }

  async #retry(callId) {
    if (!callId) return;
    this.say("");
    try {
      await call("POST", `/provider-calls/${callId}/retry`, { user: this.drop.created_by });
      this.say("The provider is asked again soon.");
      await this.#read();
    } catch (refusal) {
      this.say(refusal.message, true);
    }
  }
}
