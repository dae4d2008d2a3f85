// Reads the server's events of one drop, in order and without gaps, while the page can be seen.

const RETRY_MS = 1000, MAX_RETRY_MS = 10_000;
const SILENCE_MS = 40_000; // a running server sends at least a heartbeat every 15 s

/**
 * Calls onEvent(type, data) for each event of the drop, beginning with a SNAPSHOT; onConnection("live" | "lost") when the
 * connection changes; and onResponse(response, sentAt) for each connection.
 *
 * A hidden page has no connection, because a browser opens six to a host at most. Seen again, and after a lost connection, it
 * continues after the last event that it received.
 */
export class Stream {
  #lastEventId = null;
  #connection = null;

  constructor(dropId, { onEvent, onConnection, onResponse }) {
    Object.assign(this, { dropId, onEvent, onConnection, onResponse });
    document.addEventListener("visibilitychange", () => document.hidden && this.#connection?.abort());
    this.#run();
  }

  /** Start again from a SNAPSHOT. */
  reset() {
    this.#lastEventId = null;
    this.#connection?.abort();
  }

  async #run() {
    for (let failures = 0; ; ) {
      await untilVisible();
      const connection = (this.#connection = new AbortController());
      try {
        await this.#read(connection, () => {
          failures = 0;
          this.onConnection("live");
        });
      } catch {
        // the connection was refused, broke or was ended
      }
      const isWanted = connection.signal.reason?.name === "AbortError"; // by this page, which is hidden or starts again
      connection.abort();
      if (isWanted) continue;
      this.onConnection("lost");
      const backoffMs = Math.min(RETRY_MS * 2 ** failures++, MAX_RETRY_MS) * (0.5 + Math.random() / 2);
      await new Promise((resume) => setTimeout(resume, backoffMs));
    }
  }

  async #read(connection, onOpen) {
    let silence;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(() => connection.abort(new Error("silence")), SILENCE_MS);
    };
    heard();
    try {
      const headers = this.#lastEventId === null ? {} : { "Last-Event-ID": this.#lastEventId };
      const sentAt = Date.now();
      const response = await fetch(`/api/events?dropId=${this.dropId}`, { headers, signal: connection.signal });
      if (!response.ok || !response.headers.get("Content-Type")?.startsWith("text/event-stream")) throw new Error("refused");
      this.onResponse(response, sentAt);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "", isOpen = false;
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        heard();
        if (!isOpen) onOpen();
        isOpen = true;
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        for (const block of blocks) this.#take(block);
      }
    } finally {
      clearTimeout(silence);
    }
  }

  #take(block) {
    const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
    if (!fields.data) return;
    this.#lastEventId = fields.id;
    try {
      this.onEvent(fields.event, JSON.parse(fields.data));
    } catch (error) {
      reportError(error); // an error in the page does not mean that the connection is lost
    }
  }
}

function untilVisible() {
  if (!document.hidden) return null;
  return new Promise((resume) => {
    document.addEventListener("visibilitychange", function onChange() {
      if (document.hidden) return;
      document.removeEventListener("visibilitychange", onChange);
      resume();
    });
  });
}
