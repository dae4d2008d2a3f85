// Starts the page: the server's events and the buyer's actions change the sale; the page is drawn at most 4 times a second.

import { Api, Refusal } from "./api.js";
import { Clock } from "./clock.js";
import { capital, nameOf, wordsFor } from "./format.js";
import { identify } from "./identity.js";
import { Page } from "./page.js";
import { Sale, phaseAt } from "./sale.js";
import { Stream } from "./stream.js";
import { viewOf } from "./views.js";

const DRAW_MS = 250, LATE_MS = 30_000, REREAD_MS = 1000;
const SETTLE_MS = 500; // a double click on Reserve must not press the Pay that takes its place

const { drop, authMode, holdSeconds, now: servedAt } = JSON.parse(document.body.dataset.page);
const clock = new Clock(), buyer = identify(authMode, () => refreshMine()), api = new Api(buyer, clock);
const otherTabs = new BroadcastChannel(`lastpair.drop.${drop.id}`);
const sale = new Sale(drop, () => setTimeout(() => stream.reset(), REREAD_MS * (0.5 + Math.random())));
let chosen = null, isBusy = false, phase = null, phaseSince = -Infinity, isLate = false, toldLapsed = null;

/** What the buttons do. The names are those in views.js. */
class Actions {
  async reserve() {
    if (sale.drop.variants.length > 0 && chosen === null) {
      page.focusSize();
      return page.answer(`Choose ${wordsFor(sale.drop).one} first.`);
    }
    const hold = await api.reserve(drop.id, chosen);
    Object.assign(sale, { lapsed: null, released: null, wantsMore: false });
    await refreshMine({ holds: [hold, ...sale.holds], purchases: sale.purchases });
    page.say(`${capital(nameOf(sale.drop, hold.variant_id))} is held for you.`);
  }

  async purchase() {
    const [hold] = sale.holds;
    const purchase = await api.purchase(drop.id, hold.id);
    sale.lapsed = null;
    await refreshMine({ holds: sale.holds.filter(({ id }) => id !== hold.id), purchases: [purchase, ...sale.purchases] });
    page.say("It’s yours.");
  }

  async release() {
    const [hold] = sale.holds;
    await api.cancel(hold.id);
    sale.released = hold;
    await refreshMine({ holds: sale.holds.filter(({ id }) => id !== hold.id), purchases: sale.purchases });
    page.say(`You let ${nameOf(sale.drop, hold.variant_id)} go. Nothing was charged.`);
  }

  wantMore() {
    sale.wantsMore = true;
  }
}

const actions = new Actions();
const page = new Page({
  async act(action) {
    if (isBusy || performance.now() - phaseSince < SETTLE_MS) return;
    isBusy = true;
    page.answer("");
    drawNow();
    const before = phase;
    try {
      await actions[action]();
    } catch (refusal) {
      if (!(refusal instanceof Refusal)) reportError(refusal);
      page.answer(sentenceOf(refusal));
      await refreshMine(); // the hold may have changed in another tab
    } finally {
      isBusy = false;
      forgetSoldOut();
      drawNow();
    }
    if (phase !== before) page.focusButton();
  },
  choose(variantId) {
    chosen = variantId;
    page.answer("");
    drawNow();
  },
});

/** The sentence for people about a refusal. Those of the API that are not here need no other words. */
function sentenceOf({ code, message }) {
  const what = nameOf(sale.drop, chosen);
  return {
    OUT_OF_STOCK: `Somebody was faster: no ${what} is left.`,
    DROP_NOT_ACTIVE: "This drop is not on sale right now.",
    ALREADY_RESERVED: `You hold ${what} already.`,
    RESERVATION_EXPIRED: "Time ran out before this was done. Nothing was charged.",
    NO_ACTIVE_RESERVATION: "You do not hold this any more. Nothing was charged.",
    RESERVATION_NOT_FOUND: "You do not hold this any more. Nothing was charged.",
    AUTH_REQUIRED: "The shop has to sign you in. Open this page from the shop again.",
    RATE_LIMITED: "Those were too many tries. Wait a minute, then try again.",
    OVERLOADED: "It is very busy. Try again in a moment.",
    DATABASE_UNAVAILABLE: "The shop cannot answer now. Try again in a moment: nothing is done twice.",
    UNREACHABLE: "The shop cannot be reached. Try again: nothing is done twice.",
  }[code] ?? message;
}

/** Take what the buyer has. It is read from the server, unless it is given by an action, of which the other tabs are told. */
let mineVersion = 0;
async function refreshMine(known) {
  const version = ++mineVersion;
  const mine = known ?? (await api.mine(drop.id).catch(() => undefined));
  if (mine === undefined || version !== mineVersion) return; // the call failed, or another answer is newer
  sale.takeMine(mine, clock.now());
  if (known) otherTabs.postMessage("changed");
  draw();
}

/** Choose no size any more if the chosen one has sold out. Returns its name if so. */
function forgetSoldOut() {
  const gone = sale.drop.variants.find(({ id, available_stock: available }) => id === chosen && available === 0);
  if (!gone || sale.holds.length > 0) return null;
  chosen = null;
  return capital(nameOf(sale.drop, gone.id));
}

let drawTimer = null, drawnAt = 0; // by a clock that nobody sets
function draw() {
  drawTimer ??= setTimeout(drawNow, Math.max(0, drawnAt + DRAW_MS - performance.now()));
}

function drawNow() {
  clearTimeout(drawTimer);
  drawTimer = null;
  drawnAt = performance.now();
  const now = clock.now();
  sale.lapse(now);
  if (sale.lapsed && sale.lapsed !== toldLapsed) {
    page.say(`Time ran out, so we let ${nameOf(sale.drop, sale.lapsed.variant_id)} go. Nothing was charged.`);
  }
  toldLapsed = sale.lapsed;
  const phaseNow = phaseAt(sale, now);
  if (phaseNow !== phase && phase !== null) phaseSince = drawnAt;
  const focused = document.activeElement;
  page.draw(viewOf(phaseNow, { sale, chosen, now, holdSeconds }), { sale, phase: phaseNow, chosen, now, holdSeconds, isBusy });
  if (focused.disabled || focused.closest("[hidden]")) page.focusButton(); // what had the focus is gone
  phase = phaseNow;
  const [hold] = sale.holds, wasLate = isLate;
  isLate = Boolean(hold) && Date.parse(hold.expires_at) - now <= LATE_MS;
  if (isLate && !wasLate && now - Date.parse(hold.createdAt) > SETTLE_MS) page.say("30 seconds left to pay.");
}

clock.learnFromTime(servedAt, performance.timeOrigin); // a page from the cache of the browser is put right by the next answer
drawNow();
const stream = new Stream(drop.id, {
  onEvent(type, data) {
    if (sale.apply(type, data)) refreshMine();
    const gone = type === "STOCK_UPDATED" && !isBusy && forgetSoldOut();
    if (gone && phase === "onSale") page.answer(`${gone} has just sold out. Choose ${wordsFor(sale.drop).another}.`);
    draw();
  },
  onConnection(state) {
    page.showConnection(state);
    if (state === "live") refreshMine();
  },
  onResponse: (response, sentAt) => clock.learnFrom(response, sentAt),
});
otherTabs.addEventListener("message", () => refreshMine());
setInterval(draw, 1000);
