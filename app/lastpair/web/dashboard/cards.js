// The cards of the page: one for each drop. A card is updated in place, never rebuilt.

import { HISTORY_MS, heldStock, isOver, shownStatus, statusAt } from "./state.js";
import { formatDuration, timeElement } from "./times.js";

const SOON_MS = 60_000;
const CHART_MIN_MS = 10_000, CHART_WIDTH = 300, CHART_HEIGHT = 48, CHART_MARGIN = 2;

/** An amount of money, with the decimals that its currency has. */
function formatMoney(amount, currency) {
  return new Intl.NumberFormat(undefined, { style: "currency", currency }).format(amount);
}

/**
 * Shows the drops of a State as a list of cards. Calls `act(action, drop, variantId)` when a button is pressed; of a drop with
 * variants `variantId` is the chosen one, or null. `holdOf(dropId, variantId)` returns the chosen user's hold, if there is one.
 */
export class Cards {
  #cards = new Map();
  #changed = new Set();

  constructor(state, { list, empty, template, sizeTemplate, clock, act, holdOf }) {
    Object.assign(this, { state, list, empty, template, sizeTemplate, clock, act, holdOf });
  }

  /** This drop must be drawn again at the next render(). With null all must, and the set of drops may be another. */
  markChanged(dropId) {
    this.#changed.add(dropId);
  }

  /** Draw the drops that have changed. */
  render() {
    if (this.#changed.delete(null)) {
      this.#arrange();
      this.markAllChanged();
    }
    for (const dropId of this.#changed) this.#cards.get(dropId)?.render();
    this.#changed.clear();
  }

  /** Draw what depends on the time: countdowns, charts, and the order of the cards, because drops start and end. */
  tick() {
    if (this.#cards.size > 0) this.#arrange();
    for (const card of this.#cards.values()) card.tick();
  }

  /** Show the result of a button on the drop's card. */
  answer(dropId, text, isRefusal = false) {
    this.#cards.get(dropId)?.answer(text, isRefusal);
  }

  /** Show the buttons on every card from now on. */
  showActions() {
    this.areActionsShown = true;
    this.markAllChanged();
    this.render();
  }

  markAllChanged() {
    for (const dropId of this.#cards.keys()) this.#changed.add(dropId);
  }

  /** Keep exactly one card for each drop, in order. The button that has the keyboard focus keeps it. */
  #arrange() {
    const now = this.clock(), drops = [...this.state.drops.values()];
    const ranks = new Map(drops.map((drop) => [drop, rankOf(drop, now)]));
    drops.sort((a, b) => compareRanks(ranks.get(a), ranks.get(b)));
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
      card.drop = drop; // because a SNAPSHOT replaces the drop objects
      this.#cards.set(drop.id, card);
      // Where one card has moved down, move that card alone instead of all the others up.
      if (next && next.nextElementSibling === card.element) this.list.append(next);
      else if (next !== card.element) this.list.insertBefore(card.element, next);
      next = card.element.nextElementSibling;
    }
    if (focused !== document.activeElement) focused?.focus({ preventScroll: true });
    this.empty.hidden = drops.length > 0;
  }
}

/**
 * The sort key of a drop. First come the drops that are live or start soon, the latest start first, so that no card moves when
 * its drop goes live. Then come the later drops, the next start first; then drafts; then drops that are over.
 */
function rankOf(drop, now) {
  const status = statusAt(drop, now), startsAt = Date.parse(drop.starts_at ?? "") || 0;
  if (status === "draft") return [2, 0, drop.id];
  if (isOver(status)) return [3, -startsAt, drop.id];
  return startsAt - now < SOON_MS ? [0, -startsAt, drop.id] : [1, startsAt, drop.id];
}

function compareRanks([group, time, id], [otherGroup, otherTime, otherId]) {
  return group - otherGroup || time - otherTime || (id < otherId ? 1 : -1);
}

class Card {
  #sizes = new Map(); // the choices, by variant id

  constructor(drop, cards) {
    this.drop = drop;
    this.cards = cards;
    this.element = cards.template.content.firstElementChild.cloneNode(true);
    this.element.dataset.dropId = drop.id;
    const titleId = `drop-${drop.id}`;
    this.#part("name").id = titleId;
    this.element.setAttribute("aria-labelledby", titleId);
    this.#part("sizes-title").id = `sizes-${drop.id}`;
    this.#part("sizes").setAttribute("aria-labelledby", `${titleId} sizes-${drop.id}`); // each card has a choice of sizes
    for (const action of ["reserve", "purchase", "cancel"]) {
      this.#part(action).addEventListener("click", ({ currentTarget: button }) => {
        if (button.ariaDisabled !== "true") cards.act(action, this.drop, this.variantId);
      });
      this.#part(action).setAttribute("aria-describedby", titleId);
    }
  }

