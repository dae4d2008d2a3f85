// The cards: a drop each, changed in place.

import { HISTORY_MS, heldStock, isOver, statusAt } from "./state.js";
import { span, timeElement } from "./times.js";

const SOON_MS = 60_000;
const CHART_MIN_MS = 10_000, CHART_WIDTH = 300, CHART_HEIGHT = 48, CHART_MARGIN = 2;
const PRICE = new Intl.NumberFormat(undefined, { minimumFractionDigits: 2 });

/** Shows the drops of a state in a list; `act(action, drop)` is called for a button. */
export class Cards {
  #cards = new Map();
  #stale = new Set();

  constructor(state, { list, empty, template, clock, act, hold }) {
    Object.assign(this, { state, list, empty, template, clock, act, hold });
  }

  /** A drop looks different now; null: all do, and there may be others. */
  touch(dropId) {
    this.#stale.add(dropId);
  }

  /** Show what has changed. */
  render() {
    if (this.#stale.delete(null)) {
      this.#arrange();
      this.touchAll();
    }
    for (const dropId of this.#stale) this.#cards.get(dropId)?.render();
    this.#stale.clear();
  }

  /** Time has passed: countdowns go on, charts move to the left, drops that begin or end change places. */
  tick() {
    if (this.#cards.size > 0) this.#arrange();
    for (const card of this.#cards.values()) card.tick();
  }

  /** The card's line for what became of a button. */
  answer(dropId, text, isRefusal = false) {
    this.#cards.get(dropId)?.answer(text, isRefusal);
  }

  /** Every card has its buttons from now on. */
  showActions() {
    this.areActionsShown = true;
    this.touchAll();
    this.render();
  }

  touchAll() {
    for (const dropId of this.#cards.keys()) this.#stale.add(dropId);
  }

  /** A card for each drop and no other, in order; whoever is at its buttons stays there. */
  #arrange() {
    const now = this.clock(), drops = [...this.state.drops.values()];
    const placeOf = new Map(drops.map((drop) => [drop, place(drop, now)]));
    drops.sort((a, b) => compare(placeOf.get(a), placeOf.get(b)));
    for (const [dropId, card] of this.#cards) {
      if (!this.state.drops.has(dropId)) {
        card.element.remove();
        this.#cards.delete(dropId);
      }
    }
    const focused = this.list.contains(document.activeElement) ? document.activeElement : null;
    let next = this.list.firstElementChild;
    for (const drop of drops) {
      const card = this.#cards.get(drop.id) ?? new Card(drop, this);
      card.drop = drop; // a snapshot brings a new one
      this.#cards.set(drop.id, card);
      if (next && next.nextElementSibling === card.element) this.list.append(next); // that one has moved, and not all others
      else if (next !== card.element) this.list.insertBefore(card.element, next);
      next = card.element.nextElementSibling;
    }
    if (focused !== document.activeElement) focused?.focus({ preventScroll: true });
    this.empty.hidden = drops.length > 0;
  }
}

/**
 * Where a drop stands: those on sale or about to be, the newest first, so that none changes its place as it goes live; those to
 * come, the next one first; drafts; those that are over.
 */
function place(drop, now) {
  const status = statusAt(drop, now), startsAt = Date.parse(drop.starts_at ?? "") || 0;
  if (status === "draft") return [2, 0, drop.id];
  if (isOver(status)) return [3, -startsAt, drop.id];
  return startsAt - now < SOON_MS ? [0, -startsAt, drop.id] : [1, startsAt, drop.id];
}

function compare([group, time, id], [otherGroup, otherTime, otherId]) {
  return group - otherGroup || time - otherTime || (id < otherId ? 1 : -1);
}

class Card {
  constructor(drop, cards) {
    this.drop = drop;
    this.cards = cards;
    this.element = cards.template.content.firstElementChild.cloneNode(true);
    this.element.dataset.dropId = drop.id;
    const titleId = `drop-${drop.id}`;
    this.#part("name").id = titleId;
    this.element.setAttribute("aria-labelledby", titleId);
    for (const action of ["reserve", "purchase", "cancel"]) {
      this.#part(action).addEventListener("click", ({ currentTarget: button }) => {
        if (button.ariaDisabled !== "true") cards.act(action, this.drop);
      });
      this.#part(action).setAttribute("aria-describedby", titleId);
    }
  }

  #part(name) {
    return this.element.querySelector(`.${name}`);
  }

