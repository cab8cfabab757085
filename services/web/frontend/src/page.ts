// Takes the page over from the server's HTML with the first snapshot, and keeps it live.

import { nothing, render } from "lit";
import { setServerTime, startAges } from "./age";
import type { Part, Where } from "./base";
import { type Picture, some } from "./board";
import { cards, type Hour } from "./cards";
import { startControls } from "./controls";
import { fromForm, isEmpty, startFilter, taken } from "./filter";
import { type Fleet, fromSnapshot, sorted, take } from "./fleet";
import { startCopying } from "./free";
import { held } from "./held";
import { HEARD, heardOf, LINK, passOn } from "./heard";
import { LargeGrid } from "./large";
import { startPill } from "./pill";
import { answer, CARDS_MAX, evictions, grid, legend, nodeAnswer, users } from "./parts";
import * as parts from "./parts";
import { follow, followLarge } from "./shared";
import type { Overview } from "./view";

const { root = "./", controls = "off", worker = "", only, size } = document.body.dataset;
const where: Where = { root, controls, only, hasCards: size !== "large" };
const main = document.getElementById("main") as HTMLElement;
const form = document.querySelector<HTMLFormElement>("#filter");
/** The page of a node that nobody has heard of says so; it becomes that node's when it is heard. */
const isUnknown = only !== undefined && !document.querySelector("#part-cards > *");
const HOUR_MS = 60_000;

let fleet: Fleet | null = null;
let picture: Picture | null = null;
let hour: Hour = {};
let filter = fromForm(form);
let large: LargeGrid | null = null;
let isOurs = false;
let frame = 0;

const pill = startPill(() => fleet?.at ?? picture?.at ?? null);

/** Draw into a part of the page, if this page has it; the server's HTML goes with the first time. */
function put(name: string, part: Part): void {
  const place = document.getElementById(`part-${name}`);
  if (!place) return;
  if (!("drawn" in place.dataset)) place.replaceChildren();
  place.dataset["drawn"] = "";
  render(part, place);
}

function draw(): void {
  frame = 0;
  if (!fleet || !takeOver()) return;
  const { overview } = fleet;
  const of = sorted(fleet).filter((node) => only === undefined || node.node === only);
  if (of.length > CARDS_MAX) return location.reload();
  if (only !== undefined && !of.length && isUnknown) return;
  const nodes = only === undefined ? taken(filter, of) : of;
  const name = (node: string) => fleet?.nodes.get(node)?.name ?? node;
  if (only !== undefined) {
    put("answer", of[0] ? nodeAnswer(where, overview, of[0]) : nothing);
  } else {
    put("answer", answer(where, overview, filter));
    put("legend", legend(overview));
    put("grid", grid(where, overview, nodes));
    put("held", parts.held(where, some(held(of))));
    put("users", users(where, overview, some(fleet.users)));
    put("evictions", evictions(overview, name));
    const count = (all: typeof of) => all.reduce((sum, node) => sum + node.gpus.length, 0);
    sayMatches(count(nodes), count(of));
  }
  put("cards", cards(where, nodes, hour));
  sayLive(overview);
}

/** Show what changed in a large fleet: nothing else is looked at. */
function drawLarge(news: Picture): void {
  const known = picture;
  const overview = news.overview ?? known?.overview;
  if (!overview) return;
  const everybody = news.users ?? known?.users ?? some([]);
  const names = news.overview ? news.names : (known?.names ?? {});
  picture = { ...news, overview, users: everybody, names };
  if (overview.nodes <= CARDS_MAX) return location.reload();
  large ??= new LargeGrid(document.getElementById("part-grid") as HTMLElement, where, filter);
  large.show(news.rows, news.fills, news.gone, news.whole);
  if (news.overview) {
    if (takeOver()) drawSummary(picture);
  }
  if (news.held) put("held", parts.held(where, news.held));
  if (news.users || news.overview) put("users", users(where, overview, everybody));
  if (news.rows.length || news.gone.length) sayMatches(large.count.matching, large.count.known);
  sayLive(overview);
}

/** Setting what is as it is would still make the browser look at all styles. */
function sayLive({ headline }: Overview): void {
  if (!("live" in main.dataset)) main.dataset["live"] = "";
  const title = `${headline} – Gleaner`;
  if (only === undefined && document.title !== title) document.title = title;
}

function drawSummary({ overview, names }: Picture): void {
  if (!overview) return;
  put("answer", answer(where, overview, filter));
  put("legend", legend(overview));
  put("evictions", evictions(overview, (node) => names[node] ?? node));
}

function sayMatches(matching: number, known: number): void {
  const place = document.getElementById("matches");
  const text = isEmpty(filter) ? "" : `${matching} of ${known} match`;
  if (place && place.textContent !== text) place.textContent = text;
}

/** Whether the server's HTML may go: not under the fingers of somebody who fills in a form. */
function takeOver(): boolean {
  if (isOurs) return true;
  if (main.querySelector("form.control :focus, details.ask[open]")) {
    setTimeout(drawSoon, 500);
    return false;
  }
  const focused = document.activeElement?.closest("a[href]")?.getAttribute("href");
  const [x, y] = [scrollX, scrollY];
  isOurs = true;
  queueMicrotask(() => {
    scrollTo(x, y);
    if (focused) main.querySelector<HTMLElement>(`a[href="${CSS.escape(focused)}"]`)?.focus();
  });
  return true;
}

function drawSoon(): void {
  if (where.hasCards) frame ||= requestAnimationFrame(draw);
  else if (picture && takeOver()) drawSummary(picture);
}

async function askForHour(): Promise<void> {
  if (document.hidden || (isUnknown && !fleet?.nodes.has(only ?? ""))) return;
  const query = only === undefined ? "" : `?node=${encodeURIComponent(only)}`;
  try {
    const response = await fetch(`${root}api/last-hour${query}`);
    if (response.ok) hour = (await response.json()).gpus;
    drawSoon();
  } catch {
    // The pill says that Gleaner cannot be reached.
  }
}

const url = new URL(`${root}events`, location.href).href;
if (where.hasCards) {
  void askForHour();
  setInterval(() => void askForHour(), HOUR_MS);
  follow(
    url,
    worker,
    {
      snapshot(snapshot, identity) {
        setServerTime(snapshot.at);
        fleet = fromSnapshot(snapshot, identity);
        if (only !== undefined) passOn(HEARD, heardOf(snapshot, identity, only));
        drawSoon();
      },
      delta(delta, identity) {
        if (!fleet) return;
        setServerTime(delta.at);
        take(fleet, delta, identity);
        if (only !== undefined) passOn(HEARD, heardOf(delta, identity, only));
        drawSoon();
      },
      link(now) {
        pill.link(now);
        if (only !== undefined) passOn(LINK, now);
      },
    },
    only,
  );
} else {
  followLarge(url, worker, {
    picture(news) {
      setServerTime(news.at);
      drawLarge(news);
    },
    link: pill.link,
  });
}
startFilter(form, (wanted) => {
  filter = wanted;
  large?.sift(filter);
  if (large) sayMatches(large.count.matching, large.count.known);
  drawSoon();
});
startAges();
startControls(root);
startCopying();
