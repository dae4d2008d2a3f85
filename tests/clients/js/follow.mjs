// Follows all drops, and prints each event as a line of JSON, until a drop has the name of the argument. It reserves and
// purchases the drop of each line that it reads, as a buyer who is named there, and prints the purchase.

import { createInterface } from "node:readline";

import { Lastpair } from "../../../clients/js/lastpair.js";

const [, , baseUrl, lastName] = process.argv;
const print = (value) => console.log(JSON.stringify(value));

const following = new Lastpair({ baseUrl }).live({
  retryMs: 50,
  onChange(drop, event) {
    print([event.type, event.id]);
    if (drop?.name !== lastName) return;
    following.close();
    lines.close();
  },
});
const lines = createInterface({ input: process.stdin });
for await (const line of lines) {
  const { dropId, userId } = JSON.parse(line), buyer = new Lastpair({ baseUrl, userId, retries: 12 });
  buyer.reserve(dropId).then(() => buyer.purchase(dropId)).then(({ id }) => print(["purchase", id]));
}
