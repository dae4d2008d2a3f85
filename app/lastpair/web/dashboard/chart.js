// Charts of the stock over time, as SVG. They are made by hand, because a sale is a step line of at most a few hundred points:
// a library would weigh more than the page, and a canvas could neither take the colours of the style sheet nor be read by keys.

import { make, makeSvg, setAttribute, setText } from "./dom.js";
import { formatCompact, formatNumber, formatTime } from "./format.js";

const SPARK_WIDTH = 144, SPARK_HEIGHT = 40;
const MIN_SPAN_MS = 10_000, MIN_OVER_SPAN_MS = 500, LEFT = 48, TOP = 16, BOTTOM = 24, MARGIN_SHARE = 0.1;
const COMPACT_FROM = 1_000_000; // with more digits the labels of the axis of units have no room
const SECOND_MS = 1000, MINUTE_MS = 60_000, DAY_MS = 86_400_000;
const NICE_STEPS_MS = [
  ...[10, 20, 50, 100, 200, 500],
  ...[1, 2, 5, 10, 15, 20, 30].map((seconds) => seconds * SECOND_MS),
  ...[1, 2, 5, 10, 15, 20, 30, 60, 120, 180, 240, 360, 480, 720].map((minutes) => minutes * MINUTE_MS),
  ...[1, 2, 7].map((days) => days * DAY_MS),
];
const HOURS = { hour: "numeric", minute: "2-digit" }, SECONDS = { minute: "2-digit", second: "2-digit" };
const PRECISE = new Intl.DateTimeFormat(undefined, { ...HOURS, ...SECONDS, fractionalSecondDigits: 2 });
// The labels of the axis of time, for steps from `ms` on, and the room that one takes.
const LABELS = [
  { ms: 0, px: 56, fields: { ...SECONDS, fractionalSecondDigits: 2 } },
  { ms: 100, px: 48, fields: { ...SECONDS, fractionalSecondDigits: 1 } },
  { ms: SECOND_MS, px: 72, fields: { ...HOURS, ...SECONDS } },
  { ms: MINUTE_MS, px: 60, fields: HOURS },
  { ms: DAY_MS, px: 48, fields: { month: "short", day: "numeric" } },
].map(({ fields, ...label }) => ({ ...label, format: new Intl.DateTimeFormat(undefined, fields) }));

/** A step line through the points: at each `x` it jumps to `y`, and it goes on to `end`. */
function steps(points, x, y, end) {
  const line = [];
  let lastX = null, lastY = null;
  points.forEach((point, place) => {
    const nextX = x(point.at).toFixed(1), nextY = y(point).toFixed(1);
    if (place === 0) line.push(`M${nextX} ${nextY}`);
    else if (nextY !== lastY) line.push(nextX === lastX ? `V${nextY}` : `H${nextX}V${nextY}`);
    if (nextY !== lastY) [lastX, lastY] = [nextX, nextY];
  });
  return `${line.join("")}H${end.toFixed(1)}`;
}

/** The small chart of a row. It has no axes; the numbers stand beside it. */
export class Spark {
  #held = makeSvg("path", { class: "held-area" });
  #sold = makeSvg("path", { class: "sold-area" });
  #line = makeSvg("path", { class: "sold-line" });

