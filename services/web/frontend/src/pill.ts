// The pill at the top: whether the page is live, and how old what it shows is.

import { serverTime } from "./age";
import type { Link } from "./stream";
import { age, clock } from "./texts";

/** The stream may be live while the recorder does not answer. */
type Shown = Link | "unanswered";

/** Keep the pill current; `at` tells from when the data are. */
export function startPill(at: () => string | null): { link(now: Shown): void } {
  const lost = document.getElementById("lost") as HTMLElement;
  const pill = document.getElementById("link") as HTMLElement;
  let link: Shown = "connecting";

  function show(): void {
    pill.dataset["link"] = link;
    const text = pill.querySelector("span") as HTMLElement;
    const from = at();
    const seconds = from ? (serverTime() - Date.parse(from)) / 1000 : 0;
    if (link === "live") text.textContent = `live · ${age(seconds)}`;
    else if (!from) text.textContent = link === "lost" ? "cannot be reached" : "connecting…";
    else text.textContent = `not live: as of ${clock(from)} UTC, ${age(seconds)} ago`;
    const isLost = link === "lost";
    document.body.classList.toggle("not-live", isLost);
    if (lost.hidden !== isLost) return;
    lost.hidden = !isLost;
    const what = from ? `What you see is from ${clock(from)} UTC` : "What you see is from when it loaded";
    lost.textContent = `This page has lost Gleaner. ${what} and may no longer be true.`;
  }

  show();
  setInterval(show, 1000);
  return {
    link(now) {
      link = now;
      show();
    },
  };
}
