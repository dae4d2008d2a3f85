// The drawer of tools: create a drop; in development also start a rush, and act as another buyer.

import { call } from "./api.js";
import { closeable, onSubmit } from "./dialogs.js";
import { $ } from "./dom.js";

const JUST_BEFORE_SECONDS = -1; // so that a drop that starts now has already started when the server receives it

/** Show the tools with these forms, and hide the others. */
export function showTools(names) {
  for (const button of document.querySelectorAll("[data-tool]")) button.hidden = !names.includes(button.dataset.tool);
  for (const form of $("tools").querySelectorAll("form")) form.hidden = !names.includes(form.id);
}

/** `users` and `rush` do the work; `findSeller()` says who makes a drop; `clock` is the server's time. */
export function setUpTools({ users, rush, findSeller, clock }) {
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
  onSubmit($("drop-form"), (form) => createDrop(form, findSeller, clock));
  onSubmit($("rush-form"), async (form) => {
    await rush.start(Number(form.buyers.value), Number(form.stock.value));
    drawer.close();
  });
}

async function createDrop(form, findSeller, clock) {
  const at = (seconds) => new Date(clock() + 1000 * seconds).toISOString();
  const starts = form.starts.value, ends = form.ends.value, stock = Number(form.total_stock.value);
  const sizes = form.sizes.value.split(",").map((name) => name.trim()).filter(Boolean);
  const { drop } = await call("POST", "/drops", {
    user: await findSeller(),
    body: {
      name: form.elements.name.value,
      price: Number(form.price.value),
      currency: form.currency.value.toUpperCase(),
      ...(sizes.length ? { variants: sizes.map((name) => ({ name, total_stock: stock })) } : { total_stock: stock }),
      starts_at: starts === "" ? null : at(Number(starts) || JUST_BEFORE_SECONDS),
      ends_at: ends === "" ? null : at(Number(starts) + Number(ends)),
    },
  });
  return `${drop.name} was created.`;
}
