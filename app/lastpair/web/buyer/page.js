// Draws a view into index.html. Elements are changed in place and never rebuilt, so that the focus stays where it is.

import { counted, money, number, parts, stockWords, time, wordsFor, zone } from "./format.js";
import { endsText, factsOf, priceText } from "./views.js";

const LATE_MS = 30_000;
const LONG_NAME = 8; // characters that a narrow size has place for
const CLOCK_PARTS = ["days", "hours", "minutes", "seconds"];
const CONNECTIONS = { connecting: "Connecting", live: "Live", reconnecting: "Connection lost, trying again" };

const $ = (id) => document.getElementById(id);

export class Page {
  #imageUrl = null;
  #isLost = false;

  /**
   * Calls act(action) when a button is pressed, choose(variantId) when a size is chosen, and setUnits(units) when the buyer says
   * how many, which is NaN while nothing is typed.
   */
  constructor({ act, choose, setUnits }) {
    for (const button of [$("main"), $("second"), $("longer")]) {
      button.addEventListener("click", () => act(button.dataset.action));
      button.addEventListener("keydown", (event) => {
        if (event.repeat && event.key === "Enter") event.preventDefault(); // a key held down on Reserve must not press Pay
      });
    }
    $("sizes").addEventListener("change", ({ target }) => choose(target.value));
    $("units").addEventListener("input", () => setUnits($("units").valueAsNumber));
    $("units").addEventListener("blur", () => setUnits(NaN));
    for (const [id, step] of [["fewer", -1], ["more", 1]]) {
      $(id).addEventListener("click", () => {
        if ($(id).ariaDisabled !== "true") setUnits(($("units").valueAsNumber || 0) + step);
        this.say(`${$("units").value}. ${$("quantity-hint").textContent}`);
      });
    }
    $("image").addEventListener("error", () => this.#showPicture(false)); // a page without a picture is better than a broken one
    $("image").addEventListener("load", () => $("picture").classList.add("is-loaded"));
  }

  draw(view, { sale, phase, chosen, now, holdSeconds, isBusy }) {
    const { drop } = sale;
    document.body.dataset.phase = phase;
    this.#setImage(drop);
    setText($("name"), drop.name);
    document.title = drop.name;
    setText($("price"), priceText(drop, chosen));
    setText($("ends"), endsText(drop, phase, now));
    setText($("pill"), view.pill[1]);
    $("pill").dataset.kind = view.pill[0];

    $("countdown").hidden = !view.countdown;
    if (view.countdown) {
      setText($("opens-at"), `${time(drop.starts_at, now)}, ${zone(now)}`);
      drawClock($("countdown").querySelector(".clock"), Date.parse(drop.starts_at) - now);
    }
    $("panel").hidden = !view.title;
    setText($("panel-title"), view.title ?? "");
    setText($("panel-text"), view.text ?? "");
    $("ring").toggleAttribute("hidden", !view.clock);
    if (view.clock) drawRing($("ring"), view.clock, now);
    drawButton($("longer"), view.longer, isBusy);
    $("sizes").hidden = !view.sizes || drop.variants.length === 0;
    if (!$("sizes").hidden) drawSizes($("sizes").querySelector(".sizes"), drop, chosen, view.sizes, phase === "onSale");
    $("quantity").hidden = !view.quantity;
    if (view.quantity) drawQuantity(view.quantity);
    $("stock").hidden = !view.stock;
    if (view.stock) drawStock(sale);
    drawRows($("receipt"), view.rows ?? []);
    drawRows($("facts"), view.facts ? factsOf(drop, { phase, holdSeconds, now }) : []);

    $("payment").hidden = !view.stripe;
    drawLink($("leave"), view.link);
    drawButton($("main"), view.main, isBusy);
    drawButton($("second"), view.second, isBusy);
    setText($("note"), view.note ?? "");
    $("note").hidden = !view.note;
  }

  /** Show an error beside the buttons, and speak it; an empty text takes the last one away. */
  answer(text) {
    setText($("answer"), text);
    $("answer").hidden = !text;
    if (text) this.say(text);
  }

  /** Take an error away, if it is the one that is shown. */
  takeBack(text) {
    if ($("answer").textContent === text) this.answer("");
  }

  /** Tell a screen reader. The same text is spoken again if another one came between. */
  say(text) {
    setText($("said"), text);
  }

  /** Say the title of the panel, as a sentence. */
  sayTitle() {
    this.say($("panel-title").textContent.replace(/[^.]$/, "$&."));
  }

  /** Show the status of the stream, and speak of a lost connection. While the page is hidden nobody sees it. */
  showConnection(status) {
    const text = CONNECTIONS[status];
    if (!text) return;
    if (status === "reconnecting" && !this.#isLost) this.say("Connection lost. What you see may be old.");
    if (status === "live" && this.#isLost) this.say("Connected again.");
    if (status !== "connecting") this.#isLost = status === "reconnecting";
    $("connection").dataset.state = status;
    setText($("connection"), text);
  }

  /** The element that Stripe's form is in. */
  get paymentForm() {
    return $("payment");
  }

  /** Move the focus to the first button or link that there is; if none, to the name of the drop, from where one reads on. */
  focusButton() {
    const buttons = [$("leave"), $("main"), $("second")];
    (buttons.find(({ hidden }) => !hidden) ?? $("name")).focus();
  }

  focusSize() {
    const sizes = [...$("sizes").querySelectorAll("input:not(:disabled)")];
    (sizes.find(({ checked }) => checked) ?? sizes[0])?.focus();
  }

  #setImage({ image_url: url, name }) {
    $("image").alt = name;
    if (url === this.#imageUrl) return;
    this.#imageUrl = url;
    this.#showPicture(Boolean(url));
    $("picture").classList.remove("is-loaded");
    if (url) $("image").src = url;
    else $("image").removeAttribute("src");
  }

  #showPicture(isShown) {
    $("picture").hidden = !isShown;
    document.body.classList.toggle("has-picture", isShown);
  }
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function drawButton(button, [text, action] = [], isBusy) {
  button.hidden = !text;
  if (!text) return;
  setText(button, text);
  button.dataset.action = action;
  button.ariaDisabled = String(isBusy); // not `disabled`, because that would lose the keyboard focus
}

/** Draw a link out of the page. A shop's frame stays as it is, because other pages may refuse to be in one. */
function drawLink(link, [text, url] = []) {
  link.hidden = !text;
  if (!text) return link.removeAttribute("href");
  setText(link, text);
  if (link.href !== url) link.href = url;
  link.target = window.parent === window ? "" : "_blank";
  link.rel = "noopener";
}

function drawClock(clock, milliseconds) {
  const values = parts(milliseconds), shown = CLOCK_PARTS.slice(values.days ? 0 : 1, values.days ? 3 : 4);
  if (clock.children.length !== shown.length) clock.replaceChildren(...shown.map(() => make("div", make("b"), make("small"))));
  shown.forEach((part, index) => {
    const [value, name] = clock.children[index].children;
    setText(value, String(values[part]).padStart(2, "0"));
    setText(name, values[part] === 1 ? part.slice(0, -1) : part);
  });
}

function drawRing(ring, { from, until }, now) {
  const leftMs = Math.max(0, Date.parse(until) - now), wholeMs = Date.parse(until) - Date.parse(from);
  const { days, hours, minutes, seconds } = parts(leftMs), allMinutes = (days * 24 + hours) * 60 + minutes;
  const [, run, text] = ring.children;
  setText(text, allMinutes < 100 ? `${allMinutes}:${String(seconds).padStart(2, "0")}` : `${Math.round(allMinutes / 60)} h`);
  ring.ariaLabel = `${counted(allMinutes, "minute")} ${counted(seconds, "second")} left`;
  run.style.strokeDashoffset = String(100 - Math.min(100, (100 * leftMs) / wholeMs));
  run.classList.toggle("late", leftMs < LATE_MS);
}

function drawSizes(list, drop, chosen, kind, canChoose) {
  const shown = drop.variants.map(({ id }) => id).join();
  if (list.dataset.shown !== shown) {
    list.dataset.shown = shown;
    setText($("sizes").querySelector("legend"), wordsFor(drop).legend);
    list.classList.toggle("long", drop.variants.some(({ name }) => name.length > LONG_NAME));
    list.replaceChildren(...drop.variants.map(({ id }) => {
      const input = Object.assign(document.createElement("input"), { type: "radio", name: "size", value: id });
      return make("label", input, make("bdi"), make("small"), make("small"));
    }));
  }
  const lowest = Math.min(...drop.variants.map(({ price }) => price)); // which is above them
  drop.variants.forEach((variant, index) => {
    const label = list.children[index], [input, name, stock, price] = label.children;
    const available = variant.available_stock;
    setText(name, variant.name);
    setText(stock, kind === "planned" ? `${number(variant.total_stock)} in stock` : stockWords(available));
    setText(price, variant.price === lowest ? "" : money(variant.price, drop.currency));
    label.classList.toggle("few", kind === "live" && available > 0 && available <= 2);
    label.classList.toggle("gone", kind === "live" && available === 0);
    input.disabled = !canChoose || available === 0;
    input.checked = variant.id === chosen && !input.disabled;
  });
}

function drawQuantity({ units, most, hint }) {
  const input = $("units");
  input.max = String(most);
  const isBeingTyped = input === document.activeElement && input.value === "";
  if (input.valueAsNumber !== units && !isBeingTyped) input.value = String(units);
  $("fewer").ariaDisabled = String(units <= 1); // not `disabled`, because that would lose the keyboard focus
  $("more").ariaDisabled = String(units >= most);
  setText($("quantity-hint"), hint);
}

function drawStock(sale) {
  const { drop: { total_stock: total, available_stock: available }, sold, held } = sale;
  const bar = $("stock").querySelector(".bar");
  bar.style.setProperty("--sold", `${(100 * (sold ?? 0)) / total}%`);
  bar.style.setProperty("--held", `${sold === null ? 0 : (100 * (total - available)) / total}%`);
  bar.ariaLabel = sold === null
    ? `${number(available)} left of ${number(total)}`
    : `${number(sold)} sold, ${number(held)} held, ${number(available)} left of ${number(total)}`;
  setText($("stock-held"), held ? `${number(held)} held by others` : "");
  setText($("stock-left"), number(available));
  setText($("stock-of"), `left of ${number(total)}`);
}

function drawRows(section, rows) {
  section.hidden = rows.length === 0;
  const list = section.querySelector("dl"), texts = rows.flat();
  if (list.children.length !== texts.length) {
    list.replaceChildren(...rows.flatMap(() => [make("dt"), make("dd")]));
  }
  texts.forEach((text, index) => setText(list.children[index], text));
}

function make(name, ...children) {
  const element = document.createElement(name);
  element.append(...children);
  return element;
}
