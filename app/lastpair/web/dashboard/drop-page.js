// The page of one drop: its figures, its stock over time, its sizes, what a buyer can do, and what its seller sees.

import { readActivity } from "./activity.js";
import { offerOf } from "./buying.js";
import { Chart } from "./chart.js";
import { $, make, setAttribute, setBar, setText } from "./dom.js";
import {
  capitalized, formatLength, formatMoney, formatNumber, formatRate, formatSum, formatTime, timeElement,
} from "./format.js";
import { countdownOf, termsOf } from "./rows.js";
import { SellerActions, SellerTables } from "./seller.js";
import { isOver, revenueOf, shownStatus, statusAt, stockOf } from "./state.js";

const MEMORY_SECONDS = 3600, RATE_SECONDS = 10, FEW = 2;
const PARTS = ["sold", "held", "left"];

/** `find(dropId)` brings a drop into the state that no event brought. `holds` are those of the chosen user (see Buying). */
export class DropPage {
  #dropId = null;
  #sizes = new Map();
  #chart = new Chart($("chart"));
  #remembered = new Set(); // the drops whose past was read

  constructor(state, { clock, buying, find, say }) {
    Object.assign(this, { state, clock, buying, find });
    this.actions = new SellerActions($("seller-actions"), say);
    this.tables = new SellerTables(state, { clock, say });
    $("buy").addEventListener("click", () => this.#press(this.#offer().action));
    $("let-go").addEventListener("click", () => this.#press("cancel"));
  }

  /** Show a drop. Its page is empty until the drop is known. */
  async show(dropId) {
    this.#dropId = dropId;
    this.#sizes.clear();
    $("sizes").replaceChildren();
    this.render();
    if (!this.drop) await this.find(dropId);
    if (this.#dropId !== dropId) return; // another page was chosen meanwhile
    $("drop-missing").hidden = Boolean(this.drop);
    if (!this.drop) return;
    if (this.isSeller) this.tables.show(this.drop);
    this.render();
    this.#readPast(dropId);
  }

  hide() {
    this.#dropId = null;
    this.money?.hide();
  }

  /** Show what buyers can do, and what sellers see and can do, from now on or no longer. */
  showFor({ isBuyer, isSeller }) {
    Object.assign(this, { isBuyer, isSeller });
    if (!isSeller) this.tables.hide();
    if (!isSeller) this.money?.hide();
    if (this.#dropId !== null) this.show(this.#dropId); // it may be a draft
  }

  /** Show a seller the money as well, from now on. */
  async showPayments() {
    if (this.money !== undefined) return;
    this.money = null;
    const { Money, PAYMENT_TABS, PAYMENTS_REREAD_MS } = await import("./money.js");
    this.money = new Money(this.state, { clock: this.clock, onRead: () => this.render() });
    this.tables.add(PAYMENT_TABS, PAYMENTS_REREAD_MS);
    this.render();
  }

  get drop() {
    return this.state.drops.get(this.#dropId);
  }

  async #readPast(dropId) {
    if (this.#remembered.has(dropId)) return;
    this.#remembered.add(dropId);
    this.state.addPast(await readActivity(MEMORY_SECONDS, dropId));
  }

  /** Draw the drop, if it is this one that changed. */
  onChange(dropId) {
    if (dropId === null || dropId === this.#dropId) this.isChanged = true;
  }

  renderIfChanged() {
    if (this.isChanged) this.render();
  }

  render() {
    const { drop } = this;
    this.isChanged = false;
    $("drop-body").hidden = !drop;
    $("drop-head").hidden = !drop;
    $("buyer-page").hidden = !drop || drop.status === "draft"; // buyers have no page of a draft
    if (this.#dropId === null || !drop) return;
    $("drop-missing").hidden = true;
    document.title = `${drop.name} · Lastpair`;
    setText($("drop-name"), drop.name);
    setAttribute($("buyer-page"), "href", `/d/${drop.id}`);
    const stock = stockOf(drop), { amount, isExact } = revenueOf(drop, this.state.money);
    for (const part of PARTS) setText($(`drop-${part}`), formatNumber(stock[part]));
    setText($("drop-share"), stock.sold ? `${Math.floor((100 * stock.sold) / drop.total_stock)}%` : "");
    setText($("drop-total"), `of ${formatNumber(drop.total_stock)}`);
    setBar($("drop-bar"), stock);
    setText($("drop-revenue"), `${isExact ? "" : "≈ "}${formatSum(amount, drop.currency, { rounded: false })}`);
    this.#renderSizes();
    $("purchasers").replaceChildren(...drop.latest_purchasers.map(({ username, qty, createdAt }) =>
      make("li", {}, make("span", {}, make("bdi", {}, username), qty > 1 ? ` × ${formatNumber(qty)}` : ""), timeElement(createdAt))));
    $("no-purchasers").hidden = drop.latest_purchasers.length > 0;
    this.tick();
  }

  /** Draw what depends on the time. */
  tick() {
    const { drop } = this, now = this.clock();
    if (!drop) return;
    const status = shownStatus(drop, now);
    setAttribute($("drop-view"), "data-status", status.replace(" ", "-"));
    setText($("drop-status"), capitalized(status));
    setText($("drop-terms"), this.#termsOf(drop, now));
    setText($("drop-rate"), formatRate(drop.series.soldPerSecond(now, RATE_SECONDS)) || "0");
    $("chart").hidden = ["draft", "scheduled"].includes(status);
    const { points, seenFrom } = drop.series;
    this.#chart.render(points, now, isOver(status) || status === "sold out", seenFrom);
    this.#showOffer(now);
    $("seller-actions").hidden = $("seller").hidden = !this.isSeller;
    if (this.isSeller) {
      this.actions.render(drop, now);
      this.tables.tick(drop);
      this.money?.tick(drop);
    }
  }

  #termsOf(drop, now) {
    const status = statusAt(drop, now);
    return [
      termsOf(drop),
      drop.limit_per_user && `${formatNumber(drop.limit_per_user)} per buyer`,
      drop.hold_seconds && `held for ${formatLength(drop.hold_seconds)}`,
      status === "live" && drop.starts_at && `opened ${formatTime(drop.starts_at)}`,
      status === "ended" && drop.ends_at && `ended ${formatTime(drop.ends_at)}`,
      countdownOf(drop, now),
    ].filter(Boolean).join(" · ");
  }

  /** One choice for each size, updated in place, so that a choice and the keyboard focus stay. */
  #renderSizes() {
    const { drop } = this, list = $("sizes");
    $("sizes-box").hidden = drop.variants.length === 0;
    for (const [variantId, size] of this.#sizes) {
      if (!drop.variants.some(({ id }) => id === variantId)) {
        size.remove();
        this.#sizes.delete(variantId);
      }
    }
    const lowest = Math.min(...drop.variants.map(({ price }) => price)); // which is above them
    drop.variants.forEach((variant, place) => {
      const size = this.#sizes.get(variant.id) ?? this.#makeSize(variant.id);
      const { total_stock: total, available_stock: left } = variant, [, name, bar, note, price] = size.children;
      setText(name, variant.name);
      setBar(bar, { sold: total - left, held: 0, left }); // no event says how much of a size is held
      bar.ariaLabel = `${left} left of ${total}`;
      const isHeld = Boolean(this.buying.holdOf(drop.id, variant.id));
      setText(note, isHeld ? "yours" : left ? `${formatNumber(left)} left` : "none left");
      note.classList.toggle("few", isHeld || (left > 0 && left <= FEW));
      setText(price, variant.price === lowest ? "" : formatMoney(variant.price, drop.currency));
      if (list.children[place] !== size) list.insertBefore(size, list.children[place] ?? null);
    });
  }

  #makeSize(variantId) {
    const input = make("input", { type: "radio", name: "size", value: variantId });
    input.addEventListener("change", () => this.tick());
    const size = make("label", { class: "size" }, input, make("b", { class: "size-name", dir: "auto" }),
      make("span", { class: "bar", role: "img" }), make("span", { class: "size-left" }),
      make("span", { class: "quiet size-price" }));
    this.#sizes.set(variantId, size);
    return size;
  }

  get #variantId() {
    return $("sizes").querySelector(":checked")?.value ?? null;
  }

  #offer() {
    const hold = this.buying.holdOf(this.drop.id, this.#variantId);
    return { hold, ...offerOf(this.drop, hold, this.clock(), this.#variantId) };
  }

  #press(action) {
    if (action) this.buying.act(action, this.drop, this.#variantId);
  }

  #showOffer(now) {
    const { drop } = this;
    $("buyer").hidden = !this.isBuyer;
    for (const { id, available_stock: left } of drop.variants) {
      const size = this.#sizes.get(id);
      if (!size) continue; // it is new and comes with the next frame
      const input = size.querySelector("input"), hold = this.buying.holdOf(drop.id, id);
      if (hold && this.#variantId === null) input.checked = true;
      input.hidden = !this.isBuyer;
      input.disabled = left === 0 && !hold && !input.checked;
    }
    if (!this.isBuyer) return;
    const { action, label, note, hold } = this.#offer(), button = $("buy");
    setText(button, hold ? `Pay ${formatMoney(hold.amount, hold.currency)}` : label); // the note tells the time
    setText($("buy-note"), note);
    setAttribute(button, "aria-disabled", String(!action)); // not `disabled`, because that would lose the keyboard focus
    const letGo = $("let-go");
    if (!hold && letGo === document.activeElement) button.focus(); // a hidden button cannot keep the keyboard focus
    letGo.hidden = !hold;
  }
}