  constructor(svg) {
    svg.append(this.#held, this.#sold, this.#line);
  }

  render(points, now) {
    const from = points[0].at, span = Math.max(now - from, MIN_SPAN_MS);
    const total = Math.max(1, ...points.map(({ sold, held, left }) => sold + held + left));
    const x = (at) => (SPARK_WIDTH * (at - from)) / span;
    const y = (units) => SPARK_HEIGHT - ((SPARK_HEIGHT - 2) * units) / total;
    const area = (line) => `${line}V${SPARK_HEIGHT}H0Z`;
    const sold = steps(points, x, (point) => y(point.sold), x(now));
    setAttribute(this.#held, "d", area(steps(points, x, (point) => y(point.sold + point.held), x(now))));
    setAttribute(this.#sold, "d", area(sold));
    setAttribute(this.#line, "d", sold);
  }
}

/** The large chart: axes, what is left, held and sold, and the figures of a moment, which pointer or arrow keys choose. */
export class Chart {
  #points = [];
  #from = 0;
  #to = 0; // where the line ends
  #end = 0; // where the axis ends
  #endText = "now";
  #seenFrom = 0; // what is older is an estimate
  #chosen = null; // the place of the point whose figures are shown
  #parts = Object.fromEntries(["left-area", "held-area", "sold-area", "sold-line", "total-line", "seen-line", "cross"].map((name) =>
    [name, makeSvg("path", { class: name })]));
  #grid = makeSvg("g", { class: "grid" });
  #dot = makeSvg("circle", { class: "dot", r: 4 });
  #estimate = makeSvg("text", { class: "estimate", x: LEFT, y: TOP - 6 });
  #svg = makeSvg("svg", { "aria-hidden": "true" }, this.#grid, ...Object.values(this.#parts), this.#dot, this.#estimate);
  #tip = make("div", { class: "tip", hidden: true });
  #figures = ["left", "held", "sold"].map((name) => make("b", { "data-name": name }));

  constructor(element) {
    this.element = element;
    const rows = this.#figures.map((figure) =>
      make("div", {}, make("i", { class: `key ${figure.dataset.name}` }), `${figure.dataset.name} `, figure));
    this.#tip.append(make("div", { class: "quiet" }), ...rows);
    element.append(this.#svg, this.#tip);
    new ResizeObserver(() => this.#draw()).observe(element);
    element.addEventListener("pointermove", (event) => this.#choose(this.#placeAt(event)));
    element.addEventListener("pointerleave", () => this.#choose(null));
    element.addEventListener("blur", () => this.#choose(null));
    element.addEventListener("keydown", (event) => this.#onKey(event));
  }

  /**
   * Draw the points from shortly before the first change on: up to now, or, of a sale that is over, until shortly after the last
   * change, so that the sale fills the chart however long it took. What is older than `seenFrom` is marked as an estimate.
   */
  render(points, now, isOver, seenFrom = points[0].at) {
    const changes = points.filter(({ sold, held }, n) => n > 0 && (sold !== points[n - 1].sold || held !== points[n - 1].held));
    const first = changes[0]?.at ?? points[0].at, last = isOver && changes.length > 0 ? changes.at(-1).at : now;
    const minSpan = isOver ? MIN_OVER_SPAN_MS : MIN_SPAN_MS, margin = MARGIN_SHARE * Math.max(last - first, minSpan);
    this.#from = Math.max(points[0].at, first - margin);
    this.#to = Math.min(now, last + margin);
    this.#end = Math.max(this.#to, this.#from + (isOver ? 2 * margin : minSpan));
    const begin = points.findLastIndex(({ at }) => at <= this.#from);
    this.#points = [{ ...points[begin], at: this.#from }, ...points.slice(begin + 1).filter(({ at }) => at <= this.#to)];
    this.#endText = this.#end === now && !isOver ? "now" : "";
    this.#seenFrom = seenFrom;
    this.#draw();
    if (this.#chosen !== null) return; // the label has the figures of the chosen moment
    const { sold, held, left } = points.at(-1);
    const text = `${sold} sold, ${held} held, ${left} left now`;
    const estimate = this.#estimateText ? ` ${this.#estimateText}.` : "";
    this.element.ariaLabel = `Stock since ${formatTime(this.#from)}: ${text}.${estimate} Arrow keys read earlier moments.`;
  }

  /** Which part of the chart is an estimate, if any is. */
  get #estimateText() {
    if (this.#from >= this.#seenFrom) return "";
    return this.#seenFrom < this.#to ? `Estimate before ${formatTime(this.#seenFrom)}` : "Estimate";
  }

  #placeAt({ clientX }) {
    const { left } = this.element.getBoundingClientRect();
    const at = this.#from + ((clientX - left - LEFT) / this.#width) * (this.#end - this.#from);
    return Math.max(0, this.#points.findLastIndex((point) => point.at <= at));
  }

  #onKey(event) {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") this.#choose(null);
    if (!move || this.#points.length === 0) return;
    event.preventDefault();
    const last = this.#points.length - 1;
    this.#choose(Math.min(last, Math.max(0, (this.#chosen ?? last + 1) + move)));
    const { at, sold, held, left } = this.#points[this.#chosen];
    this.element.ariaLabel = `${this.#textOf(at)}: ${sold} sold, ${held} held, ${left} left`;
  }

  #choose(place) {
    this.#chosen = place;
    this.#draw();
  }

  /** The distance of the labels of time, so that they have room, and the width of one. */
  get #scale() {
    const fits = (stepMs) => ((this.#end - this.#from) / stepMs) * (labelOf(stepMs).px + 8) <= this.#width;
    const stepMs = NICE_STEPS_MS.find(fits) ?? NICE_STEPS_MS.at(-1);
    return { stepMs, px: labelOf(stepMs).px };
  }

  #textOf(at) {
    const time = this.#scale.stepMs < SECOND_MS ? PRECISE.format(at) : formatTime(at);
    return at < this.#seenFrom ? `${time}, estimate` : time;
  }

  get #width() {
    return this.element.clientWidth - LEFT;
  }

  #draw() {
    const width = this.element.clientWidth, height = this.element.clientHeight, points = this.#points;
    if (width === 0 || points.length === 0) return; // the chart is hidden
    setAttribute(this.#svg, "viewBox", `0 0 ${width} ${height}`);
    const most = Math.max(1, ...points.map(({ sold, held, left }) => sold + held + left));
    const unit = niceUnit(most), top = Math.ceil(most / unit) * unit;
    const x = (at) => LEFT + ((at - this.#from) / (this.#end - this.#from)) * this.#width;
    const y = (units) => height - BOTTOM - (units / top) * (height - BOTTOM - TOP);
    this.#drawGrid(x, y, unit, top, width, height);
    const line = (units) => steps(points, x, (point) => y(units(point)), x(this.#to));
    const area = (path) => `${path}V${y(0)}H${LEFT}Z`;
    const sold = line((point) => point.sold), total = line((point) => point.sold + point.held + point.left);
    const held = line((point) => point.sold + point.held);
    const paths = { "left-area": area(total), "held-area": area(held), "sold-area": area(sold), "sold-line": sold,
      "total-line": total };
    for (const [name, path] of Object.entries(paths)) setAttribute(this.#parts[name], "d", path);
    const isPart = this.#from < this.#seenFrom && this.#seenFrom < this.#to;
    setAttribute(this.#parts["seen-line"], "d", isPart ? `M${x(this.#seenFrom).toFixed(1)} ${TOP}V${y(0)}` : "");
    setText(this.#estimate, this.#estimateText);
    this.#drawChosen(x, y, width, height);
  }

  #drawGrid(x, y, unit, top, width, height) {
    const lines = [], format = top < COMPACT_FROM ? formatNumber : formatCompact;
    for (let units = 0; units <= top; units += unit) {
      const label = makeSvg("text", { x: LEFT - 8, y: y(units) + 4, "text-anchor": "end" }, format(units));
      lines.push(makeSvg("path", { d: `M${LEFT} ${y(units)}H${width}` }), label);
    }
    const { stepMs, px } = this.#scale, zoneMs = new Date(this.#from).getTimezoneOffset() * MINUTE_MS;
    const first = Math.ceil((this.#from - zoneMs) / stepMs) * stepMs + zoneMs;
    const isLong = this.#end - this.#from > DAY_MS, room = px / 2 + (this.#endText ? 32 : 0);
    for (let at = first; at <= this.#end; at += stepMs) {
      if (x(at) > width - room) continue;
      const label = labelOf(isLong && (at - zoneMs) % DAY_MS === 0 ? DAY_MS : stepMs); // at midnight it is the day
      lines.push(makeSvg("text", { x: x(at), y: height - 4, "text-anchor": "middle" }, label.format.format(at)));
    }
    lines.push(makeSvg("text", { x: width, y: height - 4, "text-anchor": "end" }, this.#endText));
    this.#grid.replaceChildren(...lines);
  }

  #drawChosen(x, y, width, height) {
    const point = this.#points[this.#chosen] ?? this.#points.at(-1), isChosen = this.#chosen !== null;
    const at = x(isChosen ? point.at : this.#to);
    setAttribute(this.#dot, "cx", at.toFixed(1));
    setAttribute(this.#dot, "cy", y(point.sold).toFixed(1));
    setAttribute(this.#parts.cross, "d", isChosen ? `M${at.toFixed(1)} ${TOP}V${height - BOTTOM}` : "");
    this.#tip.hidden = !isChosen;
    if (!isChosen) return;
    setText(this.#tip.firstChild, this.#textOf(point.at));
    for (const figure of this.#figures) setText(figure, formatNumber(point[figure.dataset.name]));
    const isRight = at > width * 0.6;
    this.#tip.style.setProperty("left", isRight ? "auto" : `${at + 12}px`);
    this.#tip.style.setProperty("right", isRight ? `${width - at + 12}px` : "auto");
  }
}

/** How to write a moment on an axis whose labels have this distance. */
function labelOf(stepMs) {
  return LABELS.findLast(({ ms }) => ms <= stepMs);
}

/** The distance of the grid's lines: 1, 2 or 5 times a power of ten, so that there are about five. */
function niceUnit(most) {
  const power = 10 ** Math.floor(Math.log10(most / 4 || 1));
  return Math.max(1, [1, 2, 5, 10].find((times) => most / (times * power) <= 5) * power);
}

/** Bars, one for each value, the first part of each in another colour: `[{ label, value, part }]`. */
export function drawBars(element, bars, label) {
  const width = element.clientWidth, height = element.clientHeight, most = Math.max(1, ...bars.map(({ value }) => value));
  if (width === 0) return;
  const gap = bars.length > 20 ? 1 : 6, barWidth = (width - gap * (bars.length - 1)) / Math.max(bars.length, 4);
  const isRoomy = barWidth + gap > 7 * formatNumber(most).length + 6, every = Math.ceil(40 / (barWidth + gap));
  const parts = bars.flatMap(({ label: name, value, part }, place) => {
    const x = place * (barWidth + gap), full = ((height - 44) * value) / most, filled = ((height - 44) * part) / most;
    const middle = { x: x + barWidth / 2, "text-anchor": "middle" }, base = height - 24;
    return [
      makeSvg("rect", { class: "rest", x, y: base - full, width: barWidth, height: full, rx: 2 }),
      makeSvg("rect", { class: "part", x, y: base - Math.max(filled, part ? 3 : 0), width: barWidth,
        height: Math.max(filled, part ? 3 : 0), rx: 1 }),
      ...(isRoomy || value === most ? [makeSvg("text", { ...middle, class: "value", y: base - full - 6 }, formatNumber(value))] : []),
      ...(place % every === 0 ? [makeSvg("text", { ...middle, y: height - 6 }, name)] : []),
    ];
  });
  element.replaceChildren(makeSvg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, ...parts));
}

/** Draw a line through values at equal distances of time. The strip of totals shows it. */
export function drawPace(svg, values) {
  const most = Math.max(1, ...values), width = 180, height = 48;
  const points = values.map((value, place) =>
    `${((place / (values.length - 1)) * width).toFixed(1)} ${(height - 1 - (value / most) * (height - 3)).toFixed(1)}`);
  const line = `M${points.join("L")}`;
  if (!svg.children.length) svg.append(makeSvg("path", { class: "sold-area" }), makeSvg("path", { class: "sold-line" }));
  const [area, stroke] = svg.children;
  setAttribute(area, "d", `${line}L${width} ${height}L0 ${height}Z`);
  setAttribute(stroke, "d", line);
}
