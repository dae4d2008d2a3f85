// What the server remembers: the events of the last minutes and the stock over time, so that a page is full at first sight.

const TIMEOUT_MS = 10_000;
const NOTHING = { events: [], drops: [], bucket_seconds: 1 };

/** The events, and for each drop, or for one, what was sold in each bucket of time. Nothing if the server does not say. */
export async function readActivity(seconds, dropId) {
  const query = new URLSearchParams({ seconds, ...(dropId && { dropId }) });
  try {
    const response = await fetch(`/api/activity?${query}`, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    return response.ok ? (await response.json()).data.activity : NOTHING;
  } catch {
    return NOTHING;
  }
}

/**
 * The buckets of a drop as points of a Series, which count what was sold up to then. They are counted backwards from the units
 * that are sold `now`, because the server says only how many were sold within each bucket. What is null is not known any more.
 */
export function pointsOf(buckets, { from, drop, now }) {
  const beginsAt = Math.max(...[from, drop.createdAt, drop.starts_at].map((time) => Date.parse(time ?? "") || 0));
  const points = [];
  let { sold } = now;
  for (const bucket of buckets.filter(({ at }) => Date.parse(at) > beginsAt).toReversed()) {
    const held = bucket.held ?? 0, left = bucket.available ?? Math.max(0, drop.total_stock - sold - held);
    points.unshift({ at: Date.parse(bucket.at), sold, held, left });
    sold = Math.max(0, sold - bucket.sold); // what was refunded since may have been counted
  }
  const [first] = points, total = first ? first.sold + first.held + first.left : drop.total_stock;
  if (beginsAt < (first?.at ?? now.at)) points.unshift({ at: beginsAt, sold, held: 0, left: Math.max(0, total - sold) });
  return points;
}
