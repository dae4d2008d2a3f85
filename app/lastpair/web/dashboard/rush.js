// A rush: the server sends many made-up buyers after a new drop, and the page shows how it goes. Development only.

import { call } from "./api.js";
import { drawBars } from "./chart.js";
import { $, make, setText } from "./dom.js";
import { formatCount, formatNumber } from "./format.js";
import { recall, remember } from "./users.js";

const POLL_MS = 250, RETRY_MS = 1000, RUSH_KEY = "lastpair.rush";

export class Rush {
  #rush = null;
  #timer;

  /** `onBegin(dropId)` is called when the drop of a new rush is known. */
  constructor(onBegin) {
    this.onBegin = onBegin;
    new ResizeObserver(() => this.#render()).observe($("rush-seconds")); // its bars have the width of the window
  }

  /** Start a rush, and watch it. Throws Refusal. */
  async start(buyers, stock) {
    const { rush } = await call("POST", "/internal/rush", { body: { buyers, stock } });
    this.#take(rush);
    this.#watch();
  }

  /** Show the rush on the page of its drop. After a reload the page asks the server for it. */
  show(dropId) {
    this.dropId = dropId;
    if (!this.#rush && dropId && recall(RUSH_KEY) === dropId) this.#watch();
    this.#render();
  }

  async #watch() {
    clearTimeout(this.#timer);
    try {
      const { rush } = await call("GET", "/internal/rush");
      if (rush) this.#take(rush);
    } catch (refusal) {
      if (refusal.status === 0) this.#timer = setTimeout(() => this.#watch(), RETRY_MS);
      return;
    }
    if (this.#rush?.status === "running") this.#timer = setTimeout(() => this.#watch(), POLL_MS);
  }

  #take(rush) {
    const isNew = rush.dropId && rush.dropId !== this.#rush?.dropId && recall(RUSH_KEY) !== rush.dropId;
    this.#rush = rush;
    if (isNew) {
      remember(RUSH_KEY, rush.dropId);
      this.onBegin(rush.dropId);
    }
    this.#render();
  }

  #render() {
    const rush = this.#rush, isShown = Boolean(rush && rush.dropId === this.dropId);
    $("rush").hidden = !isShown;
    if (!isShown) return;
    const { status, buyers, stock, asked, sold, refused, seconds, audit, error } = rush, oversold = rush.oversold ?? 0;
    const isDone = status === "done", isClean = isDone && oversold === 0 && audit.length === 0;
    setText($("rush-terms"), `${formatCount(buyers, "buyer")} · ${formatCount(stock, "unit")}`);
    const claim = `${formatNumber(sold)} sold\u00a0· ${formatNumber(oversold)}\u00a0oversold`;
    setText($("rush-sum"), isDone ? claim : runningText(status, asked, buyers));
    const problems = `The audit found ${formatCount(audit.length, "problem")}.`;
    setText($("rush-verdict"), isClean ? "The audit is clean." : isDone ? problems : error ?? "");
    $("rush-verdict").classList.toggle("few", !isClean);
    $("rush-progress").value = asked / buyers;
    $("rush-progress").hidden = isDone;
    setText($("rush-sold"), formatNumber(sold));
    setText($("rush-refused"), formatNumber(refused));
    setText($("rush-rate"), rush.requests_per_second ? formatNumber(rush.requests_per_second) : "–");
    setText($("rush-took"), seconds.length ? `${seconds.at(-1).second} s` : "–");
    setText($("rush-p50"), milliseconds(rush.p50_ms));
    setText($("rush-p99"), milliseconds(rush.p99_ms));
    this.#drawSeconds(seconds);
    $("rush-audit").replaceChildren(...audit.map(({ invariant, expected, found }) =>
      make("li", {}, `${invariant}: ${formatNumber(found)} instead of ${formatNumber(expected)}`)));
  }

  #drawSeconds(seconds) {
    const bars = seconds.map(({ second, sold, refused }) => ({ label: `${second} s`, value: sold + refused, part: sold }));
    const spoken = bars.map(({ label, value }) => `${label}: ${formatNumber(value)}`).join(", ");
    drawBars($("rush-seconds"), bars, `Buyers answered each second: ${spoken}`);
  }
}

function runningText(status, asked, buyers) {
  return status === "failed" ? "The rush failed." : `${formatNumber(asked)} of ${formatNumber(buyers)} asked`;
}

function milliseconds(value) {
  if (value === null) return "–";
  return `${formatNumber(value < 10 ? Number(value.toFixed(1)) : Math.round(value))} ms`;
}
