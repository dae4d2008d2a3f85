// What each phase shows, in words. A view is data, which page.js draws. To add a phase (a waitlist, a draw), add its
// view here and its condition to phaseAt in sale.js.
//
// A view has:
//   pill: [kind, text]; kind is "live" (on sale), "soon", or "over"
//   title, text: the panel; without a title there is none
//   clock: { from, until }, the time that runs in the panel
//   longer: a button in the panel
//   sizes: "planned" (the stock of each), "live" (what is left, to choose from), or nothing
//   quantity: { units, most, hint }, from 1 to `most`, if the buyer may choose how many
//   stock, facts, countdown: whether to show the bar, the facts, the time until the start
//   rows: pairs of a name and a value
//   stripe: the client secret of the payment, if Stripe's form is to be shown
//   link: [text, address], in the place of the main button
//   main, second: the buttons below
//   note: a line under the main button
// A button is [text, action]; an action is a method of Actions in main.js.

import { capital, day, duration, left, money, nameOf, number, thingOf, time, wordsFor } from "./format.js";

/**
 * The view of a phase. `chosen` is the id of the chosen size, or null; `units` how many the buyer wants; `holdSeconds` how long a
 * hold lasts by default; `payments` what the page knows of the payment provider, or null without one.
 */
export function viewOf(phase, { sale, chosen, units, now, holdSeconds, payments }) {
  const { drop } = sale;
  return VIEWS[phase]({ sale, drop, chosen, units, now, holdSeconds: drop.hold_seconds ?? holdSeconds, payments });
}

const VIEWS = {
  soon: ({ drop, now }) => ({
    pill: ["soon", `Opens ${day(drop.starts_at, now)}`],
    countdown: true,
    sizes: "planned",
    facts: true,
  }),

  onSale: ({ sale, drop, chosen, units, holdSeconds }) => ({
    pill: ["live", "On sale"],
    ...whatHappened(sale),
    sizes: "live",
    quantity: quantityOf(sale, chosen, units),
    stock: true,
    facts: true,
    main: [reserveText(sale, chosen, units), "reserve"],
    note: noteOf(drop, chosen, units, holdSeconds),
  }),

  held: ({ sale, drop, payments }) => {
    const [hold] = sale.holds, isSeveral = hold.qty > 1, price = money(hold.unit_price ?? drop.price, currencyOf(hold, drop));
    return {
      pill: ["live", "Held for you"],
      title: `${capital(thingOf(drop, hold))} ${isSeveral ? "are" : "is"} held for you`,
      text: `Pay in this time, or ${isSeveral ? "they go" : "it goes"} to somebody else.`,
      clock: { from: hold.createdAt, until: hold.expires_at },
      longer: mayExtend(hold, drop) ? [`Add ${duration(drop.extension_seconds)}`, "extend"] : undefined,
      rows: [
        [hold.variant_id ? capital(nameOf(drop, hold.variant_id)) : "One", price],
        ...unitsRow(hold),
        ["Total", amountOf(hold, drop)],
      ],
      main: [hold.amount === 0 ? "Get it for free" : `${payments ? "Go on to pay" : "Pay"} ${amountOf(hold, drop)}`, "purchase"],
      second: ["Let it go", "release"],
    };
  },

  paying: ({ sale, drop, now, payments }) => {
    const { payment, unpaidPurchase: purchase } = sale, amount = money(payment.amount, payment.currency);
    const isConfirmed = sale.confirmed === payment.id, others = payment.amount - purchase.amount;
    const way = wayToPay(payment, amount, payments);
    return {
      pill: ["soon", isConfirmed ? "Being paid" : "To be paid"],
      ...payingPanel(sale, { amount, now, payments }),
      clock: { from: payment.createdAt, until: payment.expires_at },
      rows: [
        [capital(thingOf(drop, purchase)), amountOf(purchase, drop)],
        ...(others > 0 ? [["The rest of your basket", money(others, payment.currency)]] : []),
        ...(way.isMissing ? [["Payment", payment.id]] : []),
        ["Total", amount],
      ],
      ...(isConfirmed ? {} : { ...way, second: ["Cancel", "cancelPayment"] }),
    };
  },

  bought: ({ sale, drop, now }) => {
    const { bought } = sale, variant = drop.variants.find(({ id }) => id === bought.variant_id);
    const units = bought.qty - (bought.refunded_qty ?? 0);
    return {
      pill: ["live", "Yours"],
      title: units > 1 ? "They’re yours." : "It’s yours.",
      text: "Keep the order number until you have it.",
      rows: [
        ...(variant ? [[wordsFor(drop).legend, variant.name]] : []),
        ...unitsRow(bought),
        ["Bought", time(bought.createdAt, now)],
        ["Paid", amountOf(bought, drop)],
        ...refundRows(bought, drop),
        ["Order", bought.id],
      ],
      second: anotherOne(sale, now),
    };
  },

  refunded: ({ sale, drop, now }) => {
    const [refunded] = sale.refunded;
    return {
      pill: ["over", "Refunded"],
      title: `You get ${money(refunded.refunded_amount ?? refunded.amount, currencyOf(refunded, drop))} back.`,
      text: `${capital(thingOf(drop, refunded))} went back. Your bank may take some days to show the money.`,
      rows: [
        ["Bought", time(refunded.createdAt, now)],
        ["Paid", amountOf(refunded, drop)],
        ...(refunded.refunded_at ? [["Refunded", time(refunded.refunded_at, now)]] : []),
        ["Order", refunded.id],
      ],
      second: anotherOne(sale, now),
    };
  },

  soldOut: ({ sale, drop }) => ({
    pill: ["over", "Sold out"],
    title: drop.total_stock === 1 ? "It is gone." : `All ${number(drop.total_stock)} are gone.`,
    text: [lapsedText(sale), unpaidText(sale), heldText(sale.held)].filter(Boolean).join(" "),
    sizes: "live",
    stock: true,
  }),

  paused: ({ drop }) => ({
    pill: ["soon", "Paused"],
    title: "The sale is paused.",
    text: "It goes on here as soon as the seller says so. Nothing is lost meanwhile.",
    sizes: "live",
    stock: true,
    facts: Boolean(drop.ends_at),
  }),

  ended: ({ drop, now }) => ({
    pill: ["over", "Ended"],
    title: "This drop is over.",
    text: drop.ends_at ? `It ended ${time(drop.ends_at, now)}.` : "It has ended.",
  }),

  cancelled: ({ sale }) => ({
    pill: ["over", "Cancelled"],
    title: "This drop was cancelled.",
    text: cancelledText(sale),
  }),

  removed: () => ({
    pill: ["over", "Not for sale"],
    title: "This drop is not for sale now.",
    text: "The seller took it back. If it returns, it is at this address.",
  }),
};

