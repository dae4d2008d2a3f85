// The list of drops: search, filters, and one row for each drop. A row is updated in place, never rebuilt.

import { offerOf } from "./buying.js";
import { Spark } from "./chart.js";
import { $, cloneOf, make, setAttribute, setBar, setText } from "./dom.js";
import { capitalized, formatCount, formatCountdown, formatMoney, formatNumber, formatRate, formatSum } from "./format.js";
import { isOver, revenueOf, shownStatus, statusAt, stockOf } from "./state.js";

const SOON_MS = 60_000, FEW_SHARE = 0.05, RATE_SECONDS = 10, FIRST_ROWS = 15;
const FILTERS = ["all", "live", "scheduled", "paused", "sold out", "over", "draft"];
const LABELS = { all: "All", "sold out": "Sold out", over: "Over", draft: "Drafts" };

/**
 * Shows the drops of a State that pass the search and the filter. Only rows near the window are filled and drawn, so the others
 * cost a name each. Calls `act(action, drop, variantId)` when a row's button is pressed, and `onFilter(filter)` when a filter is
 * chosen.
 */
export class Rows {
  #rows = new Map();
  #changed = new Set();
  #filter = "all";
  #search = "";
  #buttons = new Map();
  #watcher = new IntersectionObserver((entries) => this.#onScroll(entries), { rootMargin: "300px" });

  constructor(state, { clock, act, onFilter, holdsOf }) {
    Object.assign(this, { state, clock, act, onFilter, holdsOf });
    this.list = $("drops");
    this.isReady = false; // until the first SNAPSHOT nobody knows whether there are drops
    for (const filter of FILTERS) this.#addFilter(filter);
    $("search").addEventListener("input", ({ currentTarget }) => {
      this.#search = currentTarget.value.trim().toLowerCase();
      this.#arrange();
    });
  }

  /** This drop must be drawn again at the next render(). With null all must, and the set of drops may be another. */
  markChanged(dropId) {
    this.#changed.add(dropId);
  }

