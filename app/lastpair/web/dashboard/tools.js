// The drawer of tools: create a drop; in development also start a rush, and act as another buyer.

import { closeable, onSubmit } from "./dialogs.js";
import { $ } from "./dom.js";
import { DropForm } from "./drop-form.js";

/** Show the tools with these forms, and hide the others. */
export function showTools(names) {
  for (const button of document.querySelectorAll("[data-tool]")) button.hidden = !names.includes(button.dataset.tool);
  for (const form of $("tools").querySelectorAll("form")) form.hidden = !names.includes(form.id);
}

/**
 * `users` and `rush` do the work; `findSeller()` says who makes a drop; `clock` is the server's time; `say(text)` tells the
 * outcome.
 */
export function setUpTools({ users, rush, findSeller, clock, say }) {
  const drawer = $("tools");
  closeable(drawer);
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.addEventListener("click", () => {
      drawer.showModal();
      $(button.dataset.tool).querySelector("input, select").focus();
    });
  }
  onSubmit($("user-form"), async (form) => {
    const user = await users.create(form.username.value);
    form.username.value = "";
    return `You act as ${user.username}.`;
  });
  const onCreated = ({ name }) => {
    drawer.close();
    say(`${name} was created.`);
  };
  new DropForm({ findSeller, clock, onCreated });
  onSubmit($("rush-form"), async (form) => {
    await rush.start(Number(form.buyers.value), Number(form.stock.value));
    drawer.close();
  });
}