/** What limits and times a buyer should know. */
export function factsOf(drop, { phase, holdSeconds, now }) {
  return [
    ...(phase === "soon" ? [["In all", number(drop.total_stock)]] : []),
    ["Each buyer", eachBuyer(drop)],
    ...(drop.ends_at ? [["Sale ends", time(drop.ends_at, now)]] : []),
    ["A hold lasts", duration(drop.hold_seconds ?? holdSeconds)],
    ...(drop.extension_seconds ? [["If you need longer", `${duration(drop.extension_seconds)} more, once`]] : []),
    ["Changed your mind", "Let it go, nothing is charged"],
  ];
}

/** The time until the end of a sale that runs, or nothing. */
export function endsText(drop, phase, now) {
  const isRunning = ["onSale", "held", "paused"].includes(phase), leftMs = Date.parse(drop.ends_at) - now;
  return isRunning && leftMs > 0 ? `Ends in ${left(leftMs)}` : ""; // what is held can be paid after the end
}

/** The price of the chosen size, or the range of prices. */
export function priceText(drop, chosen) {
  const variant = drop.variants.find(({ id }) => id === chosen);
  const prices = drop.variants.map(({ price }) => price), lowest = Math.min(...prices);
  if (variant || prices.length === 0) return money(variant?.price ?? drop.price, drop.currency);
  return `${lowest < Math.max(...prices) ? "From " : ""}${money(lowest, drop.currency)}`;
}

function reserveText({ drop, lapsed }, chosen, units) {
  if (!isChosen(drop, chosen)) return `Choose ${wordsFor(drop).one}`;
  const what = chosen === null ? (units > 1 ? ` ${number(units)}` : "") : ` ${thingOf(drop, { variant_id: chosen, qty: units })}`;
  return `Reserve${what}${lapsed?.variant_id === chosen ? " again" : ""}`;
}

/** How many the buyer wants, if the stock and the drop's limit allow more than one. */
function quantityOf(sale, chosen, units) {
  const most = sale.mostOf(chosen), isOffered = Math.min(sale.allowed, sale.drop.available_stock) > 1;
  return isOffered ? { units, most, hint: quantityHint(sale, chosen, units) } : undefined;
}

/** Why the buyer can have no more. */
function quantityHint(sale, chosen, units) {
  const { drop, units: had, allowed } = sale, left = sale.leftOf(chosen);
  if (allowed > left) return units === left && isChosen(drop, chosen) ? leftText(drop, chosen).slice(0, -1) : "";
  return had > 0 ? `You have ${number(had)} of up to ${number(drop.limit_per_user)}` : `Up to ${number(allowed)} for each buyer`;
}

function noteOf(drop, chosen, units, holdSeconds) {
  const { price } = drop.variants.find(({ id }) => id === chosen) ?? drop, lasts = duration(holdSeconds);
  if (units === 1 || !isChosen(drop, chosen)) return `Held for you for ${lasts} while you pay.`;
  return `${money(price * units, drop.currency)} in all, held for you for ${lasts}.`;
}

