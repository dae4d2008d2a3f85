// What each phase shows, in words. A view is data, which page.js draws. To add a phase (a payment, a waitlist, a draw), add its
// view here and its condition to phaseAt in sale.js.
//
// A view has:
//   pill: [kind, text]; kind is "live" (on sale), "soon", or "over"
//   title, text: the panel; without a title there is none
//   hold: the hold whose time runs in the panel
//   sizes: "planned" (the stock of each), "live" (what is left, to choose from), or nothing
//   stock, facts, countdown: whether to show the bar, the facts, the time until the start
//   rows: pairs of a name and a value
//   main, second: the buttons, each [text, action]; an action is a method of Actions in main.js
//   note: a line under the main button

import { capital, day, duration, left, money, nameOf, number, time, wordsFor } from "./format.js";

/** The view of a phase. `chosen` is the id of the chosen size, or null; `holdSeconds` how long a hold lasts by default. */
export function viewOf(phase, { sale, chosen, now, holdSeconds }) {
  return VIEWS[phase]({ sale, drop: sale.drop, chosen, now, holdSeconds: sale.drop.hold_seconds ?? holdSeconds });
}

const VIEWS = {
  soon: ({ drop, now }) => ({
    pill: ["soon", `Opens ${day(drop.starts_at, now)}`],
    countdown: true,
    sizes: "planned",
    facts: true,
  }),

  onSale: ({ sale, drop, chosen, holdSeconds }) => ({
    pill: ["live", "On sale"],
    ...whatHappened(sale),
    sizes: "live",
    stock: true,
    facts: true,
    main: [reserveText(sale, chosen), "reserve"],
    note: `Held for you for ${duration(holdSeconds)} while you pay.`,
  }),

  held: ({ sale, drop }) => {
    const [hold] = sale.holds, what = nameOf(drop, hold.variant_id);
    const isSeveral = hold.qty > 1;
    return {
      pill: ["live", "Held for you"],
      title: capital(`${isSeveral ? `${number(hold.qty)} × ` : ""}${what} ${isSeveral ? "are" : "is"} held for you`),
      text: `Pay in this time, or ${isSeveral ? "they go" : "it goes"} to somebody else.`,
      hold,
      rows: [
        [hold.variant_id ? capital(what) : "One", money(hold.unit_price ?? drop.price, hold.currency ?? drop.currency)],
        ...(isSeveral ? [["Units", number(hold.qty)]] : []),
        ["Total", amountOf(hold, drop)],
      ],
      main: [hold.amount === 0 ? "Get it for free" : `Pay ${amountOf(hold, drop)}`, "purchase"],
      second: ["Let it go", "release"],
    };
  },

  bought: ({ sale, drop, now }) => {
    const [bought] = sale.purchases, variant = drop.variants.find(({ id }) => id === bought.variant_id);
    const mayReserve = statusIsLive(drop, now) && drop.available_stock > 0 && !drop.paused_at && sale.mayHaveMore;
    return {
      pill: ["live", "Yours"],
      title: bought.qty > 1 ? "They’re yours." : "It’s yours.",
      text: "Keep the order number until you have it.",
      rows: [
        ...(variant ? [[wordsFor(drop).legend, variant.name]] : []),
        ...(bought.qty > 1 ? [["Units", number(bought.qty)]] : []),
        ["Bought", time(bought.createdAt, now)],
        ["Paid", amountOf(bought, drop)],
        ["Order", bought.id],
      ],
      second: mayReserve ? ["Reserve another", "wantMore"] : undefined,
    };
  },

  soldOut: ({ sale, drop }) => ({
    pill: ["over", "Sold out"],
    title: drop.total_stock === 1 ? "It is gone." : `All ${number(drop.total_stock)} are gone.`,
    text: [lapsedText(sale), heldText(sale.held)].filter(Boolean).join(" "),
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
    text: sale.purchases.length > 0
      ? "You have bought from it. The seller will tell you about your money."
      : "Nothing is held any more, and nothing was charged for a hold.",
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
    ["Changed your mind", "Let it go, nothing is charged"],
  ];
}

/** The time until the end of a sale that runs, or nothing. */
export function endsText(drop, phase, now) {
  const isRunning = ["onSale", "held", "paused"].includes(phase);
  return isRunning && drop.ends_at ? `Ends in ${left(Date.parse(drop.ends_at) - now)}` : "";
}

/** The price of the chosen size, or the range of prices. */
export function priceText(drop, chosen) {
  const variant = drop.variants.find(({ id }) => id === chosen);
  const prices = drop.variants.map(({ price }) => price), lowest = Math.min(...prices);
  if (variant || prices.length === 0) return money(variant?.price ?? drop.price, drop.currency);
  return `${lowest < Math.max(...prices) ? "From " : ""}${money(lowest, drop.currency)}`;
}

function reserveText({ drop, lapsed }, chosen) {
  if (drop.variants.length === 0) return lapsed ? "Reserve again" : "Reserve";
  if (chosen === null) return `Choose ${wordsFor(drop).one}`;
  return `Reserve ${nameOf(drop, chosen)}${lapsed?.variant_id === chosen ? " again" : ""}`;
}

/** The panel of a sale that goes on after the buyer lost or let go a hold. */
function whatHappened(sale) {
  const { drop, lapsed, released } = sale;
  if (lapsed) return { title: lapsedText(sale), text: `Nothing was charged. ${leftText(drop, lapsed.variant_id)}` };
  if (released) {
    return {
      title: `You let ${nameOf(drop, released.variant_id)} go.`,
      text: `Nothing was charged. ${leftText(drop, released.variant_id)}`,
    };
  }
  return {};
}

function lapsedText({ drop, lapsed }) {
  return lapsed && `Time ran out, so we let ${nameOf(drop, lapsed.variant_id)} go.`;
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
  return money(row.amount ?? drop.price, row.currency ?? drop.currency);
}

function statusIsLive(drop, now) {
  return drop.status === "live" && !(Date.parse(drop.ends_at ?? "") <= now);
}
