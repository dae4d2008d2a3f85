// The strip of totals above the list: what all drops together have sold, hold and have left.

import { drawPace } from "./chart.js";
import { $, setText } from "./dom.js";
import { formatCount, formatNumber, formatRate, formatShort, formatSum } from "./format.js";
import { revenueOf, shownStatus, statusAt, stockOf } from "./state.js";

export class Totals {
  constructor(state, pace) {
    Object.assign(this, { state, pace });
  }

  render(now) {
    const counts = { live: 0, scheduled: 0, sold: 0, held: 0, left: 0, total: 0 }, revenue = new Map();
    let isExact = true;
    for (const drop of this.state.drops.values()) {
      const { sold, held, left } = stockOf(drop), status = statusAt(drop, now);
      if (shownStatus(drop, now) === "live") counts.live += 1;
      if (status === "scheduled") counts.scheduled += 1;
      counts.sold += sold;
      if (status === "live") {
        counts.held += held;
        counts.left += left;
        counts.total += drop.total_stock;
      }
      const { amount, isExact: isThisExact } = revenueOf(drop, this.state.money);
      addRevenue(revenue, drop.currency, amount, sold);
      isExact &&= isThisExact;
    }
    this.#write("live", formatNumber(counts.live), counts.scheduled ? `${formatNumber(counts.scheduled)} to come` : "");
    this.#write("sold", formatShort(counts.sold), formatCount(this.state.drops.size, "drop"));
    this.#write("held", formatShort(counts.held), "not yet paid");
    this.#write("left", formatShort(counts.left), `of ${formatShort(counts.total)}`);
    this.#writeRevenue(revenue, isExact);
    this.#writePace(now);
  }

  showWatchers(watchers) {
    this.#write("watchers", formatShort(watchers), "open streams");
  }

  #write(name, value, note) {
    setText($(`total-${name}`), value);
    setText($(`note-${name}`), note);
  }

  /** Currencies are never added together: the one with most sales is large, the others stand below it. */
  #writeRevenue(revenue, isExact) {
    const sorted = [...revenue].sort(([, a], [, b]) => b.sold - a.sold);
    const sums = sorted.map(([currency, { amount }]) => formatSum(amount, currency));
    const [first = formatNumber(0), ...others] = sums;
    const shown = others.slice(0, 2).join(" · ") + (others.length > 2 ? ` and ${others.length - 2} more` : "");
    this.#write("revenue", isExact ? first : `≈ ${first}`, shown || "at current prices");
  }

  #writePace(now) {
    const recent = this.pace.recent(now), { peak } = this.pace;
    const note = peak ? `peak ${formatNumber(peak)} in 10 min` : "last 10 min";
    this.#write("pace", recent ? formatRate(recent).replace(" / s", "") : "0", note);
    drawPace($("pace"), this.pace.buckets(now));
  }
}

function addRevenue(revenue, currency, amount, sold) {
  if (sold === 0) return;
  const sum = revenue.get(currency) ?? { amount: 0, sold: 0 };
  revenue.set(currency, { amount: sum.amount + amount, sold: sum.sold + sold });
}
