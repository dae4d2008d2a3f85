// Calls of the API, as the user who is chosen.

/** A refusal of the API: its code, HTTP status and the sentence for people as the message. */
export class Refusal extends Error {
  constructor(status, { code, message }, retryAfterSeconds) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

const TIMEOUT_MS = 20_000;

/** A random UUID; crypto.randomUUID is not to be had by a phone that reaches a development machine over plain HTTP. */
export function uuid() {
  const digits = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [digits.slice(0, 8), digits.slice(8, 12), `4${digits.slice(13, 16)}`, `8${digits.slice(17, 20)}`, digits.slice(20)].join("-");
}

/** The data of an answer. Throws Refusal; a server that cannot be reached is one with status 0. */
export async function call(method, path, { user, key, body } = {}) {
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
    throw new Refusal(0, { code: "UNREACHABLE", message: "The server cannot be reached. Try again in a moment." }, 1);
  }
  if (!answer.success) throw new Refusal(response.status, answer.error, Number(response.headers.get("Retry-After")));
  return answer.data;
}
