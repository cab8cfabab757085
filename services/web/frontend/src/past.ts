// Keeps a page of the past fresh: it asks for itself again, and takes over what is new.

import { Idiomorph } from "idiomorph";
import { setServerTime, startAges } from "./age";

export const REFRESHED = "gleaner:refreshed";

const part = document.querySelector<HTMLElement>("[data-refresh]");
const { at } = document.body.dataset;
let asked = Date.now();

/** The page of a node counts its ages itself. */
if (at) {
  setServerTime(at);
  startAges();
}

function show(link: string, text: string): void {
  const pill = document.getElementById("link");
  if (!at || !pill) return;
  pill.dataset["link"] = link;
  (pill.querySelector("span") as HTMLElement).textContent = text;
}

async function refresh(old: HTMLElement): Promise<void> {
  asked = Date.now();
  try {
    const response = await fetch(location.href, { cache: "no-store" });
    if (!response.ok) throw new Error(String(response.status));
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const fresh = page.getElementById(old.id);
    if (!fresh) throw new Error("another page");
    const now = page.body.dataset["at"];
    if (at && now) setServerTime(now);
    Idiomorph.morph(old, fresh, {
      morphStyle: "outerHTML",
      ignoreActiveValue: true,
      callbacks: {
        // What somebody opened, fills in or has drawn stays.
        beforeAttributeUpdated: (name: string) => name !== "open",
        beforeNodeMorphed: (node: Node) =>
          !(node instanceof Element && node.matches("form, [data-drawn]")),
      },
    });
    document.dispatchEvent(new Event(REFRESHED));
    const clock = page.querySelector("#link span")?.textContent ?? "";
    if (at) show("live", clock);
  } catch {
    show("lost", "cannot be reached, so this is old");
  }
}

if (part) {
  const everyMs = 1000 * Number(part.dataset["refresh"]);
  const look = () => {
    if (!document.hidden && Date.now() - asked >= everyMs) void refresh(part);
  };
  setInterval(look, Math.min(everyMs, 1000));
  document.addEventListener("visibilitychange", look);
}
