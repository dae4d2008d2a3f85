// Calls the HTTP API, on behalf of the user that the caller names, or of the seller who is signed in.

/** An error that the API answered: its code, its HTTP status, and as the message the sentence for people. */
export class Refusal extends Error {
  constructor(status, { code, message }) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const TIMEOUT_MS = 20_000;
const TOKEN_REFUSED = new Set(["AUTH_REQUIRED", "FORBIDDEN"]);

let session = { token: null };

/** From now on calls have the token of this session, if it has one. Calls its onRefused(refusal) when the token is refused. */
export function callFor(newSession) {
  session = newSession;
}

/** Returns the `data` of the answer. Throws Refusal; its status is 0 when the server cannot be reached. */
export async function call(method, path, options) {
  return (await send(method, path, options)).data;
}

/** Reads a page of a list. Returns its `data`, the cursor of the next page or undefined, and the nodes whose rows are missing. */
export async function readPage(path, options) {
  const { data, meta } = await send("GET", path, options);
  return { ...data, nextCursor: meta.nextCursor, incomplete: meta.incomplete };
}

async function send(method, path, { user, key, body, token = session.token } = {}) {
  let response, answer;
  try {
    response = await fetch(`/api${path}`, {
      method,
      headers: {
        ...(token ? { Authorization: `Bearer ${token}` } : user && { "X-User-Id": user }),
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
  if (answer.success) return answer;
  const refusal = new Refusal(response.status, answer.error);
  if (token && token === session.token && TOKEN_REFUSED.has(refusal.code)) session.onRefused(refusal);
  throw refusal;
}
