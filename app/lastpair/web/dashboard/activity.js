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
 * What the server remembers of a drop, as points of a Series, which count what was sold up to then: the buckets, and from the
 * first remembered event on the events, because these have exact times. What is null is not known any more.
 *
 * The points are counted backwards from the units that are sold `now`, because the server says only how many were sold within
 * each bucket. So before a refund there is less sold than there was, and where the stock is not known any more nothing is held. It
 * is an estimate, and the chart calls it one.
 */
export function pointsOf(buckets, events, { from, drop, now }) {
  const beginsAt = Math.max(...[from, drop.createdAt, drop.starts_at].map((time) => Date.parse(time ?? "") || 0));
  const points = [], exact = pointsOfEvents(events, drop, now).filter(({ at }) => at > beginsAt);
  let { sold } = now;
  for (const bucket of buckets.filter(({ at }) => Date.parse(at) > beginsAt).toReversed()) {
    const held = bucket.held ?? 0, left = bucket.available ?? Math.max(0, drop.total_stock - sold - held);
    points.unshift({ at: Date.parse(bucket.at), sold, held, left });
    sold = Math.max(0, sold - bucket.sold);
  }
  const all = [...points.filter(({ at }) => at < (exact[0]?.at ?? Infinity)), ...exact], [first] = all;
  if (beginsAt < (first?.at ?? now.at)) {
    const total = first ? first.sold + first.held + first.left : drop.total_stock, begin = Math.min(sold, first?.sold ?? sold);
    all.unshift({ at: beginsAt, sold: begin, held: 0, left: Math.max(0, total - begin) });
  }
  return all;
}

function pointsOfEvents(events, drop, now) {
  const points = [];
  let sold = now.sold - events.reduce((sum, { data }) => sum + (data.qty ?? 0), 0), total = drop.total_stock, left;
  for (const { at, data } of events) {
    sold += data.qty ?? 0;
    total = data.drop?.total_stock ?? total;
    left = data.availableStock ?? data.drop?.available_stock ?? left;
    if (left === undefined) continue; // no event of the stock yet
    const units = Math.max(0, Math.min(sold, total - left)); // a purchase is told of before the stock that it took again
    points.push({ at: Date.parse(at), sold: units, held: Math.max(0, total - left - units), left });
  }
  return points;
}
