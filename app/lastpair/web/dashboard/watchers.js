// How many watch the drops: the streams that the server has open, this page's among them. The page asks while it is seen and live.

import { call } from "./api.js";

const ASK_MS = 10_000;

/**
 * Calls onCount(watchers) every ASK_MS; not while the tab is hidden, or while `isLive()` is false. Returns a function that asks at
 * once.
 */
export function countWatchers(isLive, onCount) {
  async function ask() {
    if (document.hidden || !isLive()) return;
    const { watchers } = await call("GET", "/watchers").catch(() => ({}));
    if (watchers !== undefined) onCount(Math.max(1, watchers)); // the stream of this page may be younger than the count
  }
  setInterval(ask, ASK_MS);
  document.addEventListener("visibilitychange", ask);
  return ask;
}
