// Formats times and durations for people.

const TIME = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const DATE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** A <time> element. It shows the time of day, or the date and the time when the date is not today. */
export function timeElement(at) {
  const element = document.createElement("time"), date = new Date(at);
  element.dateTime = date.toISOString();
  element.textContent = (date.toDateString() === new Date().toDateString() ? TIME : DATE).format(date);
  return element;
}

/** A duration in its two largest units: "3 d 4 h", "5 min 6 s". */
export function formatDuration(milliseconds) {
  const total = Math.max(0, Math.ceil(milliseconds / 1000));
  const [days, hours, minutes] = [Math.floor(total / 86400), Math.floor(total / 3600) % 24, Math.floor(total / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${total % 60} s` : `${total} s`;
}
