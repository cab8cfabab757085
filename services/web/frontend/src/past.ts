// Keeps pages of the past live: what the stream tells to be new is asked for, and taken over.

import { Idiomorph } from "idiomorph";
import { setServerTime, startAges } from "./age";
import { HEARD, type Heard, LINK, placeOf } from "./heard";
import { Part } from "./part";
import { startPill } from "./pill";
import { Rows } from "./rows";
import { followPast } from "./shared";
import type { Link } from "./stream";
import { clock } from "./texts";

/** Without the stream (a proxy that keeps it back) it is asked that often. */
const UNHEARD_MS = 15_000;

const { root = "./", worker = "", only, at = "", place = "" } = document.body.dataset;
const elements = [...document.querySelectorAll<HTMLElement>("[data-part]")];
const names = [...new Set(elements.map((one) => one.dataset["part"] ?? ""))];
const rows = document.getElementById("newer") && new Rows(() => parts[0]?.refresh());
let shownAt = at;
let link: Link = "connecting";

const parts = names.map((name) => {
  const data = elements.find((one) => one.dataset["part"] === name)?.dataset ?? {};
  const address = new URL(location.href);
  address.searchParams.set("part", name);
  // Who turned to older rows is told how many newer ones there are.
  if (rows?.isOlder) address.searchParams.delete("cursor");
  const takes = { take, unanswered: () => show(link), failed: () => show("lost") };
  return new Part(name, data, placeOf(place), () => address.href, takes);
});

/** The page of a node has a pill, and counts ages, by its own script. */
const pill =
  only === undefined && parts.length ? startPill(() => unansweredSince() ?? shownAt) : null;
const unanswered = document.getElementById("unanswered") as HTMLElement;

/** Of the part that shows what is oldest. */
function unansweredSince(): string | null {
  const since = parts.map((part) => part.unansweredSince).filter((one) => one !== null);
  return since.sort()[0] ?? null;
}

function show(now: Link): void {
  const since = unansweredSince();
  const text = since && `History does not answer. What you see of it is from ${clock(since)} UTC.`;
  if (unanswered.textContent !== (text ?? "")) unanswered.textContent = text;
  unanswered.hidden = !text;
  pill?.link(since && now === "live" ? "unanswered" : now);
}

function take(name: string, fresh: Document): void {
  shownAt = fresh.body.dataset["at"] ?? shownAt;
  setServerTime(shownAt);
  show(link);
  if (rows && !rows.take(fresh)) return;
  for (const old of elements) {
    const news = fresh.getElementById(old.id);
    if (old.dataset["part"] !== name || !news) continue;
    Idiomorph.morph(old, news, {
      morphStyle: "outerHTML",
      ignoreActiveValue: true,
      callbacks: {
        // What somebody opened, fills in or has drawn stays.
        beforeAttributeUpdated: (attribute: string) => attribute !== "open",
        beforeNodeMorphed: (node: Node) =>
          !(node instanceof Element && node.matches("form, [data-drawn]")),
      },
    });
  }
  // To draw them anew costs more than all the rest.
  if (fresh.getElementById("chart-data")) document.dispatchEvent(new Event("gleaner:refreshed"));
}

function hear(heard: Heard): void {
  shownAt = heard.at;
  setServerTime(heard.at);
  for (const part of parts) part.hear(heard);
}

function linked(now: Link): void {
  link = now;
  show(now);
}

if (only !== undefined) {
  document.addEventListener(HEARD, (event) => hear((event as CustomEvent<Heard>).detail));
  document.addEventListener(LINK, (event) => linked((event as CustomEvent<Link>).detail));
} else {
  if (at) setServerTime(at);
  startAges();
  if (parts.length) {
    const node = elements.find((one) => one.dataset["now"])?.dataset["node"] ?? null;
    followPast(new URL(`${root}events`, location.href).href, worker, { heard: hear, link: linked }, node);
  }
}
if (rows?.isOlder) parts[0]?.refresh();
setInterval(() => {
  if (link !== "live" && !document.hidden) for (const part of parts) part.refresh();
}, UNHEARD_MS);
