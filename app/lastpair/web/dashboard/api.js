// Calls the HTTP API, on behalf of the user that the caller names.

/** An error that the API answered: its code, its HTTP status, and as the message the sentence for people. */
export class Refusal extends Error {
  constructor(status, { code, message }) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const TIMEOUT_MS = 20_000;

/** A random UUID. crypto.randomUUID needs a secure origin; a phone that opens a development machine over plain HTTP has none. */
export function uuid() {
  const digits = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const version = `4${digits.slice(13, 16)}`, variant = `8${digits.slice(17, 20)}`;
  return [digits.slice(0, 8), digits.slice(8, 12), version, variant, digits.slice(20)].join("-");
}

/** Returns the `data` of the answer. Throws Refusal; its status is 0 when the server cannot be reached. */
export async function call(method, path, options) {
  return (await send(method, path, options)).data;
}

/** Reads a page of a list. Returns its `data`, and the cursor of the next page or undefined. */
export async function readPage(path, options) {
  const { data, meta } = await send("GET", path, options);
  return { ...data, nextCursor: meta.nextCursor };
}

async function send(method, path, { user, key, body } = {}) {
  let response, answer;
  try {
    response = await fetch(`/api${path}`, {
      method,
      headers: {
        ...(user && { "X-User-Id": user }),
        ...(key && { "Idempotency-Key": key }),
        ...(body && { "Content-Type": "application/json" }),
      },
      body: body && JSON.stringify(body),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    answer = await response.json();
  } catch {
    throw new Refusal(0, { code: "UNREACHABLE", message: "The server cannot be reached. Try again in a moment." });
  }
  if (!answer.success) throw new Refusal(response.status, answer.error);
  return answer;
}