  markAllChanged() {
    for (const dropId of this.#rows.keys()) this.#changed.add(dropId);
  }

  /** Draw the drops that have changed. */
  render() {
    if (this.#changed.delete(null)) {
      this.#arrange();
      this.markAllChanged();
    }
    for (const dropId of this.#changed) this.#rows.get(dropId)?.render();
    this.#changed.clear();
  }

  /** Draw what depends on the time: countdowns, charts, and the order of the rows, because drops start and end. */
  tick() {
    if (this.isReady) this.#arrange();
    for (const row of this.#rows.values()) row.tick();
  }

  /** Show the buttons of a buyer, and the drafts of a seller, from now on or no longer. */
  showFor({ isBuyer, isSeller }) {
    Object.assign(this, { isBuyer, isSeller });
    if (!isSeller && this.#filter === "draft") this.#choose("all");
    this.#arrange();
    this.markAllChanged();
    this.render();
  }

  #addFilter(filter) {
    const count = make("span", { class: "quiet" });
    const button = make("button", { type: "button", "data-filter": filter, "aria-pressed": String(filter === this.#filter) });
    button.append(LABELS[filter] ?? capitalized(filter), " ", count);
    button.addEventListener("click", () => this.#choose(filter));
    this.#buttons.set(filter, { button, count });
    $("filters").append(button);
  }

  #choose(filter) {
    for (const [other, { button }] of this.#buttons) button.ariaPressed = String(other === filter);
    this.#filter = filter;
    this.onFilter(filter);
    this.#arrange();
  }

  #countFilters(drops, now) {
    const counts = new Map(FILTERS.map((filter) => [filter, 0]));
    for (const drop of drops) {
      for (const filter of ["all", filterOf(drop, now)]) counts.set(filter, counts.get(filter) + 1);
    }
    for (const [filter, { button, count }] of this.#buttons) {
      button.hidden = filter === "draft" && !this.isSeller;
      setText(count, counts.get(filter) ? formatNumber(counts.get(filter)) : "");
    }
  }

  /** Keep exactly one row for each drop that is shown, in order. What has the keyboard focus keeps it. */
  #arrange() {
    const now = this.clock(), all = [...this.state.drops.values()];
    this.#countFilters(all, now);
    const drops = all.filter((drop) => this.#isShown(drop, now));
    const ranks = new Map(drops.map((drop) => [drop, rankOf(drop, now)]));
    drops.sort((a, b) => compareRanks(ranks.get(a), ranks.get(b)));
    const shown = new Set(drops.map(({ id }) => id));
    for (const [dropId, row] of this.#rows) {
      if (!shown.has(dropId)) {
        this.#watcher.unobserve(row.element);
        row.element.remove();
        this.#rows.delete(dropId);
      }
    }
    const focused = this.list.contains(document.activeElement) ? document.activeElement : null;
    let next = this.list.firstElementChild;
    drops.forEach((drop, place) => {
      const row = this.#rows.get(drop.id) ?? this.#addRow(drop);
      row.drop = drop; // because a SNAPSHOT replaces the drop objects
      if (place < FIRST_ROWS && !row.isFilled) row.fill();
      // Where one row has moved down, move that row alone instead of all the others up.
      if (next && next.nextElementSibling === row.element) this.list.append(next);
      else if (next !== row.element) this.list.insertBefore(row.element, next);
      next = row.element.nextElementSibling;
    });
    if (focused !== document.activeElement) focused?.focus({ preventScroll: true });
    $("loading").hidden = this.isReady;
    $("no-drops").hidden = !this.isReady || all.length > 0;
    $("no-match").hidden = !this.isReady || all.length === 0 || drops.length > 0;
    this.list.hidden = drops.length === 0;
  }

  #addRow(drop) {
    const row = new Row(drop, this);
    this.#rows.set(drop.id, row);
    this.#watcher.observe(row.element);
    return row;
  }

  #isShown(drop, now) {
    if (this.#search && !drop.name.toLowerCase().includes(this.#search)) return false;
    return this.#filter === "all" || filterOf(drop, now) === this.#filter;
  }

  #onScroll(entries) {
    for (const { target, isIntersecting } of entries) {
      const row = this.#rows.get(target.dataset.dropId);
      if (row) row.isNear = isIntersecting;
      if (row && isIntersecting) row.fill();
    }
  }
}

function filterOf(drop, now) {
  const status = shownStatus(drop, now);
  return isOver(status) ? "over" : status;
}

/**
 * The sort key of a drop. First come the drops that are live or start soon, the latest start first, so that no row moves when
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

class Row {
  isFilled = false;
  isNear = true; // until the IntersectionObserver says otherwise

  constructor(drop, rows) {
    this.drop = drop;
    this.rows = rows;
    this.link = make("a", { href: `/drops/${drop.id}`, id: `drop-${drop.id}`, dir: "auto" }, drop.name);
    this.element = make("li", { class: "row", "data-drop-id": drop.id }, make("h2", { class: "name" }, this.link));
  }

  /** Add all but the name, and draw it. */
  fill() {
    if (!this.isFilled) {
      this.element.append(cloneOf("row"));
      this.part = Object.fromEntries([...this.element.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part]));
      this.spark = new Spark(this.part.spark);
      this.part.button.addEventListener("click", () => this.#press());
      this.part.button.setAttribute("aria-describedby", this.link.id);
      this.isFilled = true;
    }
    this.isNear = true;
    this.render();
  }

  #press() {
    const { drop } = this, [hold] = this.rows.holdsOf(drop.id);
    const { action } = offerOf(drop, hold, this.rows.clock());
    if (action) this.rows.act(action, drop, hold?.variantId ?? null);
  }

  render() {
    setText(this.link, this.drop.name);
    if (!this.isFilled || !this.isNear) return;
    const { drop, part } = this, stock = stockOf(drop), { sold, held, left } = stock;
    const { amount, isExact } = revenueOf(drop, this.rows.state.money);
    setText(part.terms, termsOf(drop));
    setBar(part.bar, stock);
    setText(part.sold, formatNumber(sold));
    setText(part.held, formatNumber(held));
    part.holding.hidden = held === 0;
    setText(part.left, formatNumber(left));
    setText(part.total, formatNumber(drop.total_stock));
    part.leaving.classList.toggle("few", left > 0 && left <= drop.total_stock * FEW_SHARE);
    setText(part.revenue, sold ? `${isExact ? "" : "≈ "}${formatSum(amount, drop.currency)}` : "");
    this.tick();
  }

  tick() {
    if (!this.isFilled || !this.isNear) return;
    const { drop, part } = this, now = this.rows.clock(), status = shownStatus(drop, now);
    setAttribute(this.element, "data-status", status.replace(" ", "-"));
    setText(part.status, capitalized(status));
    setText(part.countdown, countdownOf(drop, now));
    setText(part.rate, status === "live" ? formatRate(drop.series.soldPerSecond(now, RATE_SECONDS)) : "");
    const { points } = drop.series;
    part.spark.classList.toggle("blank", !points.some(({ sold, held }) => sold || held));
    this.spark.render(points, now);
    this.#showButton(now);
  }

  /**
   * The button pays what is held, or reserves of a drop without sizes; a size is chosen on the page of the drop. It is not there
   * if nothing can be done. While it has the keyboard focus it stays, but off.
   */
  #showButton(now) {
    const { button } = this.part, { drop } = this, [hold] = this.rows.holdsOf(drop.id), offer = offerOf(drop, hold, now);
    const isOn = Boolean(this.rows.isBuyer && offer.action);
    button.hidden = !isOn && button !== document.activeElement;
    setAttribute(button, "aria-disabled", String(!isOn)); // not `disabled`, because that would lose the keyboard focus
    setText(button, offer.label);
    button.classList.toggle("strong", Boolean(hold));
  }
}

/** The price and the number of sizes: "$120.00 · 9 sizes", or "from $95.00" if sizes have other prices. */
export function termsOf({ price, currency, variants }) {
  if (variants.length === 0) return formatMoney(price, currency);
  const prices = variants.map((variant) => variant.price), least = Math.min(...prices);
  const from = Math.max(...prices) > least ? "from " : "";
  return `${from}${formatMoney(least, currency)} · ${formatCount(variants.length, "size")}`;
}

/** What the clock says about a drop: when it opens, how long it goes on, or why it does not. */
export function countdownOf(drop, now) {
  const { starts_at, ends_at } = drop, status = statusAt(drop, now);
  if (status === "scheduled" && starts_at) return `opens in ${formatCountdown(Date.parse(starts_at) - now)}`;
  if (status === "live" && ends_at) return `${formatCountdown(Date.parse(ends_at) - now)} to go`;
  if (status === "live") return drop.available_stock > 0 && !drop.paused_at ? "until sold out" : "";
  return status === "draft" ? "no date yet" : "";
}
