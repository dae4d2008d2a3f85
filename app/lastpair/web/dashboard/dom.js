// Small helpers for the document. Each one changes only what differs, because the browser lays out again whatever is written.

export const $ = (id) => document.getElementById(id);

/** A copy of the content of a <template>. */
export const cloneOf = (id) => $(id).content.cloneNode(true);

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

/** An element with these attributes and children. Children are text or elements, so a name is never taken for HTML. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** The same for SVG. */
export function makeSvg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Show on a bar how many units are sold and held. The bar is one element with one gradient, so no gap opens while it moves. */
export function setBar(bar, { sold, held, left }) {
  const total = sold + held + left || 1;
  bar.style.setProperty("--sold", `${(100 * sold) / total}%`);
  bar.style.setProperty("--held", `${(100 * (sold + held)) / total}%`);
  setAttribute(bar, "aria-label", `${sold} sold, ${held} held, ${left} left of ${sold + held + left}`);
}
