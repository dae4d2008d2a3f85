// What just happened to all drops, newest first. Alike things that follow each other quickly are one line: "12 sold of X".

import { formatAge, formatNumber, formatTime } from "./format.js";
import { make, setText } from "./dom.js";
import { changeOf } from "./state.js";

const MAX_ENTRIES = 60, GROUP_MS = 10_000, NAMES = 2, OLD_MS = 60 * 60 * 1000;
const GROUPED = new Set(["sold", "held", "returned"]);

/**
 * The lines, without the DOM. They are in the order of the events, not of the times they show: some events have no time, and then
 * the time is when the page received them.
 */
export class Feed {
  entries = [];

  /** Add what happened, or count it in a line that tells the same of the same drop. */
  add({ kind, drop, units = 0, name, text, at }) {
    const isSame = (entry) => entry.dropId === drop.id && entry.kind === kind && at - entry.from < GROUP_MS;
    const group = GROUPED.has(kind) && this.entries.find(isSame);
    if (group) {
      group.units += units;
      group.sales += 1;
      group.to = Math.max(group.to, at);
      if (name) group.names = [...group.names, name].slice(0, NAMES);
      return;
    }
    const sentence = { kind, dropId: drop.id, dropName: drop.name, units, sales: 1, names: name ? [name] : [], text };
    this.entries.unshift({ ...sentence, from: at, to: at });
    this.entries.length = Math.min(this.entries.length, MAX_ENTRIES);
  }

  /** Add the events of `GET /api/activity`, which are older than all others. `dropOf(dropId)` is the drop, if the page has it. */
  addOlder(events, dropOf) {
    const older = new Feed(), left = new Map(), rows = new Map();
    for (const { type, dropId, at, data } of events) {
      const drop = dropOf(dropId), happened = (kind, more) => older.add({ kind, drop, at: Date.parse(at), ...more });
      if (!drop) continue;
      if (type === "PURCHASE_COMPLETED") happened("sold", { units: data.qty ?? 1, name: data.username });
      if (type === "DROP_CREATED") happened("added", { text: "was added" });
      if (type === "DROP_UPDATED" && rows.has(dropId)) happened("changed", { text: changeOf(rows.get(dropId), data.drop) });
      if (type === "STOCK_UPDATED" && left.has(dropId)) {
        const taken = left.get(dropId) - data.availableStock;
        if (taken) happened(taken > 0 ? "held" : "returned", { units: Math.abs(taken) });
      }
      if (data.drop) rows.set(dropId, data.drop);
      const known = data.availableStock ?? data.drop?.available_stock;
      if (known !== undefined) left.set(dropId, known);
    }
    this.entries = [...this.entries, ...older.entries].slice(0, MAX_ENTRIES);
  }
}

/** Shows a Feed in a list. Each line is added, changed and removed by itself. */
export class FeedView {
  #items = new Map();

  constructor(feed, list) {
    Object.assign(this, { feed, list });
  }

  render(now) {
    const entries = new Set(this.feed.entries);
    for (const [entry, item] of this.#items) {
      if (!entries.has(entry)) {
        item.remove();
        this.#items.delete(entry);
      }
    }
    let place = 0;
    for (const entry of entries) {
      const item = this.#items.get(entry) ?? this.#add(entry);
      if (this.list.children[place] !== item) this.list.insertBefore(item, this.list.children[place] ?? null);
      this.#write(item, entry, now);
      place += 1;
    }
  }

  #add(entry) {
    const link = make("a", { href: `/drops/${entry.dropId}`, dir: "auto" }, entry.dropName);
    const line = make("p", {}, make("b"), link, make("span"));
    const item = make("li", { "data-kind": entry.kind }, make("i", { class: "key" }), line, make("time"), make("small"));
    this.#items.set(entry, item);
    return item;
  }

  #write(item, entry, now) {
    const [, { children: [lead, , rest] }, time, small] = item.children;
    const { start, end } = sentenceOf(entry, now);
    setText(lead, start);
    setText(rest, end);
    setText(small, namesOf(entry));
    time.dateTime = new Date(entry.from).toISOString();
    time.title = formatTime(entry.from);
    setText(time, now - entry.from < OLD_MS ? formatAge(now - entry.from) : formatTime(entry.from));
  }
}

/** What stands before and after the name of the drop. */
function sentenceOf({ kind, units, text, from, to }, now) {
  if (!GROUPED.has(kind)) return { start: "", end: ` ${text}` };
  const words = { sold: "sold of ", held: "held of ", returned: "came back to " }[kind];
  const seconds = Math.max(1, Math.round((to - from) / 1000));
  const isNow = now - from < 1500;
  const end = isNow ? " in the last second" : seconds > 1 ? ` in ${seconds}\u00a0s` : "";
  return { start: `${formatNumber(units)} ${words}`, end: units > 1 ? end : "" };
}

function namesOf({ kind, sales, names }) {
  if (kind !== "sold") return "";
  const others = sales - names.length;
  return others > 0 ? `${names.join(", ")} and ${formatNumber(others)} more` : names.join(", ");
}
