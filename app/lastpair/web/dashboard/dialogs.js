// The two dialogs of the page: the drawer with the tools, and a question with fields that is made for each use.

import { $, make } from "./dom.js";
import { capitalized } from "./format.js";

const REASONS = /; (?=[a-z_]+(?:\.\w+)*: )/; // a refusal may name several fields

/** Close a dialog when its backdrop or a button with data-close is pressed. Escape closes it by itself. */
export function closeable(dialog) {
  let isPressed = false; // a text that is selected may end on the backdrop, which is no click on it
  dialog.addEventListener("pointerdown", ({ target }) => {
    isPressed = target === dialog;
  });
  dialog.addEventListener("click", ({ target }) => {
    if ((target === dialog && isPressed) || target.closest("[data-close]")) dialog.close();
  });
}

/**
 * When the form is submitted, do the work and show its result in the form. The button is off meanwhile. Returns nothing; the
 * work returns the text to show, or throws a Refusal. What that says of a field is shown beside it: `fieldAt(path)` finds the
 * field that the API calls so.
 */
export function onSubmit(form, work, fieldAt = (path) => form.elements.namedItem(path)) {
  const button = form.querySelector("button[type=submit]"), line = form.querySelector(".answer");
  const say = (text, isRefusal = false) => {
    line.textContent = text ?? "";
    line.classList.toggle("refusal", isRefusal);
  };
  // The browser cannot show what it finds wrong within a closed <details>.
  form.addEventListener("invalid", ({ target }) => openAround(target), true);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.ariaDisabled === "true") return;
    button.ariaDisabled = "true"; // not `disabled`, because that would lose the keyboard focus
    say("");
    removeMarks(form);
    try {
      say(await work(form));
    } catch (refusal) {
      say(markFields(form, refusal.message, fieldAt), true);
    } finally {
      button.ariaDisabled = "false";
    }
  });
}

/** Show beside each field what a refusal says of it. Returns what is to be said of the form. */
function markFields(form, message, fieldAt) {
  const others = [];
  for (const reason of message.split(REASONS)) {
    const [, path, text] = reason.match(/^([a-z_]+(?:\.\w+)*): (.*)$/s) ?? [], field = path && fieldAt(path);
    if (field) mark(field, `${form.id}-${path}`, text);
    else others.push(reason);
  }
  form.querySelector("[aria-invalid]")?.focus();
  return others.join("; ") || "Not done. The marked fields say why.";
}

function mark(field, id, text) {
  // It is hidden from screen readers where it stands, because there it would be a part of the label.
  const note = make("small", { id, class: "refusal", "aria-hidden": "true" }, `${capitalized(text)}.`);
  field.ariaInvalid = "true";
  field.setAttribute("aria-describedby", id);
  openAround(field);
  (field.closest(".size-line") ?? field.parentElement).append(note);
}

function removeMarks(form) {
  for (const note of form.querySelectorAll("small.refusal")) note.remove();
  for (const field of form.querySelectorAll("[aria-invalid]")) {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-describedby");
  }
}

function openAround(field) {
  const details = field.closest("details");
  if (details) details.open = true;
}

/**
 * Ask a question in a dialog. `fields` are `{ name, label, ...attributes }`, or with `options` a choice. `work(values)` does what
 * was asked for; the dialog closes when it succeeds, and otherwise shows the refusal.
 */
export function ask({ title, text, fields = [], submit, isGrave = false }, work) {
  const dialog = $("ask");
  const form = make("form", { class: "form", novalidate: false },
    make("h2", { id: "ask-title" }, title),
    ...(text ? [make("p", { class: "hint" }, text)] : []),
    ...fields.map(fieldOf),
    make("p", { class: "answer", role: "status" }),
    make("div", { class: "buttons" },
      make("button", { type: "button", class: "btn", "data-close": true }, "Close"),
      make("button", { type: "submit", class: `btn main${isGrave ? " grave" : ""}` }, submit)));
  dialog.replaceChildren(form);
  onSubmit(form, async () => {
    await work(Object.fromEntries(fields.map(({ name, type }) => {
      const field = form.elements[name];
      return [name, type === "checkbox" ? field.checked : field.value];
    })));
    dialog.close();
  });
  dialog.showModal();
  dialog.addEventListener("close", () => {
    if (!dialog.open) dialog.replaceChildren(); // what was typed may be a secret
  }, { once: true });
}

function fieldOf({ label, options, type, ...attributes }) {
  if (options) {
    const choices = options.map(({ value, text }) => new Option(text, value));
    return make("label", {}, label, make("select", attributes, ...choices));
  }
  const input = make("input", { type: type ?? "text", ...attributes });
  return type === "checkbox" ? make("label", { class: "check" }, input, label) : make("label", {}, label, input);
}
