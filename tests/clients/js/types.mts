// The compiler checks the declarations of clients/js with this file. It is never run.

import { applyEvent, Lastpair, LastpairError, live, snapshot } from "../../../clients/js/lastpair.js";
import type { Drop, ListedDrop, Live, LiveEvent, Purchase, Reservation } from "../../../clients/js/lastpair.js";

const shop = new Lastpair({ baseUrl: "http://localhost:4000", token: async () => "token", retries: 1, fetch });
const drop: Drop = await shop.createDrop({ name: "Air", price: 1, variants: [{ name: "42", total_stock: 1 }] });
const held: Reservation = await shop.reserve(drop.id, { variant_id: drop.variants[0]?.id, qty: 1 }, { idempotencyKey: "key" });
const purchases: Purchase[] = await shop.purchaseBasket((await shop.reserveBasket([{ drop_id: drop.id }])).id);
for await (const row of shop.listDropPurchases(drop.id, { status: "paid" })) row.username satisfies string;
(await shop.exportDropPurchases(drop.id, { status: "paid" })).split("\r\n") satisfies string[];
(await shop.getActivity({ seconds: 60, dropIds: [drop.id] })).drops[0]?.points[0]?.held satisfies number | null | undefined;
for await (const page of shop.listDrops({ limit: 2 }).pages()) page satisfies ListedDrop[];

const following: Live = live({
  onChange(changed, event) {
    if (event?.type === "STOCK_UPDATED") event.data.availableStock satisfies number;
    changed?.activity_feed.held_stock satisfies number | undefined;
  },
  onStatus: (status) => status === "live",
});
applyEvent(new Map(following.drops), {} as LiveEvent);
(await snapshot({ dropIds: [drop.id] })).id satisfies string;

try {
  await shop.purchase(drop.id);
} catch (error) {
  if (error instanceof LastpairError) error.items?.map(({ index, code }) => [index, code]);
}

// @ts-expect-error A drop has no such field.
await shop.createDrop({ name: "Air", price: 1, stock: 1 });
// @ts-expect-error There is no such status.
shop.listDrops({ status: "sold" });
// @ts-expect-error The whole list has no pages.
await shop.exportDropReservations(drop.id, { limit: 2 });
export { held, purchases };
