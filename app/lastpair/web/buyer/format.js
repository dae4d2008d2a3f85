// Formats money, numbers, times and durations for people, and names what is sold.

const NUMBER = new Intl.NumberFormat(), TIME = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const DATE = new Intl.DateTimeFormat(
  undefined, { weekday: "short", day: "numeric", month: "short", hour: "numeric", minute: "2-digit" },
);
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const ZONE = new Intl.DateTimeFormat("en", { timeZoneName: "shortOffset" });
const FEW = 10, LAST = 2;
const PLAIN_SIZE = /^([\d.,/½ ]+|[0-9X]*[SML])$/i; // 42, 8.5, XL

/** 1284 as "1,284". */
export const number = (value) => NUMBER.format(value);

/** A count and what is counted: "1 minute", "2 minutes". */
export const counted = (count, what) => `${number(count)} ${what}${count === 1 ? "" : "s"}`;

/** An amount of money, with the decimals that its currency has. */
export const money = (amount, currency) => new Intl.NumberFormat(undefined, { style: "currency", currency }).format(amount);

/** The time of day, or day and time if it is another day than today, in the viewer's time zone. */
export function time(at, now) {
  const date = new Date(at);
  return (date.toDateString() === new Date(now).toDateString() ? TIME : DATE).format(date);
}

/** The time of day, or only the day if it is another one than today. */
export function day(at, now) {
  const date = new Date(at);
  return (date.toDateString() === new Date(now).toDateString() ? TIME : DAY).format(date);
}

/** The viewer's time zone, such as "UTC+1". */
export function zone(at) {
  const offset = ZONE.formatToParts(new Date(at)).find(({ type }) => type === "timeZoneName").value;
  return offset.replace("GMT", "UTC");
}

/** What is left of a time: "14:22", then "2 h 10 min", then "3 d 4 h". */
export function left(milliseconds) {
  const { days, hours, minutes, seconds } = parts(milliseconds);
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return `${minutes}:${String(seconds).padStart(2, "0")}`;
}

/** A duration in whole days, hours, minutes and seconds, rounded up. */
export function parts(milliseconds) {
  const total = Math.max(0, Math.ceil(milliseconds / 1000));
  return {
    days: Math.floor(total / 86400),
    hours: Math.floor(total / 3600) % 24,
    minutes: Math.floor(total / 60) % 60,
    seconds: total % 60,
  };
}

/** How long something lasts, in words: "90 seconds", "2 minutes", "1 hour". */
export function duration(seconds) {
  const [size, unit] = [[3600, "hour"], [60, "minute"]].find(([size]) => seconds % size === 0) ?? [1, "second"];
  return `${number(seconds / size)} ${unit}${seconds === size ? "" : "s"}`;
}

/** What buyers are told about the stock of a size. */
export function stockWords(available) {
  if (available === 0) return "Sold out";
  if (available <= LAST) return `${available} left`;
  return available < FEW ? "A few" : "Plenty";
}

/** What the variants of a drop are called: sizes, or options if they are tiers and the like. */
export function wordsFor({ variants }) {
  const areSizes = variants.every(({ name }) => PLAIN_SIZE.test(name) || /^[A-Z]{2,3} ?[\d.,/½]+$/.test(name));
  return areSizes
    ? { legend: "Size", one: "a size", another: "another size" }
    : { legend: "Option", one: "an option", another: "another option" };
}

/** What a size is called in a sentence: "size 42", but "Front row" as it is. Without a size it is the drop's name. */
export function nameOf(drop, variantId) {
  const variant = drop.variants.find(({ id }) => id === variantId);
  if (!variant) return drop.name;
  return PLAIN_SIZE.test(variant.name) ? `size ${variant.name}` : variant.name;
}

/** What is held or bought in a sentence: "size 42", or "2 × size 42". */
export function thingOf(drop, { variant_id: variantId, qty }) {
  return `${qty > 1 ? `${number(qty)} × ` : ""}${nameOf(drop, variantId)}`;
}

/** The text with a capital at its beginning. */
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
