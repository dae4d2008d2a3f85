// Says which nodes of the service are away. A drop lives on one node, so the drops of a node that is away may be missing.

import { readPage } from "./api.js";
import { setText } from "./dom.js";

const ASK_MS = 5000;

/** The line that says it. While it shows, the page asks from time to time whether it is still so. */
export class Away {
  #line;
  #timer;

  constructor(line) {
    this.#line = line;
  }

  /** These nodes were away when the server made an answer; none, if it is not given. */
  show(nodes = []) {
    setText(this.#line, sentence(nodes));
    this.#line.hidden = nodes.length === 0;
    clearTimeout(this.#timer);
    if (nodes.length > 0) this.#timer = setTimeout(() => this.#ask(nodes), ASK_MS);
  }

  async #ask(nodes) {
    const page = await readPage("/drops?limit=1").catch(() => ({ incomplete: nodes }));
    this.show(page.incomplete);
  }
}

function sentence(nodes) {
  const names = nodes.join(", ").replace(/, ([^,]*)$/, " and $1");
  const [verb, their] = nodes.length === 1 ? ["is", "its"] : ["are", "their"];
  return `${names.charAt(0).toUpperCase()}${names.slice(1)} ${verb} away: ${their} drops are missing here.`;
}
