// The server's clock, because holds and sales follow it and a device's clock may be wrong.

const DATE_RESOLUTION_MS = 2000; // a Date header has whole seconds, and a server may write the same one for a second

/** Estimates the server's time from what its answers say. All times are milliseconds since 1970. */
export class Clock {
  #least = -Infinity; // the offset of the server's clock from this one is between these two
  #most = Infinity;

  now() {
    return Date.now() + (Number.isFinite(this.#least) ? (this.#least + this.#most) / 2 : 0);
  }

  /** Learn from the Date header of an answer to a request that was sent at this time, by the device's clock. */
  learnFrom(response, sentAt) {
    const date = Date.parse(response.headers.get("Date") ?? "");
    if (date) this.#narrow(date - Date.now(), date + DATE_RESOLUTION_MS - sentAt);
  }

  /** Learn that the server did something at this time, between this time of the device's clock and now. */
  learnFromTime(at, sentAt) {
    this.#narrow(Date.parse(at) - Date.now(), Date.parse(at) - sentAt);
  }

  #narrow(least, most) {
    const isSame = least <= this.#most && most >= this.#least; // if not, one of the clocks was set
    this.#least = isSame ? Math.max(least, this.#least) : least;
    this.#most = isSame ? Math.min(most, this.#most) : most;
  }
}
