// Formats numbers, money, times and durations for people, in the language and the time zone of the browser.

const NUMBER = new Intl.NumberFormat();
const RATE = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const TIME = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const DATE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const ROUND_FROM = 100, COMPACT_FROM = 10_000_000;
const COMPACT = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const moneyFormats = new Map();

export const capitalized = (text) => text[0].toUpperCase() + text.slice(1);

export const formatNumber = (value) => NUMBER.format(value);

/** "500K", "21.5M". */
export const formatCompact = (value) => COMPACT.format(value);

/** A number that has little room: from COMPACT_FROM on "21.5M". */
export const formatShort = (value) => (value < COMPACT_FROM ? NUMBER : COMPACT).format(value);

/** An amount of money, with the decimals that its currency has. */
export const formatMoney = (amount, currency) => moneyFormat(currency, {}).format(amount);

/** A sum of money, from COMPACT_FROM on "$21.5M". One that is `rounded` has no decimals from ROUND_FROM on. */
export function formatSum(amount, currency, { rounded = true } = {}) {
  if (amount >= COMPACT_FROM) return moneyFormat(currency, { notation: "compact", maximumFractionDigits: 1 }).format(amount);
  return moneyFormat(currency, rounded && amount >= ROUND_FROM ? { maximumFractionDigits: 0 } : {}).format(amount);
}

function moneyFormat(currency, options) {
  const key = `${currency} ${JSON.stringify(options)}`;
  if (!moneyFormats.has(key)) {
    moneyFormats.set(key, new Intl.NumberFormat(undefined, { style: "currency", currency, ...options }));
  }
  return moneyFormats.get(key);
}

/** A rate: "12 / s", or "48 / min" when it is less than one a second, or nothing. */
export function formatRate(perSecond) {
  if (perSecond >= 1) return `${perSecond < 10 ? RATE.format(perSecond) : formatNumber(Math.round(perSecond))} / s`;
  return perSecond > 0 ? `${formatNumber(Math.max(1, Math.round(60 * perSecond)))} / min` : "";
}

/** The time of day, or the date and the time when the date is not today. */
export function formatTime(at) {
  const date = new Date(at);
  return (date.toDateString() === new Date().toDateString() ? TIME : DATE).format(date);
}

/** A <time> element. */
export function timeElement(at) {
  const element = document.createElement("time");
  element.dateTime = new Date(at).toISOString();
  element.textContent = formatTime(at);
  return element;
}

/** A duration that runs out: "0:42", "14:22", then "2 h 10 min", then "3 d 4 h". */
export function formatCountdown(milliseconds) {
  const total = Math.max(0, Math.ceil(milliseconds / 1000));
  const [days, hours, minutes] = [Math.floor(total / 86400), Math.floor(total / 3600) % 24, Math.floor(total / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  return hours ? `${hours} h ${minutes} min` : `${minutes}:${String(total % 60).padStart(2, "0")}`;
}

/** How long ago something was: "now", "8 s", "4 min", "2 h", "3 d". */
export function formatAge(milliseconds) {
  const seconds = Math.floor(milliseconds / 1000);
  if (seconds < 2) return "now";
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return seconds < 86400 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86400)} d`;
}

/** A length of time that somebody chose: "45 s", "2 min", "1 h". */
export function formatLength(seconds) {
  if (seconds % 3600 === 0) return `${seconds / 3600} h`;
  return seconds % 60 === 0 ? `${seconds / 60} min` : `${seconds} s`;
}

/** How many of something: "1 size", "9 sizes". */
export function formatCount(count, noun) {
  return `${formatNumber(count)} ${noun}${count === 1 ? "" : "s"}`;
}
