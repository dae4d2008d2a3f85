// The events of the server, in order and without a gap, for as long as the page is open.

const RETRY_MS = 1000, MAX_RETRY_MS = 10_000, MAX_RETRY_AFTER_SECONDS = 300;
const SILENCE_MS = 40_000; // a server that is there says something every 15 s

/**
 * Calls onEvent(type, data, id) for each event and onState("live" | "reconnecting" | "resynced") when the connection changes.
 *
 * After a lost connection it goes on where it was, behind the last event that was seen. A connection that has fallen silent is
 * lost, too, though nobody says so: heartbeats tell, which a browser's EventSource would keep to itself.
 */
export async function listen(onEvent, onState) {
  let lastEventId = null, failures = 0;

  function open() {
    failures = 0;
    onState("live");
  }

  for (;;) {
    let retryMs = 0;
    try {
      for await (const { type, data, id } of receive("", lastEventId, open)) {
        const isResync = type === "SNAPSHOT" && lastEventId !== null;
        lastEventId = id;
        try {
          onEvent(type, data, id);
        } catch (error) {
          reportError(error); // a mistake of the page's is no lost connection
        }
        if (isResync) onState("resynced");
      }
    } catch (error) {
      retryMs = error.retryMs ?? 0;
    }
    onState("reconnecting");
    const backoffMs = Math.min(RETRY_MS * 2 ** failures++, MAX_RETRY_MS) * (0.5 + Math.random() / 2);
    await new Promise((resume) => setTimeout(resume, Math.max(backoffMs, retryMs)));
  }
}

/**
 * How some drops are, whatever their status, and the id of the last event that is in it: `{ drops, id }`. Rejects when it cannot be
 * had.
 */
export async function snapshotOf(dropIds) {
  const query = `?${dropIds.map((dropId) => `dropId=${dropId}`).join("&")}`;
  for await (const { type, data, id } of receive(query, null)) {
    if (type === "SNAPSHOT") return { ...data, id };
  }
  throw new Error("no snapshot");
}

/**
 * The events of one connection, `{ type, data, id }` each; onOpen() is called when it has begun. Throws when it breaks, is refused
 * (`retryMs` says when to try again) or falls silent.
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
      const retryAfterSeconds = Number(response.headers.get("Retry-After")) || 0; // a date is not waited for
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