/** What the buyer of a payment is told. */
function payingPanel({ payment, confirmed, drop, unpaidPurchase: purchase }, { amount, now, payments }) {
  const until = time(payment.expires_at, now), thing = thingOf(drop, purchase);
  if (confirmed === payment.id) {
    return { title: "Your payment is on its way.", text: "This page says so as soon as it has arrived." };
  }
  const title = `Pay ${amount} until ${until}`, isReady = payment.client_secret || payment.url;
  if (payments?.isProviderTold && !isReady) {
    return payment.status === "failed"
      ? { title: "The payment cannot be made now.", text: `Nothing was charged. It is kept for you until ${until}.` }
      : { title, text: "The payment is being made ready. This takes a moment." };
  }
  if (payment.status === "failed") {
    return {
      title: "The payment was declined, try again.", text: `Nothing was charged. Until ${until}, ${thing} is kept for you.`,
    };
  }
  if (wayToPay(payment, amount, payments).isMissing) {
    return { title, text: "Pay in the shop that led you here. This page says so as soon as it is paid." };
  }
  return { title, text: `Until then ${thing} is kept for you. After that it goes to somebody else.` };
}

/** The link or the form with which the payment can be made, if there is one. */
function wayToPay({ provider, url, client_secret: secret }, amount, payments) {
  if (/^https?:\/\//i.test(url ?? "")) return { link: [`Pay ${amount}`, url] };
  if (provider === "stripe" && secret && payments?.stripeKey) {
    return { stripe: secret, main: [`Pay ${amount}`, "confirmPayment"] };
  }
  return { isMissing: true };
}

function anotherOne(sale, now) {
  const { drop } = sale, mayReserve = statusIsLive(drop, now) && !drop.paused_at && sale.mostOf(null) > 0;
  return mayReserve ? ["Reserve another", "wantMore"] : undefined;
}

/** What came back of a purchase, if a part of it did. */
function refundRows({ refunded_qty: units, refunded_amount: amount, ...row }, drop) {
  if (!units && !amount) return [];
  const back = money(amount ?? 0, currencyOf(row, drop));
  return [["Refunded", units ? `${back} for ${number(units)} of ${number(row.qty)}` : back]];
}

function cancelledText({ purchases, refunded }) {
  if (refunded.length > 0) return "You get back what you paid. Your bank may take some days to show the money.";
  if (purchases.length > 0) return "You have bought from it. The seller will tell you about your money.";
  return "Nothing is held any more, and nothing was charged for a hold.";
}

function isChosen({ variants }, chosen) {
  return chosen !== null || variants.length === 0;
}

/** Whether the time of a hold can be prolonged. That can be done once. */
function mayExtend(hold, drop) {
  return drop.extension_seconds !== null && hold.extended_at === null;
}

function unitsRow({ qty }) {
  return qty > 1 ? [["Units", number(qty)]] : [];
}

/** The panel of a sale that goes on after the buyer lost or let go a hold. */
function whatHappened(sale) {
  const { drop, lapsed, released, unpaid } = sale;
  if (unpaid) return { title: unpaidText(sale), text: leftText(drop, unpaid.purchase.variant_id) };
  if (lapsed) return { title: lapsedText(sale), text: `Nothing was charged. ${leftText(drop, lapsed.variant_id)}` };
  if (released) {
    return {
      title: `You let ${thingOf(drop, released)} go.`,
      text: `Nothing was charged. ${leftText(drop, released.variant_id)}`,
    };
  }
  return {};
}

/** What became of a purchase that was not paid. */
export function unpaidText({ drop, unpaid }) {
  if (!unpaid) return null;
  const thing = thingOf(drop, unpaid.purchase);
  return {
    expired: `Time ran out before it was paid, so ${thing} went back.`,
    cancelled: `You cancelled, so ${thing} went back. Nothing was charged.`,
    ended: `The payment was cancelled, so ${thing} went back.`,
  }[unpaid.why];
}

export function lapsedText({ drop, lapsed }) {
  return lapsed && `Time ran out, so we let ${thingOf(drop, lapsed)} go.`;
}

function leftText(drop, variantId) {
  const variant = drop.variants.find(({ id }) => id === variantId), available = (variant ?? drop).available_stock;
  const where = variant ? ` of ${nameOf(drop, variantId)}` : "";
  if (available === 0) return `None is left${where} now.`;
  return available === 1 ? `1 is left${where}.` : `${number(available)} are left${where}.`;
}

function heldText(held) {
  if (held === null) return "";
  if (held === 0) return "Every one is paid for, so none comes back.";
  const some = held === 1 ? "1 is held and not yet paid for." : `${number(held)} are held and not yet paid for.`;
  return `${some} If one comes back, you can reserve it here.`;
}

function eachBuyer({ limit_per_user: limit }) {
  if (limit === null) return "As many as you like";
  return limit === 1 ? "One" : `Up to ${number(limit)}`;
}

function amountOf(row, drop) {
  return money(row.amount ?? drop.price, currencyOf(row, drop));
}

function currencyOf(row, drop) {
  return row.currency ?? drop.currency;
}

function statusIsLive(drop, now) {
  return drop.status === "live" && !(Date.parse(drop.ends_at ?? "") <= now);
}
