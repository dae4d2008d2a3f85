// Starts the page: the server's events and the buyer's actions change the sale; the page is drawn at most 4 times a second.

import { LastpairError, live } from "/lastpair.js";
import { Buying } from "./buying.js";
import { Clock } from "./clock.js";
import { capital, nameOf, number, thingOf, time, wordsFor } from "./format.js";
import { identify } from "./identity.js";
import { Page } from "./page.js";
import { Sale, phaseAt } from "./sale.js";
import { lapsedText, viewOf } from "./views.js";

const DRAW_MS = 250, LATE_MS = 30_000, SLOW_MS = 2000;
const SETTLE_MS = 500; // a double click on Reserve must not press the Pay that takes its place
const SLOW = "This takes longer than usual. We keep trying, and nothing is done twice.";

const { drop, authMode, holdSeconds, now: servedAt } = JSON.parse(document.body.dataset.page);
const clock = new Clock(), buyer = identify(authMode, () => refreshMine()), buying = new Buying(drop.id, buyer, clock);
const otherTabs = new BroadcastChannel(`lastpair.drop.${drop.id}`);
const sale = new Sale(drop);
let chosen = null, wanted = 1, isBusy = false, phase = null, settledAt = -Infinity, isLate = false, toldLapsed = null;

/** What the buttons do. The names are those in views.js. An action may return a sentence, which is told beside the buttons. */
class Actions {
  async reserve() {
    if (sale.drop.variants.length > 0 && chosen === null) {
      page.focusSize();
      return `Choose ${wordsFor(sale.drop).one} first.`;
    }
    const hold = await buying.reserve(chosen, unitsNow());
    Object.assign(sale, { lapsed: null, released: null, wantsMore: false });
    wanted = 1;
    takeMine({ holds: [hold, ...sale.holds], purchases: sale.purchases });
    page.sayTitle();
  }

  async extend() {
    const [hold] = sale.holds, extended = await buying.extend(hold);
    takeMine({ holds: sale.holds.map((row) => (row.id === hold.id ? extended : row)), purchases: sale.purchases });
    page.say(`You have until ${time(extended.expires_at, clock.now())} to pay.`);
  }

  async purchase() {
    const [hold] = sale.holds, purchase = await buying.purchase(hold);
    sale.lapsed = null;
    takeMine({ holds: sale.holds.filter(({ id }) => id !== hold.id), purchases: [purchase, ...sale.purchases] });
    page.sayTitle();
  }

  async release() {
    const [hold] = sale.holds;
    await buying.release(hold);
    sale.released = hold;
    takeMine({ holds: sale.holds.filter(({ id }) => id !== hold.id), purchases: sale.purchases });
    page.say(`You let ${thingOf(sale.drop, hold)} go. Nothing was charged.`);
  }

  wantMore() {
    sale.wantsMore = true;
  }
}

