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
    });
    answer = await response.json();
  } catch {
    throw new Refusal(0, { code: "UNREACHABLE", message: "The server cannot be reached. Try again in a moment." }, 1);
  }
  if (!answer.success) throw new Refusal(response.status, answer.error, Number(response.headers.get("Retry-After")));
  return answer.data;
}
