// Starts the page. The events of the server change the state; the page draws the state at most four times a second.

import { live, snapshot } from "/lastpair.js";

import { readActivity } from "./activity.js";
import { readPage } from "./api.js";
import { Away } from "./away.js";
import { Buying } from "./buying.js";
import { closeable } from "./dialogs.js";
import { $, setText } from "./dom.js";
import { DropPage } from "./drop-page.js";
import { Feed, FeedView } from "./feed.js";
import { formatTime } from "./format.js";
import { Pace } from "./pace.js";
import { startRouter } from "./router.js";
import { Rows } from "./rows.js";
import { Rush } from "./rush.js";
import { Session } from "./session.js";
import { State } from "./state.js";
import { setUpTools, showTools } from "./tools.js";
import { Totals } from "./totals.js";
import { Users } from "./users.js";
import { countWatchers } from "./watchers.js";

const DRAW_MS = 250, RESYNCED_MS = 5000, OUTCOME_MS = 8000, MEMORY_SECONDS = 600;
const SETTINGS_TIMEOUT_MS = 3000, SETTINGS_RETRY_MS = 5000;
const BADGE = { connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", resynced: "Resynced" };
const LISTED = { draft: ["draft"], over: ["ended", "cancelled"] }; // the statuses that no SNAPSHOT has, by filter

// The page uses the server's clock, because holds expire by that clock and a visitor's own clock may be wrong.
let offsetMs = 0;
const clock = () => Date.now() + offsetMs;

const feed = new Feed(), pace = new Pace();
const state = new State(clock, {
  onChange(dropId) {
    rows.markChanged(dropId);
    dropPage.onChange(dropId);
    draw();
  },
  onHappening(happening) {
    feed.add(happening);
    if (happening.kind === "sold") pace.add(happening.at, happening.units);
  },
  onHoldExpired: (reservationId) => buying.onHoldExpired(reservationId),
});
const users = new Users($("user"), $("acting"), () => buying.readHolds());
const buying = new Buying(state, users, { clock, say, onHoldsChange: drawAll });
const rows = new Rows(state, {
  clock,
  act: (action, drop, variantId) => buying.act(action, drop, variantId),
  onFilter: (filter) => (LISTED[filter] ?? []).forEach(addListed),
  holdsOf: (dropId) => buying.holdsOf(dropId),
});
const dropPage = new DropPage(state, { clock, buying, find, say });
const feedView = new FeedView(feed, $("feed")), totals = new Totals(state, pace);
const away = new Away($("away"));
const rush = new Rush((dropId) => go(`/drops/${dropId}`));
const session = new Session({ say, onChange: (isSeller) => showFor({ isBuyer: false, isSeller }) });

/** Draw everything at once, because one's own buttons must not show what was before. */
function drawAll() {
  rows.markAllChanged();
  dropPage.onChange(null);
  drawNow();
}

function drawNow() {
  drawnAt = performance.now();
  rows.render();
  dropPage.renderIfChanged();
  drawOverview();
}

/** Draw what changed, DRAW_MS after the last drawing at the earliest. */
let isDrawing = false, drawnAt = 0;
function draw() {
  if (isDrawing) return;
  isDrawing = true;
  setTimeout(() => requestAnimationFrame(() => {
    isDrawing = false;
    drawNow();
  }), Math.max(0, drawnAt + DRAW_MS - performance.now()));
}

function drawOverview() {
  if (!rows.isReady) return; // nothing is known yet, and a zero would be a lie
  const now = clock();
  totals.render(now);
  feedView.render(now);
  $("no-feed").hidden = feed.entries.length > 0;
}

/** Say what came of a button: for the eyes at the edge of the window, and for screen readers. */
let outcomeTimer;
function say(text, isRefusal = false) {
  clearTimeout(outcomeTimer);
  setText($("outcome"), text);
  $("outcome").classList.toggle("refusal", isRefusal);
  if (text) outcomeTimer = setTimeout(() => setText($("outcome"), ""), OUTCOME_MS);
}

/** The user as whom the page asks for what is a seller's, in development, where everybody may. Elsewhere the token says it. */
async function findSeller() {
  return rows.isBuyer ? users.currentOrGuest() : undefined;
}

/** Show what a buyer, in development, and what a seller may see and do. */
function showFor({ isBuyer, isSeller }) {
  showTools([...(isSeller ? ["drop-form"] : []), ...(isBuyer ? ["rush-form", "user-form"] : [])]);
  rows.showFor({ isBuyer, isSeller });
  if (!isSeller) forgetDrafts();
  dropPage.showFor({ isBuyer, isSeller });
  if (isBuyer) buying.readHolds();
  else if (isSeller) addListed("draft");
}

function forgetDrafts() {
  for (const { id, status } of state.drops.values()) {
    if (status !== "draft") continue;
    state.drops.delete(id);
    state.rows.delete(id);
  }
  drawAll();
}

/** Add the drops of a status that no event has. */
async function addListed(status) {
  const user = await findSeller();
  const { drops, incomplete } = await readPage(`/drops?status=${status}&limit=200`, { user }).catch(() => ({ drops: [] }));
  if (incomplete) away.show(incomplete);
  if (status !== "draft" || rows.isSeller) state.add(drops); // the seller may have signed out meanwhile
}

/** Bring a drop into the state that is not on sale: one that is over, or a draft. */
async function find(dropId) {
  await hasSnapshot;
  if (state.drops.has(dropId)) return;
  const { drops } = await snapshot({ dropIds: [dropId] }).catch(() => ({ drops: [] }));
  state.add(drops);
  if (drops.length === 0 && rows.isSeller) await addListed("draft");
}

/** Fill the feed, the charts and the pace with what the server remembers. */
async function readMemory() {
  const activity = await readActivity(MEMORY_SECONDS);
  await hasSnapshot;
  const older = activity.events.filter((event) => !state.hasSeen(event) && Date.parse(event.at) <= snapshotAt);
  feed.addOlder(older, (dropId) => state.drops.get(dropId));
  for (const { points } of activity.drops) {
    for (const { at, sold } of points) pace.addBucket(Date.parse(at), activity.bucket_seconds, sold);
  }
  state.addPast(activity);
  drawAll();
}

const askWatchers = countWatchers(() => document.body.dataset.connection === "live", (watchers) => totals.showWatchers(watchers));

let resyncedTimer;
function showConnection(connection) {
  const badge = $("badge");
  if (connection === "live" && badge.dataset.state === "resynced") return;
  if (connection === "reconnecting" && badge.dataset.state !== connection) setText($("as-of"), `as of ${formatTime(clock())}`);
  clearTimeout(resyncedTimer);
  badge.dataset.state = document.body.dataset.connection = connection;
  setText(badge, BADGE[connection]);
  if (connection !== "resynced") return;
  resyncedTimer = setTimeout(() => {
    badge.dataset.state = "";
    showConnection("live");
  }, RESYNCED_MS);
}

/** Read the server's time and whether to show the tools. It runs at each connection, because clocks drift and laptops sleep. */
async function readSettings() {
  const askedAt = Date.now(), signal = AbortSignal.timeout(SETTINGS_TIMEOUT_MS);
  const settings = await fetch("/dashboard/settings.json", { signal }).then((response) => response.json()).catch(() => null);
  if (!settings) return setTimeout(readSettings, SETTINGS_RETRY_MS);
  const { now, development, authMode, nameClaim, payments } = settings;
  // The server read its clock about halfway between the request and the answer.
  if (now) offsetMs = Date.parse(now) - (askedAt + Date.now()) / 2;
  if (payments) dropPage.showPayments();
  if (development && !rows.isBuyer) showFor({ isBuyer: true, isSeller: true });
  if (authMode === "jwt") session.start(nameClaim);
}

let focusTitle = false; // not when the page is loaded, because then the focus belongs to the browser
function showRoute(dropId) {
  $("list-view").hidden = dropId !== null;
  $("drop-view").hidden = dropId === null;
  document.title = "Lastpair";
  if (dropId) dropPage.show(dropId);
  else dropPage.hide();
  rush.show(dropId);
  if (focusTitle) $(dropId ? "drop-name" : "drops-title").focus({ preventScroll: true });
  focusTitle = true;
}

addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.matches("input, select, textarea")) return;
  if (document.querySelector("dialog[open]")) return;
  event.preventDefault();
  go("/");
  $("search").focus();
});
closeable($("ask"));
setUpTools({ users, rush, findSeller, clock, say });

let snapshotAt, onSnapshot;
const hasSnapshot = new Promise((resolve) => { onSnapshot = resolve; });
const go = startRouter(showRoute);
await readSettings(); // before the first event, so that every time on the page follows the server's clock
readMemory();
let snapshots = 0, connections = 0;
const following = live({
  onChange(row, event) {
    const isSnapshot = event?.type === "SNAPSHOT";
    if (isSnapshot) {
      rows.isReady = true;
      away.show(event.data.incomplete);
      snapshotAt ??= clock();
      onSnapshot();
    }
    state.apply(row, event);
    if (isSnapshot && rows.isBuyer) buying.readHolds();
    if (isSnapshot && !event.data.completes && snapshots++ > 0) showConnection("resynced");
  },
  onStatus(status) {
    showConnection(status === "live" ? "live" : "reconnecting");
    askWatchers();
    if (status === "live" && connections++ > 0) readSettings();
  },
});
state.rows = following.drops;
setInterval(() => {
  buying.removeOldHolds();
  state.removeOver();
  if (document.hidden) return;
  rows.tick();
  dropPage.tick();
  drawOverview();
}, 1000);