  /** The variant that is chosen, or null. */
  get variantId() {
    return this.element.querySelector(".sizes :checked")?.value ?? null;
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
    this.#text("price", formatMoney(drop.price, drop.currency));
    this.#renderSizes();
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

  /** One choice for each variant, updated in place, so that a choice and the keyboard focus stay. */
  #renderSizes() {
    const { drop } = this, list = this.#part("size-list");
    this.#part("sizes").hidden = drop.variants.length === 0;
    for (const [variantId, size] of this.#sizes) {
      if (!drop.variants.some(({ id }) => id === variantId)) {
        size.remove();
        this.#sizes.delete(variantId);
      }
    }
    drop.variants.forEach((variant, place) => {
      const size = this.#sizes.get(variant.id) ?? this.#makeSize(variant.id), left = variant.available_stock;
      const set = (name, text) => {
        const part = size.querySelector(`.${name}`);
        if (part.textContent !== text) part.textContent = text;
      };
      set("size-name", variant.name);
      set("size-left", left > 0 ? `${left.toLocaleString()} left` : "none left");
      set("size-price", variant.price === drop.price ? "" : formatMoney(variant.price, drop.currency));
      if (list.children[place] !== size) list.insertBefore(size, list.children[place] ?? null);
    });
  }

  #makeSize(variantId) {
    const size = this.cards.sizeTemplate.content.firstElementChild.cloneNode(true), input = size.querySelector("input");
    input.name = `size-${this.drop.id}`;
    input.value = variantId;
    input.addEventListener("change", () => this.tick());
    this.#sizes.set(variantId, size);
    return size;
  }

  /** Show on each size how long it is held. One with none left cannot be chosen; if nothing is chosen, a size that is held is. */
  #tickSizes(now) {
    let held;
    for (const { id, available_stock: left } of this.drop.variants) {
      const size = this.#sizes.get(id);
      if (!size) continue; // it is new and comes with the next frame
      const input = size.querySelector("input"), hold = this.cards.holdOf(this.drop.id, id);
      if (hold) held ??= input;
      size.querySelector(".size-hold").textContent = hold ? `yours, ${formatSeconds(hold.expiresAt - now)}` : "";
      input.hidden = !this.cards.areActionsShown;
      input.disabled = left === 0 && !hold && !input.checked;
    }
    if (held && this.variantId === null) held.checked = true;
  }

  tick() {
    const { drop } = this, now = this.cards.clock(), status = statusAt(drop, now), shown = shownStatus(drop, now);
    this.element.dataset.status = shown.replace(" ", "-");
    this.#text("status", shown);
    this.#tickSizes(now);
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
    // The line has one sample for each pixel, because drawing hundreds more is slow.
    const lastAt = new Map(others.map((sample) => [x(sample.at), sample.left]));
    const steps = [...lastAt].map(([at, units]) => `H${at}V${y(units)}`).join("");
    const line = `M${x(first.at)} ${y(first.left)}${steps}H${CHART_WIDTH}`;
    this.#part("line").setAttribute("d", line);
    this.#part("area").setAttribute("d", `${line}V${CHART_HEIGHT}H${x(first.at)}Z`);
    const duration = formatDuration(shown);
    this.#part("chart").setAttribute("aria-label", `Units left over the last ${duration}: ${first.left} at first, ${left} now`);
    this.#text("ago", `${duration} ago`);
  }

  /** A hold in words: its size, if the drop has sizes, its units, the time that is left of it, and what it costs. */
  #describe({ variantId, qty, expiresAt, amount, currency }, now) {
    const size = this.drop.variants.find(({ id }) => id === variantId)?.name;
    const held = `held for ${formatSeconds(expiresAt - now)}, ${formatMoney(amount, currency)}`;
    return [size, qty > 1 && `× ${qty}`, held].filter(Boolean).join(" ");
  }

  #showActions(status, now) {
    const hold = this.cards.holdOf(this.drop.id, this.variantId), actions = this.#part("actions");
    actions.hidden = !this.cards.areActionsShown;
    if (actions.hidden) return;
    const focused = actions.contains(document.activeElement) && document.activeElement;
    this.#part("reserve").hidden = Boolean(hold);
    // Not `disabled`, because that would lose the keyboard focus.
    this.#part("reserve").ariaDisabled = String(status !== "live" || Boolean(this.drop.paused_at));
    this.#part("purchase").hidden = this.#part("cancel").hidden = !hold;
    this.#text("hold", hold ? this.#describe(hold, now) : "");
    if (focused?.hidden) this.#part(hold ? "purchase" : "reserve").focus(); // a hidden button cannot keep the keyboard focus
  }
}

function countdown({ starts_at, ends_at }, status, now) {
  if (status === "scheduled" && starts_at) return `starts in ${formatDuration(Date.parse(starts_at) - now)}`;
  if (status === "live" && ends_at) return `ends in ${formatDuration(Date.parse(ends_at) - now)}`;
  return "";
}

function formatSeconds(milliseconds) {
  return `${Math.max(0, Math.ceil(milliseconds / 1000))} s`;
}
