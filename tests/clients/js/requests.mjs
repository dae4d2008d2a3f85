// Calls every method of the client of clients/js once, and prints the method and path of each request instead of sending it.

import { Lastpair } from "../../../clients/js/lastpair.js";

globalThis.fetch = async (url, { method }) => {
  console.log(method, new URL(url).pathname);
  return Response.json({ success: true, data: {}, meta: {} });
};
const [, , id] = process.argv, client = new Lastpair({ baseUrl: "http://localhost" });
for (const name of Object.getOwnPropertyNames(Lastpair.prototype)) {
  if (["constructor", "request", "live"].includes(name)) continue;
  const result = client[name](id);
  await (result.pages ? result.pages().next() : result);
}
