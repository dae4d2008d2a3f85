// Reads the server's event stream, in order and without gaps, as long as the page is open.

const RETRY_MS = 1000, MAX_RETRY_MS = 10_000, MAX_RETRY_AFTER_SECONDS = 300;
const SILENCE_MS = 40_000; // a running server sends at least a heartbeat every 15 s

/**
 * Calls onEvent(type, data, id) for each event, and onConnection("live" | "reconnecting" | "resynced") when the connection
 * changes.
 *
 * After a lost connection it continues after the last event that it received. A connection that sends nothing for SILENCE_MS
 * counts as lost, too. This code uses fetch, because a browser's EventSource hides the server's heartbeats, and without them a
 * dead connection looks like a quiet one.
 */
export async function listen(onEvent, onConnection) {
  let lastEventId = null, failures = 0;

  function onOpen() {
    failures = 0;
    onConnection("live");
  }

  for (;;) {
    let retryMs = 0;
    try {
      for await (const { type, data, id } of receive("", lastEventId, onOpen)) {
        const isResync = type === "SNAPSHOT" && lastEventId !== null;
        lastEventId = id;
        try {
          onEvent(type, data, id);
        } catch (error) {
          reportError(error); // an error in the page does not mean that the connection is lost
        }
        if (isResync) onConnection("resynced");
      }
    } catch (error) {
      retryMs = error.retryMs ?? 0;
    }
    onConnection("reconnecting");
    const backoffMs = Math.min(RETRY_MS * 2 ** failures++, MAX_RETRY_MS) * (0.5 + Math.random() / 2);
    await new Promise((resume) => setTimeout(resume, Math.max(backoffMs, retryMs)));
  }
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
async function* receive(query, lastEventId, onOpen) {
  const connection = new AbortController();
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
