// Stripe's form, in which the buyer pays on this page. This file and Stripe's script are loaded when there is something to pay.

const SCRIPT = "https://js.stripe.com/v3/"; // Stripe allows no copy of it
const isDark = matchMedia("(prefers-color-scheme: dark)");

export class StripeForm {
  #stripe;
  #elements = null;
  #clientSecret = null;

  /** The form in this element, with Stripe's publishable key. Rejects if Stripe's script does not come. */
  static async load(key, element) {
    await loadScript();
    return new StripeForm(window.Stripe(key), element);
  }

  constructor(stripe, element) {
    this.#stripe = stripe;
    this.element = element;
    isDark.addEventListener("change", () => this.#elements?.update({ appearance: appearance() }));
  }

  /** Show the form for this payment. It stays as it is if it is shown already, so that nothing typed is lost. */
  show(clientSecret) {
    if (clientSecret === this.#clientSecret) return;
    this.hide();
    this.#clientSecret = clientSecret;
    this.#elements = this.#stripe.elements({ clientSecret, appearance: appearance() });
    this.#elements.create("payment").mount(this.element);
  }

  hide() {
    this.#elements?.getElement("payment")?.destroy();
    this.#elements = this.#clientSecret = null;
  }

  /** Pay. Returns a sentence if that did not work. The bank of the buyer may take over the window, and leads back here. */
  async confirm() {
    const { error } = await this.#stripe.confirmPayment({
      elements: this.#elements, redirect: "if_required", confirmParams: { return_url: location.origin + location.pathname },
    });
    return error ? (error.message ?? "The payment did not work. Try again.") : "";
  }
}

function loadScript() {
  return new Promise((resolve, reject) => {
    const script = Object.assign(document.createElement("script"), { src: SCRIPT, onload: resolve, onerror: reject });
    document.head.append(script);
  });
}

/** The form in the colours of the page. */
function appearance() {
  const style = getComputedStyle(document.documentElement), of = (name) => style.getPropertyValue(name).trim();
  return {
    theme: isDark.matches ? "night" : "stripe",
    variables: {
      colorPrimary: of("--accent"), colorBackground: of("--surface"), colorText: of("--ink"), colorDanger: of("--warn"),
      borderRadius: of("--round"), fontFamily: "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
    },
  };
}
