// Starts the page: the server's events and the buyer's actions change the sale; the page is drawn at most 4 times a second.

import { LastpairError, live } from "/lastpair.js";
import { Buying, isOpen } from "./buying.js";
import { Clock } from "./clock.js";
import { capital, nameOf, number, thingOf, time, wordsFor } from "./format.js";
import { identify } from "./identity.js";
import { Page } from "./page.js";
import { Sale, phaseAt } from "./sale.js";
import { lapsedText, unpaidText, viewOf } from "./views.js";

const DRAW_MS = 250, LATE_MS = 30_000, SLOW_MS = 2000;
const SETTLE_MS = 500; // a double click on Reserve must not press the Pay that takes its place
const EXPIRED_MS = 2000; // by then the server's clock says so as well
const FORM_RETRY_MS = 5000;
const PHASES_OF_DROP = ["soon", "onSale", "paused", "soldOut", "ended", "cancelled", "removed"];
const NO_ANSWER = ["UNREACHABLE", "TIMEOUT"]; // codes of the client
const TAKEN_BACK = ["cancelled", "removed"]; // by the seller, whatever the buyer has
const SLOW = "This takes longer than usual. We keep trying, and nothing is done twice.";

const { drop, authMode, holdSeconds, payments = null, now: servedAt } = JSON.parse(document.body.dataset.page);
const clock = new Clock(), buyer = identify(authMode, () => refreshMine()), buying = new Buying(drop.id, buyer, clock);
const otherTabs = new BroadcastChannel(`lastpair.drop.${drop.id}`);
const sale = new Sale(drop);
let chosen = null, wanted = 1, isBusy = false, phase = null, settledAt = -Infinity, isLate = false;
let toldLapsed = null, toldUnpaid = null, toldUnreachable = null;
let paying = null, stripe = null; // the promises of a Paying and of Stripe’s form, which are loaded when they are needed

/** What the buttons do. The names are those in views.js. An action may return a sentence, which is told beside the buttons. */
class Actions {
  async reserve() {
    if (sale.drop.variants.length > 0 && chosen === null) {
      page.focusSize();
      return `Choose ${wordsFor(sale.drop).one} first.`;
    }
    const hold = await buying.reserve(chosen, unitsNow());
    Object.assign(sale, { lapsed: null, released: null, unpaid: null, wantsMore: false });
    wanted = 1;
    takeMine({ holds: [hold, ...sale.holds] });
    page.sayTitle();
  }

  async extend() {
    const [hold] = sale.holds, extended = await buying.extend(hold);
    takeMine({ holds: sale.holds.map((row) => (row.id === hold.id ? extended : row)) });
    page.say(`You have until ${time(extended.expires_at, clock.now())} to pay.`);
  }

  async purchase() {
    const [hold] = sale.holds, { purchase, payment } = await buying.purchase(hold);
    sale.lapsed = null;
    takeMine({ holds: sale.holds.filter(({ id }) => id !== hold.id), purchases: [purchase, ...sale.purchases], payment });
    if (purchase.status === "pending" && !payment) await refreshMine(); // it has ended already
    page.sayTitle();
  }

  async release() {
    const [hold] = sale.holds;
    await buying.release(hold);
    sale.released = hold;
    takeMine({ holds: sale.holds.filter(({ id }) => id !== hold.id) });
    page.say(`You let ${thingOf(sale.drop, hold)} go. Nothing was charged.`);
  }

  async confirmPayment() {
    const { payment } = sale, form = await stripe;
    if (!form) return "The payment form is not there yet. Try again in a moment.";
    const problem = await form.confirm();
    if (!problem && sale.payment?.id === payment.id) sale.confirmed = payment.id;
    return problem;
  }

