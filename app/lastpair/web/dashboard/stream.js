// Reads the server's event stream, in order and without gaps, as long as the page is open.

const RETRY_MS = 1000, MAX_RETRY_MS = 10_000, MAX_RETRY_AFTER_SECONDS = 300;
const SILENCE_MS = 40_000; // a running server sends at least a heartbeat every 15 s
const HIDDEN_MS = 10_000; // a tab that is hidden for this long gives its connection back

/**
 * Calls onEvent(type, data, id) for each event, and onConnection("live" | "reconnecting" | "resynced") when the connection
 * changes. Returns `{ position, close() }`: the id of the last event, and how to stop.
 *
 * After a lost connection it continues after the last event that it received. A connection that sends nothing for SILENCE_MS
 * counts as lost, too. This code uses fetch, because a browser's EventSource hides the server's heartbeats, and without them a
 * dead connection looks like a quiet one. A hidden tab ends its connection, because browsers open only six to a host, and comes
 * back by its position when it is shown.
 */
export function subscribe(onEvent, onConnection) {
  let lastEventId = null, failures = 0, isClosed = false, connection, resume;

  function onOpen() {
    failures = 0;
    onConnection("live");
  }

  async function readOnce() {
    for await (const { type, data, id } of receive("", lastEventId, onOpen, connection)) {
      const isResync = type === "SNAPSHOT" && lastEventId !== null;
      lastEventId = id;
      try {
        onEvent(type, data, id);
      } catch (error) {
        reportError(error); // an error in the page does not mean that the connection is lost
      }
      if (isResync) onConnection("resynced");
    }
  }

  async function run() {
    while (!isClosed) {
      let retryMs = 0;
      connection = new AbortController();
      await readOnce().catch((error) => { retryMs = error.retryMs ?? 0; });
      if (isClosed) return;
      onConnection("reconnecting");
      const backoffMs = Math.min(RETRY_MS * 2 ** failures++, MAX_RETRY_MS) * (0.5 + Math.random() / 2);
      await pause(backoffMs, retryMs);
    }
  }

  /**
   * Wait, and as long as the tab is hidden. A tab that is shown again, or online again, waits no longer, but never less than the
   * server asked for.
   */
  function pause(milliseconds, askedMs) {
    const notBefore = Date.now() + askedMs;
    return new Promise((done) => {
      resume = () => Date.now() >= notBefore && done();
      setTimeout(() => document.hidden || done(), Math.max(milliseconds, askedMs));
    });
  }

  let hidden;
  function onVisibilityChange() {
    clearTimeout(hidden);
    if (document.hidden) hidden = setTimeout(() => connection.abort(), HIDDEN_MS);
    else resume?.();
  }

  // A browser that loses its network leaves the connection open, and without this the page would wait for SILENCE_MS.
  const onOffline = () => connection.abort(), onOnline = () => resume?.();
  document.addEventListener("visibilitychange", onVisibilityChange);
  addEventListener("offline", onOffline);
  addEventListener("online", onOnline);
  onVisibilityChange();
  run();
  return {
    get position() {
      return lastEventId;
    },
    close() {
      isClosed = true;
      document.removeEventListener("visibilitychange", onVisibilityChange);
      removeEventListener("offline", onOffline);
      removeEventListener("online", onOnline);
      clearTimeout(hidden);
      connection.abort();
    },
  };
}

/**
 * A snapshot of these drops, of any status, and the id of the last event that it contains: `{ drops, id }`. Rejects when the
 * server does not send it.
 */
export async function snapshotOf(dropIds) {
  const query = `?${dropIds.map((dropId) => `dropId=${dropId}`).join("&")}`;
  for await (const { type, data, id } of receive(query, null)) {
    if (type === "SNAPSHOT") return { ...data, id };
  }
  throw new Error("no snapshot");
}

/**
 * Yields the events of one connection, each as `{ type, data, id }`. Calls onOpen() when the first bytes arrive. Throws when the
 * connection breaks, falls silent, or is refused; then the error's `retryMs` says how long to wait before the next try.
 */
async function* receive(query, lastEventId, onOpen, connection = new AbortController()) {
  let silence;
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(() => connection.abort(), SILENCE_MS);
  };
  heard();
  try {
    const headers = lastEventId === null ? {} : { "Last-Event-ID": lastEventId };
    const response = await fetch(`/api/events${query}`, { headers, signal: connection.signal });
    if (!response.ok || !response.headers.get("Content-Type")?.startsWith("text/event-stream")) {
      const retryAfterSeconds = Number(response.headers.get("Retry-After")) || 0; // 0 also when the header is a date
      throw Object.assign(new Error("refused"), { retryMs: 1000 * Math.min(retryAfterSeconds, MAX_RETRY_AFTER_SECONDS) });
    }
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      heard();
      onOpen?.();
      onOpen = null;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
        if (fields.data) yield { type: fields.event, data: JSON.parse(fields.data), id: fields.id };
      }
    }
  } finally {
    clearTimeout(silence);
    connection.abort();
  }
}
