// `<gl-age datetime="…">`: how long ago something was, by the server's clock; counts on by itself.
// With `data-unit="hours"` in hours with a decimal.

import { age, hours } from "./texts";

let offsetMs = -Infinity;
const shown = new Set<Age>();

/** Take the server's clock: ages are its time minus an instant, whatever this machine's shows. */
export function setServerTime(at: string): void {
  const offset = Date.parse(at) - performance.now();
  // The quickest message tells best; a clock that was set anew makes a large difference.
  offsetMs = offset < offsetMs - 30_000 ? offset : Math.max(offset, offsetMs);
}

export function serverTime(): number {
  return performance.now() + offsetMs;
}

class Age extends HTMLElement {
  static observedAttributes = ["datetime"];

  connectedCallback(): void {
    shown.add(this);
    this.update();
  }

  disconnectedCallback(): void {
    shown.delete(this);
  }

  attributeChangedCallback(): void {
    this.update();
  }

  update(): void {
    const at = this.getAttribute("datetime");
    if (!at || offsetMs === -Infinity) return;
    const seconds = (serverTime() - Date.parse(at)) / 1000;
    const text = this.dataset["unit"] === "hours" ? hours(seconds) : age(seconds);
    if (this.textContent !== text) this.textContent = text;
  }
}

/** Let all ages count on. */
export function startAges(): void {
  customElements.define("gl-age", Age);
  setInterval(() => shown.forEach((one) => one.update()), 1000);
}