const actions = new Actions();
const page = new Page({
  async act(action) {
    if (isBusy || performance.now() - settledAt < SETTLE_MS) return;
    isBusy = true;
    page.answer("");
    drawNow();
    const before = phase, slow = setTimeout(() => page.answer(SLOW), SLOW_MS), asked = unitsNow();
    try {
      page.answer((await actions[action]()) ?? "");
    } catch (error) {
      if (!(error instanceof LastpairError)) reportError(error);
      page.answer(sentenceOf(error, asked));
      refreshMine(); // the hold may have changed in another tab
    } finally {
      clearTimeout(slow);
      isBusy = false;
      settledAt = performance.now();
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
  setUnits(units) {
    if (!(units >= 1)) return draw(); // what is typed is no number yet
    wanted = Math.min(Math.floor(units), sale.mostOf(chosen));
    page.answer("");
    drawNow();
  },
});

/** How many units the buyer would reserve now. */
function unitsNow() {
  return Math.max(1, Math.min(wanted, sale.mostOf(chosen)));
}

/** The sentence for people about a refusal. Those of the API that are not here need no other words. */
function sentenceOf({ code, message }, units) {
  const what = nameOf(sale.drop, chosen);
  return {
    OUT_OF_STOCK: units > 1 ? `Somebody was faster. ${message}` : `Somebody was faster: no ${what} is left.`,
    DROP_NOT_ACTIVE: "This drop is not on sale right now.",
    ALREADY_RESERVED: `You hold ${what} already.`,
    RESERVATION_EXPIRED: "Time ran out before this was done. Nothing was charged.",
    NO_ACTIVE_RESERVATION: "You do not hold this any more. Nothing was charged.",
    RESERVATION_NOT_FOUND: "You do not hold this any more. Nothing was charged.",
    AUTH_REQUIRED: "The shop has to sign you in. Open this page from the shop again.",
    RATE_LIMITED: "Those were too many tries. Wait a minute, then try again.",
    OVERLOADED: "It is very busy. Try again in a moment.",
    DATABASE_UNAVAILABLE: "The shop cannot answer now. Try again in a moment: nothing is done twice.",
    UNEXPECTED_ANSWER: "The shop cannot answer now. Try again in a moment: nothing is done twice.",
    UNREACHABLE: "The shop cannot be reached. Try again: nothing is done twice.",
    TIMEOUT: "The shop does not answer. Try again: nothing is done twice.",
  }[code] ?? message;
}

let mineVersion = 0;

/** Read what the buyer holds and has bought. */
async function refreshMine() {
  const version = ++mineVersion, mine = await buying.mine().catch(() => undefined);
  if (mine === undefined || version !== mineVersion) return; // the call failed, or another answer is newer
  sale.takeMine(mine, clock.now());
  draw();
}

/** Take what the buyer holds and has bought after an action, and tell the other tabs. */
function takeMine(mine) {
  mineVersion++;
  sale.takeMine(mine, clock.now());
  otherTabs.postMessage("changed");
  drawNow();
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
  if (sale.lapsed && sale.lapsed !== toldLapsed) page.say(`${lapsedText(sale)} Nothing was charged.`);
  toldLapsed = sale.lapsed;
  const phaseNow = phaseAt(sale, now);
  if (phaseNow !== phase && phase !== null) settledAt = drawnAt;
  const focused = document.activeElement, view = viewOf(phaseNow, { sale, chosen, units: unitsNow(), now, holdSeconds });
  page.draw(view, { sale, phase: phaseNow, chosen, now, holdSeconds, isBusy });
  if (focused.disabled || focused.closest("[hidden]")) page.focusButton(); // what had the focus is gone
  phase = phaseNow;
  const wasLate = isLate, { from, until } = view.clock ?? {};
  isLate = Boolean(until) && Date.parse(until) - now <= LATE_MS;
  if (isLate && !wasLate && now - Date.parse(from) > SETTLE_MS) page.say("30 seconds left to pay.");
}

/** Tell what the buyer can no longer have of what was chosen, if it is so since there were this many. */
function tellFewer(unitsBefore) {
  const gone = forgetSoldOut(), units = unitsNow();
  if (phase !== "onSale") return;
  if (gone) page.answer(`${gone} has just sold out. Choose ${wordsFor(sale.drop).another}.`);
  else if (units < unitsBefore) page.answer(`Only ${number(units)} can be reserved now.`);
}

clock.learnFromTime(servedAt, Date.now() - performance.now()); // between the start of the navigation and now
drawNow();
const following = live({
  dropIds: [drop.id],
  onChange(_, event) {
    const { status } = sale.drop, unitsBefore = unitsNow();
    sale.takeDrop(following.drops.get(drop.id));
    if (event?.type === "RESERVATION_EXPIRED") sale.expire(event.data.reservationId);
    // The seller may have taken back what the buyer has: with the drop, or by a refund, after which `event` is undefined.
    if (sale.drop.status !== status || (!event && sale.purchases.length > 0)) refreshMine();
    if (!isBusy) tellFewer(unitsBefore);
    draw();
  },
  onStatus(status) {
    page.showConnection(status);
    if (status === "live") refreshMine();
  },
});
otherTabs.addEventListener("message", () => refreshMine());
setInterval(draw, 1000);
