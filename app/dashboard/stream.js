// The events of the server, in order and without a gap, for as long as the page is open.

const TYPES = [
  "SNAPSHOT", "RESYNC_REQUIRED", "DROP_CREATED", "DROP_UPDATED", "STOCK_UPDATED",
  "RESERVATION_EXPIRED", "PURCHASE_COMPLETED", "ACTIVITY_UPDATED",
];
const RETRY_MS = 1000, MAX_RETRY_MS = 10000;

/**
 * Calls onEvent(type, data, id) for each event and onState("live" | "reconnecting" | "resynced") when the connection changes.
 *
 * A browser's EventSource goes on where it was when a connection breaks, but gives up when it is answered with an error, as by a
 * server that is starting. Then a new one takes over, from the last event that was seen.
 */
export function listen(onEvent, onState) {
  let lastEventId = null, retries = 0;

  function connect() {
    const query = lastEventId === null ? "" : `?lastEventId=${encodeURIComponent(lastEventId)}`;
    const source = new EventSource(`/api/events${query}`);
    source.addEventListener("open", () => {
      retries = 0;
      onState("live");
    });
    source.addEventListener("error", () => {
      onState("reconnecting");
      if (source.readyState === EventSource.CLOSED) {
        setTimeout(connect, Math.min(RETRY_MS * 2 ** retries++, MAX_RETRY_MS) * (0.5 + Math.random() / 2));
      }
    });
    for (const type of TYPES) {
      source.addEventListener(type, (event) => {
        const isFirst = lastEventId === null;
        lastEventId = event.lastEventId;
        onEvent(type, JSON.parse(event.data), event.lastEventId);
        if (type === "SNAPSHOT" && !isFirst) onState("resynced");
      });
    }
  }

  connect();
}

/** How some drops are, whatever their status, and the id of the last event that is in it: `{ drops, id }`. Rejects when it cannot be had. */
export function snapshotOf(dropIds) {
  return new Promise((resolve, reject) => {
    const source = new EventSource(`/api/events?${dropIds.map((dropId) => `dropId=${dropId}`).join("&")}`);
    source.addEventListener("SNAPSHOT", ({ data, lastEventId: id }) => {
      source.close();
      resolve({ ...JSON.parse(data), id });
    });
    source.addEventListener("error", () => {
      source.close();
      reject(new Error("no snapshot"));
    });
  });
}
