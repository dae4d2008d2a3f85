// How many units are sold each second, over the last ten minutes.

const KEPT_SECONDS = 600, BUCKET_SECONDS = 10, RECENT_SECONDS = 5;

export class Pace {
  #sold = new Map(); // units sold, by the second since 1970

  add(at, units) {
    const second = Math.floor(at / 1000);
    this.#sold.set(second, (this.#sold.get(second) ?? 0) + units);
    if (this.#sold.size > KEPT_SECONDS) this.#forget(second - KEPT_SECONDS);
  }

  /** Add what was sold in the seconds before. Nobody knows in which of them, so it is spread. */
  addBucket(endsAt, seconds, units) {
    if (units === 0) return;
    for (let ago = 1; ago <= seconds; ago++) this.add(endsAt - 1000 * ago, units / seconds);
  }

  /** Units a second, over the last few seconds. */
  recent(now) {
    const second = Math.floor(now / 1000);
    let units = 0;
    for (let ago = 0; ago < RECENT_SECONDS; ago++) units += this.#sold.get(second - ago) ?? 0;
    return units / RECENT_SECONDS;
  }

  /** The most units that were sold in one second. */
  get peak() {
    return Math.ceil(Math.max(0, ...this.#sold.values()));
  }

  /** The best second of each BUCKET_SECONDS, the oldest first. */
  buckets(now) {
    const last = Math.floor(now / 1000 / BUCKET_SECONDS), count = KEPT_SECONDS / BUCKET_SECONDS;
    const buckets = new Array(count).fill(0);
    this.#forget(now / 1000 - KEPT_SECONDS);
    for (const [second, units] of this.#sold) {
      const place = count - 1 - (last - Math.floor(second / BUCKET_SECONDS));
      if (place >= 0 && place < count) buckets[place] = Math.max(buckets[place], units);
    }
    return buckets;
  }

  #forget(before) {
    for (const second of this.#sold.keys()) if (second < before) this.#sold.delete(second);
  }
}
