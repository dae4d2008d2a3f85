// The feed: what just happened across all drops, newest first, with times.

import { timeElement } from "./times.js";

/** Shows the feed of a state in a list, entry by entry. */
export class Feed {
  #items = new Map();

  constructor(state, list) {
    Object.assign(this, { state, list });
  }

  render() {
    const entries = new Set(this.state.feed);
    for (const [entry, item] of this.#items) {
      if (!entries.has(entry)) {
        item.remove();
        this.#items.delete(entry);
      }
    }
    let next = this.list.firstChild;
    for (const entry of entries) {
      if (this.#items.has(entry)) break; // from here on all are shown
      const item = this.#item(entry);
      this.#items.set(entry, item);
      this.list.insertBefore(item, next);
    }
  }

  #item({ at, kind, name, what }) {
    const item = document.createElement("li"), drop = document.createElement("b");
    item.dataset.kind = kind;
    drop.textContent = name;
    item.append(timeElement(at), " ", drop, ` ${what}`);
    return item;
  }
}
