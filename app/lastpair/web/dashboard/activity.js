// What the server remembers: the events of the last minutes and the stock over time, so that a page is full at first sight.

const TIMEOUT_MS = 10_000;
const NOTHING = { events: [], drops: [] };

/** `{ events, drops: [{ dropId, points }] }` of all drops or of one; nothing if the server does not say. */
export async function readActivity(seconds, dropId) {
  const query = new URLSearchParams({ seconds, ...(dropId && { dropId }) });
  try {
    const response = await fetch(`/api/activity?${query}`, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    return response.ok ? (await response.json()).data.activity : NOTHING;
  } catch {
    return NOTHING;
  }
}
