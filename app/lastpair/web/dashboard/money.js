// What a seller sees of the money where a payment provider takes it: the sums of a drop, its payments, and what went wrong. This
// file is loaded only there.

import { call } from "./api.js";
import { $, make } from "./dom.js";
import { capitalized, formatMoney, formatNumber, formatTime } from "./format.js";

const READ_MS = 2000;

/** Most of what happens to payments is told to buyers alone, so what is shown of it is read again after this time. */
export const PAYMENTS_REREAD_MS = 10_000;

const STATUSES = ["paid", "pending", "refunded", "cancelled", "failed"];
const STATUS = { pending: "to be paid", failed: "declined" };
const PROBLEM = {
  unknown_payment: "Told of a payment that is not known", wrong_amount: "Another amount than was asked for",
  wrong_currency: "Another currency than was asked for", wrong_mode: "An event of the other mode, test or live",
  refunded_in_part: "A part was refunded at the provider", refund_failed: "A refund failed at the provider",
  too_late: "Paid too late, so it is refunded", paid_twice: "Paid a second time: pay that back at the provider",
};
const ACTION = { create: "Ask for the money", cancel: "Ask for it no more", refund: "Refund" };
const CALL = { open: "Not done yet", done: "Done", given_up: "Given up" };

const wordsOf = (status) => STATUS[status] ?? status;

/** The tabs of a drop with payments, as TABS in seller.js. */
export const PAYMENT_TABS = {
  payments: {
    label: "Payments", path: "payments?", list: "payments", none: "Nobody has a payment yet.",
    columns: ["Buyer", "Amount", "Begun at", "Refunded", "Status"],
    cells: (row) => [row.username, formatMoney(row.amount, row.currency), formatTime(row.createdAt),
      row.refunded_amount ? formatMoney(row.refunded_amount, row.currency) : "", capitalized(wordsOf(row.status))],
  },
  problems: {
    label: "Problems", path: "/payments/problems?", list: "problems", none: "The provider told nothing that you have to look at.",
    isShown: (row, drop) => row.drop_id === drop.id || row.drop_id === null, // the unknown payment has no drop
    columns: ["What", "Buyer", "Told amount", "At"],
    cells: (row) => [PROBLEM[row.problem] ?? row.problem, row.username ?? "", amountTold(row), formatTime(row.at)],
  },
  calls: {
    label: "Told to the provider", path: "provider-calls?", list: "calls", none: "The provider was told nothing yet.",
    columns: ["What", "Amount", "Tries", "State", "Why", "Again"],
    cells: (row) => [ACTION[row.action], formatMoney(row.amount, row.currency), formatNumber(row.attempts), CALL[row.status],
      row.status === "done" ? "" : row.last_error ?? "", row.status === "done" || !row.last_error ? "" : retryButton(row)],
  },
};

function amountTold({ problem, amount, refunded_amount: refunded, currency, payment_currency }) {
  const value = problem === "refunded_in_part" ? refunded ?? amount : amount ?? refunded, unit = currency ?? payment_currency;
  return value === null || unit === null ? "" : formatMoney(value, unit);
}

function retryButton({ id, action }) {
  const label = `Retry: ${ACTION[action]}`;
  return make("button", { type: "button", class: "btn small", "data-retry": id, "aria-label": label }, "Retry");
}

/** The sums of the drop that is shown, one row for each currency. `state.money` has what revenueOf needs of them. */
export class Money {
  #readAt = -Infinity;
  #sequence = null;
  #dropId = null;

  constructor(state, { clock, onRead }) {
    Object.assign(this, { state, clock, onRead });
    state.money = new Map();
  }

  /** Forget the sums, because they are the seller's, and get old. */
  hide() {
    this.#dropId = this.#sequence = null;
    this.#readAt = -Infinity;
    this.state.money.clear();
    $("money").hidden = true;
  }

  /** Read the sums again if the drop has changed, or some time has passed. */
  tick(drop) {
    if (drop.id !== this.#dropId) this.hide();
    this.#dropId = drop.id;
    const age = this.clock() - this.#readAt;
    if (age > PAYMENTS_REREAD_MS || (age > READ_MS && this.#sequence !== drop.lastSequence)) this.#read(drop);
  }

  async #read(drop) {
    this.#readAt = this.clock();
    const sequence = drop.lastSequence;
    const { money } = await call("GET", `/drops/${drop.id}/money`, { user: drop.created_by }).catch(() => ({}));
    if (!money || this.#dropId !== drop.id) return; // the next tick asks again, or another drop is shown
    this.#sequence = sequence;
    const own = money.find(({ currency }) => currency === drop.currency);
    this.state.money.set(drop.id, own ? own.sold_for - own.refunded : 0);
    $("money").replaceChildren(...money.flatMap(figuresOf));
    $("money").hidden = money.length === 0;
    this.onRead();
  }
}

function figuresOf({ currency, sold_for, refunded, open, counts }) {
  const sum = (name, amount) => figure(name, make("b", {}, formatMoney(amount, currency)));
  const shown = STATUSES.filter((status) => counts[status]);
  const purchases = shown.map((status) => `${formatNumber(counts[status])} ${wordsOf(status)}`);
  return [sum("Sold for", sold_for), sum("Refunded", refunded), sum("Open", open), figure("Purchases", purchases.join(", "))];
}

function figure(name, value) {
  return make("div", {}, make("dt", {}, name), make("dd", {}, value));
}
