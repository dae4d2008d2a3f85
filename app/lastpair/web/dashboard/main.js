// Starts the page. The events of the server change the state; the page draws the state at most once a frame.

import { Cards } from "./cards.js";
import { News } from "./news.js";
import { State, shownStatus } from "./state.js";
import { listen, snapshotOf } from "./stream.js";
import { Tools } from "./tools.js";

const ANNOUNCE_MS = 5000, RESYNCED_MS = 5000, REREAD_MS = 1000, MAX_REREAD = 50;
const SETTINGS_TIMEOUT_MS = 3000, SETTINGS_RETRY_MS = 5000;
const BADGE = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", resynced: "Resynced" };

const $ = (id) => document.getElementById(id);

// The page uses the server's clock, because holds expire by that clock and a visitor's own clock may be wrong.
let offsetMs = 0;
const clock = () => Date.now() + offsetMs;

const unannounced = new Set(), soldUnknown = new Set();
const state = new State(clock, {
  onChange(dropId) {
    cards.markChanged(dropId);
    if (dropId !== null) unannounced.add(dropId);
    draw();
  },
  onNews: () => draw(),
  onSoldUnknown(dropId) {
    if (soldUnknown.size === 0) rereadSoon();
    soldUnknown.add(dropId);
  },
  onHoldExpired: (reservationId) => tools.onHoldExpired(reservationId),
});
const tools = new Tools(state, {
  clock,
  answer: (...answer) => cards.answer(...answer),
  onHoldsChange() {
    cards.markAllChanged();
    draw();
  },
});
const cards = new Cards(state, {
  list: $("drops"), empty: $("empty"), template: $("card"), sizeTemplate: $("size"), clock,
  act: (action, drop, variantId) => tools.act(action, drop, variantId),
  holdOf: (dropId, variantId) => tools.holdOf(dropId, variantId),
});
const news = new News(state, $("news"));

let isDrawing = false;
function draw() {
  if (isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(() => {
    isDrawing = false;
    cards.render();
    news.render();
  });
}

/** Read a snapshot of the drops whose number of sold units is unknown, and correct them. */
async function rereadSold() {
  const asked = [...soldUnknown].slice(0, MAX_REREAD);
  let drops = [], id;
  try {
    ({ drops, id } = await snapshotOf(asked));
  } catch {
    // the drops stay in soldUnknown, and the page asks again
  }
  const rows = new Map(drops.map((row) => [row.id, row]));
  for (const dropId of asked) {
    if (!state.drops.has(dropId) || (rows.has(dropId) && state.correctSold(rows.get(dropId), id))) soldUnknown.delete(dropId);
  }
  if (soldUnknown.size > 0) rereadSoon();
}

/** Wait for a random time, so that not all open pages ask at the same moment. */
function rereadSoon() {
  setTimeout(rereadSold, REREAD_MS * (0.5 + Math.random()));
}

/** Announce to screen readers the drops that changed. It runs every ANNOUNCE_MS, because a listener can follow no more. */
function announce() {
  const drops = [...unannounced].map((dropId) => state.drops.get(dropId)).filter(Boolean);
  unannounced.clear();
  if (drops.length === 0) return;
  const said = drops.slice(-3).map((drop) => {
    const status = shownStatus(drop, clock());
    return `${drop.name}: ${status === "live" ? `${drop.available_stock} of ${drop.total_stock} left` : status}`;
  });
  const others = drops.length > 3 ? `, and ${drops.length - 3} others changed` : "";
  $("announcer").textContent = `${said.join(". ")}${others}.`;
}

let resyncedTimer;
function showConnection(connection) {
  if (connection === "live" && $("badge").dataset.state === "resynced") return;
  clearTimeout(resyncedTimer);
  $("badge").dataset.state = document.body.dataset.connection = connection;
  $("badge").textContent = BADGE[connection];
  if (connection !== "resynced") return;
  resyncedTimer = setTimeout(() => {
    $("badge").dataset.state = "";
    showConnection("live");
  }, RESYNCED_MS);
}

/** Read the server's time and whether to show the tools. It runs at each connection, because clocks drift and laptops sleep. */
async function readSettings() {
  const askedAt = Date.now(), signal = AbortSignal.timeout(SETTINGS_TIMEOUT_MS);
  const settings = await fetch("/dashboard/settings.json", { signal }).then((response) => response.json()).catch(() => null);
  if (!settings) return setTimeout(readSettings, SETTINGS_RETRY_MS);
  const { now, development } = settings;
  // The server read its clock about halfway between the request and the answer.
  if (now) offsetMs = Date.parse(now) - (askedAt + Date.now()) / 2;
  if (development && $("tools").hidden) {
    tools.show();
    cards.showActions();
    $("empty").textContent = "There are no drops yet. Create one with the development tools, or simulate a rush.";
  }
}

await readSettings(); // before the first event, so that every time on the page follows the server's clock
let connections = 0;
listen((type, data, id) => {
  state.apply(type, data, id);
  if (type === "SNAPSHOT") tools.refreshHolds();
}, (connection) => {
  showConnection(connection);
  if (connection === "live" && connections++ > 0) readSettings();
});
setInterval(() => {
  tools.removeOldHolds();
  state.removeOver();
  cards.tick();
}, 1000);
setInterval(announce, ANNOUNCE_MS);