  #text(name, text) {
    const part = this.#part(name);
    if (part.textContent !== text) part.textContent = text;
  }

  answer(text, isRefusal) {
    this.#text("answer", text);
    this.#part("answer").classList.toggle("refusal", isRefusal);
  }

  render() {
    const { drop } = this, held = heldStock(drop), left = drop.available_stock;
    const share = (units) => `${(100 * units) / drop.total_stock}%`;
    this.#text("name", drop.name);
    this.#text("price", PRICE.format(drop.price));
    const bar = this.#part("bar");
    for (const [name, units] of [["left", left], ["held", held], ["sold", drop.sold_stock]]) {
      bar.querySelector(`.${name}`).style.width = share(units);
      this.#text(`${name}-count`, units.toLocaleString());
    }
    this.#text("total-count", drop.total_stock.toLocaleString());
    bar.setAttribute("aria-label", `${left} left, ${held} held, ${drop.sold_stock} sold of ${drop.total_stock}`);
    this.#part("purchasers").replaceChildren(...drop.latest_purchasers.map(({ username, qty, createdAt }) => {
      const item = document.createElement("li");
      item.append(`${username}${qty > 1 ? ` × ${qty}` : ""} `, timeElement(createdAt));
      return item;
    }));
    this.tick();
  }

  tick() {
    const { drop } = this, now = this.cards.clock(), status = statusAt(drop, now);
    const isSoldOut = status === "live" && drop.available_stock === 0;
    this.element.dataset.status = isSoldOut ? "sold-out" : status;
    this.#text("status", isSoldOut ? "sold out" : status);
    this.#text("countdown", countdown(drop, status, now));
    this.#draw(now);
    this.#showActions(status, now);
  }

  #draw(now) {
    const { history, total_stock: total, available_stock: left } = this.drop;
    const shown = Math.min(HISTORY_MS, Math.max(CHART_MIN_MS, now - history[0].at));
    const x = (at) => Math.max(0, Math.round(CHART_WIDTH * (1 - (now - at) / shown)));
    const y = (units) => (CHART_MARGIN + (CHART_HEIGHT - 2 * CHART_MARGIN) * (1 - units / total)).toFixed(1);
    const [first, ...others] = history.slice(Math.max(0, history.findLastIndex(({ at }) => at <= now - shown)));
    const lastAt = new Map(others.map((sample) => [x(sample.at), sample.left])); // one to a pixel: drawing hundreds more takes long
    const steps = [...lastAt].map(([at, units]) => `H${at}V${y(units)}`).join("");
    const line = `M${x(first.at)} ${y(first.left)}${steps}H${CHART_WIDTH}`;
    this.#part("line").setAttribute("d", line);
    this.#part("area").setAttribute("d", `${line}V${CHART_HEIGHT}H${x(first.at)}Z`);
    this.#part("chart").setAttribute("aria-label", `Units left over the last ${span(shown)}: ${first.left} at first, ${left} now`);
    this.#text("ago", `${span(shown)} ago`);
  }

  #showActions(status, now) {
    const hold = this.cards.hold(this.drop.id), actions = this.#part("actions");
    actions.hidden = !this.cards.areActionsShown;
    if (actions.hidden) return;
    const focused = actions.contains(document.activeElement) && document.activeElement;
    this.#part("reserve").hidden = Boolean(hold);
    this.#part("reserve").ariaDisabled = String(status !== "live"); // and not disabled, which would take the keyboard away
    this.#part("purchase").hidden = this.#part("cancel").hidden = !hold;
    this.#text("hold", hold ? `held for ${seconds(hold.expiresAt - now)}` : "");
    if (focused?.hidden) this.#part(hold ? "purchase" : "reserve").focus(); // the keyboard's place is not lost
  }
}

function countdown({ starts_at, ends_at }, status, now) {
  if (status === "scheduled" && starts_at) return `starts in ${span(Date.parse(starts_at) - now)}`;
  if (status === "live" && ends_at) return `ends in ${span(Date.parse(ends_at) - now)}`;
  return "";
}

function seconds(milliseconds) {
  return `${Math.max(0, Math.ceil(milliseconds / 1000))} s`;
}
