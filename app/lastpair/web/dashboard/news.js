// The news of the page: one line for each thing that just happened to any drop, newest first, with its time.

import { timeElement } from "./times.js";

/** Shows the news of a State in a list. Each line is added and removed by itself. */
export class News {
  #items = new Map();

  constructor(state, list) {
    Object.assign(this, { state, list });
  }

  render() {
    const entries = new Set(this.state.news);
    for (const [entry, item] of this.#items) {
      if (!entries.has(entry)) {
        item.remove();
        this.#items.delete(entry);
      }
    }
    let next = this.list.firstChild;
    for (const entry of entries) {
      if (this.#items.has(entry)) break; // older lines are in the list already
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
