// The stock of a drop over time, in bounded memory.

const MAX_POINTS = 160, FIRST_STEP_MS = 20; // a rush may last half a second

/**
 * Points `{ at, sold, held, left }`, the oldest first. When there are more than MAX_POINTS, every second one goes and points are
 * taken half as often from then on, so the series reaches back to its beginning however long the sale is.
 */
export class Series {
  points = [];
  #stepMs = FIRST_STEP_MS;
  seenFrom; // the time of the first point that the page saw itself; what is older is an estimate (see pointsOf)

  add(point) {
    const { points } = this, last = points.at(-1), before = points.at(-2);
    this.seenFrom ??= point.at;
    // The last point is the value now. It becomes a point of its own when it is a step later than the one before.
    if (before && last.at - before.at < this.#stepMs) points.pop();
    points.push(point);
    this.#thin();
  }

  /** The last point until this time that the page saw itself, or the first one. */
  seenAt(time) {
    const seen = this.points.filter(({ at }) => at >= this.seenFrom);
    return seen.findLast(({ at }) => at <= time) ?? seen[0];
  }

  /** Put what the server remembers in front, if it is more than what it has told before: of one drop it tells more than of all. */
  addOlder(older) {
    const from = this.seenFrom ?? Infinity, past = older.filter(({ at }) => at < from);
    const known = this.points.filter(({ at }) => at < from);
    if (past.length <= known.length) return;
    this.points.splice(0, known.length, ...past);
    this.#thin();
  }

  /** How many units were sold each second over the last seconds. */
  soldPerSecond(now, seconds) {
    const { points } = this, from = now - 1000 * seconds;
    const start = points.findLast(({ at }) => at <= from) ?? points[0];
    return start ? Math.max(0, points.at(-1).sold - start.sold) / seconds : 0;
  }

  /** Of each step the last point stays, because that value holds until the next one. */
  #thin() {
    while (this.points.length > MAX_POINTS) {
      this.#stepMs *= 2;
      let kept = Infinity;
      this.points = this.points.toReversed().filter(({ at }, place, { length }) => {
        if (place !== length - 1 && kept - at < this.#stepMs) return false;
        kept = at;
        return true;
      }).toReversed();
    }
  }
}
