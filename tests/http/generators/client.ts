// Buys a unit with the types that openapi-typescript makes of the contract, and prints what it met as JSON.
// A line after "@ts-expect-error" must be an error, or tsc fails: the types are not just `any`.

import createClient from "openapi-fetch";
import type { components, paths } from "./lastpair.js";

type Event = components["schemas"]["Event"];

declare const process: { argv: string[] };

const [baseUrl, user] = process.argv.slice(2) as [string, string];
const client = createClient<paths>({ baseUrl, headers: { "X-User-Id": user } });
const met: Record<string, unknown> = {};

const made = await client.POST("/api/drops", { body: { name: "Typed", price: 10, total_stock: 1, status: "live" } });
if (!made.data) throw new Error(made.error.error.message);
const drop: components["schemas"]["Drop"] = made.data.data.drop;
const path = { dropId: drop.id };
// @ts-expect-error a price is a number
await client.POST("/api/drops", { body: { name: "Typed", price: "10", total_stock: 1 } });

const header = { "Idempotency-Key": "typed-1" };
for (const [name, body] of [["first", { qty: 1 }], ["repeated", { qty: 1 }]] as const) {
  const held = await client.POST("/api/drops/{dropId}/reserve", { params: { path, header }, body });
  met[name] = [held.response.status, held.data?.data.reservation.status];
  // @ts-expect-error there is no such field
  held.data?.data.reservation.state;
}

const basket = await client.POST("/api/baskets", { body: { items: [{ drop_id: drop.id }] } });
if (basket.response.status === 409 && basket.error && "items" in basket.error.error) {
  const code: components["schemas"]["ErrorCode"] = basket.error.error.items[0].code;
  met.refused = [basket.error.error.code, code];
}

const bought = await client.POST("/api/drops/{dropId}/purchase", { params: { path } });
met.amount = bought.data?.data.purchase.amount;
const mine = await client.GET("/api/purchases/me", { params: { query: { limit: 1 } } });
met.mine = mine.data?.data.purchases.map((purchase) => purchase.id === bought.data?.data.purchase.id);
const again = await client.POST("/api/drops/{dropId}/purchase", { params: { path } });
if (again.error) {
  const code: components["schemas"]["ErrorCode"] = again.error.error.code;
  met.again = code;
}

// Which data an event has follows from its type.
const said = (event: Event): string => {
  switch (event.type) {
    case "STOCK_UPDATED":
      return `${event.data.availableStock} of ${event.data.dropId}`;
    case "PURCHASE_COMPLETED":
      // @ts-expect-error this is a field of another event
      return `${event.data.username} ${event.data.availableStock}`;
    case "SNAPSHOT":
      return event.data.drops.map(({ name, activity_feed }) => `${name}: ${activity_feed.held_stock}`).join();
    default:
      return event.id;
  }
};
const socket = new WebSocket(`${baseUrl.replace("http", "ws")}/api/ws?dropId=${drop.id}`);
met.snapshot = await new Promise((resolve) => {
  socket.onmessage = ({ data }) => resolve(said(JSON.parse(data)));
});
socket.close();
console.log(JSON.stringify(met));
