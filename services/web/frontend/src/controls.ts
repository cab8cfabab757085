// Pause, resume, drain, undrain: the page's forms, sent without leaving the page.

import type { Answer, Change, Problem } from "./view";

const TOKEN = "gleaner-token";

/** Send the page's forms to the API, and show what came of it. */
export function startControls(root: string): void {
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form instanceof HTMLFormElement && form.matches("form.control")) {
      event.preventDefault();
      void send(root, form);
    }
  });
  document.addEventListener("toggle", onToggle, true);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") closeAsks(null, true);
  });
  document.addEventListener("click", (event) => {
    if (event.target instanceof Element) closeAsks(event.target.closest("details.ask"), false);
  });
}

function onToggle(event: Event): void {
  const details = event.target;
  if (!(details instanceof HTMLDetailsElement && details.open && details.matches(".ask"))) return;
  closeAsks(details, false);
  const token = details.querySelector<HTMLInputElement>("input[name=token]");
  if (token && !token.value) token.value = sessionStorage.getItem(TOKEN) ?? "";
  details.querySelector<HTMLInputElement>("input:not([type=hidden])")?.focus();
}

function closeAsks(except: Element | null, focus: boolean): void {
  for (const details of document.querySelectorAll<HTMLDetailsElement>("details.ask[open]")) {
    if (details === except) continue;
    details.open = false;
    if (focus) details.querySelector("summary")?.focus();
  }
}

async function send(root: string, form: HTMLFormElement): Promise<void> {
  const fields = new FormData(form);
  const text = (name: string) => String(fields.get(name) ?? "");
  const token = text("token");
  const wish: Change = {
    node: text("node") || null,
    entry: text("entry") || null,
    reason: text("reason"),
    duration_seconds: Number(text("duration_seconds")) || null,
    by: null,
  };
  say("Asking the scheduler…", null);
  form.setAttribute("aria-busy", "true");
  try {
    const response = await fetch(`${root}api/${text("kind")}`, {
      method: "POST",
      headers: {
        "Content-Type": "application/json",
        ...(token && { Authorization: `Bearer ${token}` }),
      },
      body: JSON.stringify(wish),
    });
    const body: Answer | Problem = await response.json();
    if (response.ok) {
      if (token) sessionStorage.setItem(TOKEN, token);
      form.reset();
      closeAsks(null, false);
    }
    say("text" in body ? body.text : describe(body.detail), response.ok);
  } catch {
    say("Gleaner could not be reached: nothing was changed.", false);
  } finally {
    form.removeAttribute("aria-busy");
  }
}

function describe(detail: unknown): string {
  return typeof detail === "string" ? detail : "The request was not understood.";
}

function say(text: string, isGood: boolean | null): void {
  const place = document.getElementById("answer");
  if (!place) return;
  place.hidden = false;
  place.className = `banner ${isGood === null ? "note" : isGood ? "good" : "bad"}`;
  place.textContent = text;
}
