// The page: events change the state, the state is shown once a frame.

import { Cards } from "./cards.js";
import { Feed } from "./feed.js";
import { State, statusAt } from "./state.js";
import { listen, snapshotOf } from "./stream.js";
import { Tools } from "./tools.js";

const ANNOUNCE_MS = 5000, RESYNCED_MS = 5000, DOUBT_MS = 1000, MAX_ASKED = 50;
const SETTINGS_TIMEOUT_MS = 3000, SETTINGS_RETRY_MS = 5000;
const BADGE = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", resynced: "Resynced" };

const $ = (id) => document.getElementById(id);

// The server's clock: the hold of a buyer whose own clock is wrong runs out all the same.
let offsetMs = 0;
const clock = () => Date.now() + offsetMs;

const announced = new Set(), doubted = new Set();
const state = new State(clock, {
  onChange(dropId) {
    cards.touch(dropId);
    if (dropId !== null) announced.add(dropId);
    draw();
  },
  onFeed: () => draw(),
  onDoubt(dropId) {
    if (doubted.size === 0) settleSoon();
    doubted.add(dropId);
  },
  onExpired: (reservationId) => tools.expired(reservationId),
});
const tools = new Tools(state, { clock, answer: (...answer) => cards.answer(...answer), onHold: () => { cards.touchAll(); draw(); } });
const cards = new Cards(state, {
  list: $("drops"), empty: $("empty"), template: $("card"), clock,
  act: (action, drop) => tools.act(action, drop),
  hold: (dropId) => tools.holds.get(dropId),
});
const feed = new Feed(state, $("feed"));

let isDrawing = false;
function draw() {
  if (isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(() => {
    isDrawing = false;
    cards.render();
    feed.render();
  });
}

/** Of some drops the events do not tell all: read how they are. */
async function settleDoubts() {
  const asked = [...doubted].slice(0, MAX_ASKED);
  let drops = [], id;
  try {
    ({ drops, id } = await snapshotOf(asked));
  } catch {
    // as if it had told nothing
  }
  const told = new Map(drops.map((row) => [row.id, row]));
  for (const dropId of asked) {
    if (!state.drops.has(dropId) || (told.has(dropId) && state.settle(told.get(dropId), id))) doubted.delete(dropId);
  }
  if (doubted.size > 0) settleSoon();
}

/** Not all pages at the same moment. */
function settleSoon() {
  setTimeout(settleDoubts, DOUBT_MS * (0.5 + Math.random()));
}

/** Tell those who listen to the page how the drops that changed are, no more often than one can listen. */
function announce() {
  const drops = [...announced].map((dropId) => state.drops.get(dropId)).filter(Boolean);
  announced.clear();
  if (drops.length === 0) return;
  const said = drops.slice(-3).map((drop) => {
    const status = statusAt(drop, clock());
    return `${drop.name}: ${status === "live" ? `${drop.available_stock} of ${drop.total_stock} left` : status}`;
  });
  $("announcer").textContent = drops.length > 3 ? `${said.join(". ")}, and ${drops.length - 3} others changed.` : `${said.join(". ")}.`;
}

let resyncedTimer;
function show(connection) {
  if (connection === "live" && $("badge").dataset.state === "resynced") return;
  clearTimeout(resyncedTimer);
  $("badge").dataset.state = document.body.dataset.connection = connection;
  $("badge").textContent = BADGE[connection];
  if (connection === "resynced") resyncedTimer = setTimeout(() => { $("badge").dataset.state = ""; show("live"); }, RESYNCED_MS);
}

/** What time it is, and whether there are development tools. Asked with each connection: clocks drift, laptops sleep. */
async function readSettings() {
  const askedAt = Date.now(), signal = AbortSignal.timeout(SETTINGS_TIMEOUT_MS);
  const settings = await fetch("/dashboard/settings.json", { signal }).then((response) => response.json()).catch(() => null);
  if (!settings) return setTimeout(readSettings, SETTINGS_RETRY_MS);
  const { now, development } = settings;
  if (now) offsetMs = Date.parse(now) - (askedAt + Date.now()) / 2; // read halfway
  if (development && $("tools").hidden) {
    tools.show();
    cards.showActions();
    $("empty").textContent = "There are no drops yet. Create one with the development tools, or simulate a rush.";
  }
}

await readSettings(); // first, so that times are the server's from the first event on
let connections = 0;
listen((type, data, id) => {
  state.apply(type, data, id);
  if (type === "SNAPSHOT") tools.refresh();
}, (connection) => {
  show(connection);
  if (connection === "live" && connections++ > 0) readSettings();
});
setInterval(() => {
  tools.forgetOld();
  state.forgetOver();
  cards.tick();
}, 1000);
setInterval(announce, ANNOUNCE_MS);