  async cancelPayment() {
    const { payment } = sale, { status } = await buying.cancelPayment(payment);
    if (status === "cancelled" && sale.payment?.id === payment.id) sale.cancelPayment();
    otherTabs.postMessage("changed");
    refreshMine();
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
    // Stripe may ask the buyer something, which takes as long as the buyer does.
    const slow = action === "confirmPayment" ? null : setTimeout(() => page.answer(SLOW), SLOW_MS);
    const before = phase, asked = unitsNow();
    try {
      page.answer((await actions[action]()) ?? "");
    } catch (error) {
      if (!(error instanceof LastpairError)) reportError(error);
      const sentence = sentenceOf(error, asked);
      page.answer(sentence);
      if (NO_ANSWER.includes(error.code)) toldUnreachable = sentence;
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
    INVALID_STATUS_CHANGE: "This payment has ended already.",
    PAYMENT_NOT_FOUND: "This payment is not there any more.",
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
  if (returned && sale.payment?.provider_reference === returned) sale.confirmed = sale.payment.id;
  returned = null;
  followPayments();
  draw();
}

/** Take what changed of what the buyer holds and has bought by an action, and tell the other tabs. */
function takeMine(changes) {
  mineVersion++;
  const purchases = [...sale.purchases, ...sale.refunded];
  sale.takeMine({ holds: sale.holds, purchases, payment: sale.payment, ...changes }, clock.now());
  followPayments();
  otherTabs.postMessage("changed");
  drawNow();
}

/** Follow the payments of the buyer, if there are any. */
async function followPayments() {
  if (!payments || ![...sale.purchases, ...sale.refunded].some(({ payment_id: id }) => id)) return;
  paying ??= import("./paying.js").then(({ Paying }) => new Paying(sale, {
    dropId: drop.id, buyer, buying, onPayment: takePayment, onGap: () => refreshMine(),
  }));
  (await paying).follow();
}

/** Take what was told of a payment. What ended it changes purchases and stock as well, so that is read. */
function takePayment(told) {
  if (sale.payment?.id !== told.id || !isOpen(told)) return refreshMine();
  sale.takePayment({ ...sale.payment, ...told }, clock.now());
  draw();
}

/** Show Stripe's form for the payment of this client secret, or none. */
async function showStripeForm(clientSecret) {
  if (!clientSecret && !stripe) return;
  stripe ??= loadStripeForm();
  const form = await stripe, secretNow = sale.payment?.client_secret;
  if (!form) return;
  if (secretNow && clientSecret === secretNow) form.show(clientSecret);
  else if (!secretNow) form.hide();
}

async function loadStripeForm() {
  try {
    const { StripeForm } = await import("./stripe.js"), form = await StripeForm.load(payments.stripeKey, page.paymentForm);
    page.answer("");
    return form;
  } catch {
    page.answer("The payment form does not load. Check your connection: this page goes on trying.");
    setTimeout(() => { stripe = null; }, FORM_RETRY_MS); // then the next drawing tries again
    return null;
  }
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
  if (sale.unpaid && sale.unpaid !== toldUnpaid) {
    page.say(unpaidText(sale));
    if (sale.unpaid.why === "expired") setTimeout(refreshMine, EXPIRED_MS);
  }
  toldUnpaid = sale.unpaid;
  const phaseNow = phaseAt(sale, now);
  if (phaseNow !== phase && phase !== null) settledAt = drawnAt;
  const focused = document.activeElement;
  const view = viewOf(phaseNow, { sale, chosen, units: unitsNow(), now, holdSeconds, payments });
  page.draw(view, { sale, phase: phaseNow, chosen, now, holdSeconds, isBusy });
  showStripeForm(view.stripe);
  if (phase === "paying" && ["bought", "refunded"].includes(phaseNow)) page.sayTitle();
  if (phaseNow !== phase && PHASES_OF_DROP.includes(phaseNow) && !isBusy) {
    if (PHASES_OF_DROP.includes(phase) || (phase && TAKEN_BACK.includes(phaseNow))) page.say(`${view.pill[1]}.`);
  }
  if (focused.disabled || focused.closest("[hidden]")) page.focusButton(); // what had the focus is gone
  phase = phaseNow;
  const wasLate = isLate, { from, until } = view.clock ?? {};
  isLate = Boolean(until) && Date.parse(until) - now <= LATE_MS;
  if (isLate && !wasLate && now - Date.parse(from) > SETTLE_MS) page.say("30 seconds left to pay.");
}

/** Tell what the buyer can no longer have of what was chosen, if it is so since there were this many. */
function tellFewer(unitsBefore) {
  const gone = forgetSoldOut(), units = unitsNow();
  if (phaseAt(sale, clock.now()) !== "onSale") return;
  if (gone) page.answer(`${gone} has just sold out. Choose ${wordsFor(sale.drop).another}.`);
  else if (units < unitsBefore) page.answer(`Only ${number(units)} can be reserved now.`);
}

const query = new URLSearchParams(location.search);
let returned = query.get("redirect_status") === "succeeded" ? query.get("payment_intent") : null; // from the buyer's bank
if (payments && query.has("payment_intent")) history.replaceState(history.state, "", location.pathname);
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
    if (status !== "live") return;
    page.takeBack(toldUnreachable); // it is so no more
    refreshMine();
  },
});
otherTabs.addEventListener("message", () => refreshMine());
setInterval(draw, 1000);
