// Takes the page over from the server's HTML with the first snapshot, and keeps it live.

import { html, render } from "lit";
import { serverTime, setServerTime, startAges } from "./age";
import { startControls } from "./controls";
import { type Fleet, fromSnapshot, sorted, take } from "./fleet";
import { answer, cards, evictions, grid, type Where } from "./parts";
import { follow } from "./shared";
import type { Link } from "./stream";
import { age, clock } from "./texts";

const { root = "./", controls = "off", worker = "", only } = document.body.dataset;
const where: Where = { root, controls, only };
const main = document.getElementById("main") as HTMLElement;
const lost = document.getElementById("lost") as HTMLElement;
const pill = document.getElementById("link") as HTMLElement;

let fleet: Fleet | null = null;
let link: Link = "connecting";
let isOurs = false;
let frame = 0;

function draw(): void {
  frame = 0;
  if (!fleet || !takeOver()) return;
  const nodes = sorted(fleet).filter((node) => only === undefined || node.node === only);
  const { overview } = fleet;
  render(
    html`${answer(where, overview)}${only === undefined ? grid(where, overview, nodes) : ""}${cards(where, nodes)}${only === undefined ? evictions(overview, fleet.nodes) : ""}`,
    main,
  );
  main.dataset["live"] = "";
  if (only === undefined) document.title = `${overview.headline} – Gleaner`;
}

/** Replace the server's HTML, but not under the fingers of somebody who fills in a form. */
function takeOver(): boolean {
  if (isOurs) return true;
  if (main.querySelector("form :focus, details.ask[open]")) {
    setTimeout(drawSoon, 500);
    return false;
  }
  const focused = document.activeElement?.closest("a[href]")?.getAttribute("href");
  const [x, y] = [scrollX, scrollY];
  main.replaceChildren();
  isOurs = true;
  queueMicrotask(() => {
    scrollTo(x, y);
    if (focused) main.querySelector<HTMLElement>(`a[href="${CSS.escape(focused)}"]`)?.focus();
  });
  return true;
}

function drawSoon(): void {
  frame ||= requestAnimationFrame(draw);
}

function showLink(): void {
  pill.dataset["link"] = link;
  const text = pill.querySelector("span") as HTMLElement;
  const seconds = fleet ? (serverTime() - Date.parse(fleet.at)) / 1000 : 0;
  if (link === "live") text.textContent = `live · ${age(seconds)}`;
  else if (!fleet) text.textContent = link === "lost" ? "cannot be reached" : "connecting…";
  else text.textContent = `not live: as of ${clock(fleet.at)} UTC, ${age(seconds)} ago`;
  const isLost = link === "lost";
  document.body.classList.toggle("not-live", isLost);
  if (lost.hidden !== isLost) return;
  lost.hidden = !isLost;
  const what = fleet ? `What you see is from ${clock(fleet.at)} UTC` : "What you see is from when it loaded";
  lost.textContent = `This page has lost Gleaner. ${what} and may no longer be true.`;
}

follow(new URL(`${root}events`, location.href).href, worker, {
  snapshot(snapshot) {
    setServerTime(snapshot.at);
    fleet = fromSnapshot(snapshot);
    drawSoon();
  },
  delta(delta) {
    if (!fleet) return;
    setServerTime(delta.at);
    take(fleet, delta);
    drawSoon();
  },
  link(now) {
    link = now;
    showLink();
  },
});
startAges();
startControls(root);
showLink();
setInterval(showLink, 1000);
