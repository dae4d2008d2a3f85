// The two dialogs of the page: the drawer with the tools, and a question with fields that is made for each use.

import { $, make } from "./dom.js";

/** Close a dialog when its backdrop or a button with data-close is pressed. Escape closes it by itself. */
export function closeable(dialog) {
  dialog.addEventListener("click", ({ target }) => {
    if (target === dialog || target.closest("[data-close]")) dialog.close();
  });
}

/**
 * When the form is submitted, do the work and show its result in the form. The button is off meanwhile. Returns nothing; the
 * work returns the text to show, or throws a Refusal.
 */
export function onSubmit(form, work) {
  const button = form.querySelector("button[type=submit]"), line = form.querySelector(".answer");
  const say = (text, isRefusal = false) => {
    line.textContent = text ?? "";
    line.classList.toggle("refusal", isRefusal);
  };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.ariaDisabled === "true") return;
    button.ariaDisabled = "true"; // not `disabled`, because that would lose the keyboard focus
    say("");
    try {
      say(await work(form));
    } catch (refusal) {
      say(refusal.message, true);
    } finally {
      button.ariaDisabled = "false";
    }
  });
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
