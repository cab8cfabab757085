// What all parts of the page are made of.
// Every text goes through Lit's bindings and is therefore text, never markup.

import { html, nothing, type TemplateResult } from "lit";
import { minute } from "./texts";
import type { Gpu, Node, Pause } from "./view";

export interface Where {
  /** The way from this page to the first one: `./` or `../`. */
  root: string;
  controls: string;
  /** The node this page is about, or undefined for all. */
  only: string | undefined;
  /** Whether each node has a card on this page. */
  hasCards: boolean;
}

const STATE_TEXT: Record<string, string> = { unheard: "not heard" };
const STATE_SYMBOL: Record<string, string> = { unheard: "unknown" };
export const stateText = (state: string) => STATE_TEXT[state] ?? state;

export type Part = TemplateResult | typeof nothing;

export const symbol = (name: string): Part =>
  html`<svg class="symbol" aria-hidden="true"><use href="#s-${STATE_SYMBOL[name] ?? name}" /></svg>`;

export const since = (at: string | null): Part | string =>
  at ? html`<gl-age datetime=${at}></gl-age>` : "–";

export const bar = (percent: number, kind: string): Part =>
  html`<svg class="bar ${kind}" aria-hidden="true"><rect width="${percent}%" height="100%" /></svg>`;

export const heads = (...names: string[]): Part =>
  html`<thead role="rowgroup"><tr role="row">${names.map(
    (name) => html`<th role="columnheader" scope="col">${name}</th>`,
  )}</tr></thead>`;

export function control(
  where: Where,
  kind: string,
  label: string,
  node: Node | null,
  entry: string | null = null,
): Part {
  if (where.controls === "off") return nothing;
  const asks = kind === "pause" || kind === "drain";
  const target = node ? node.name : "the fleet";
  const form = html`<form class="control" method="post" action="${where.root}control">
    <input type="hidden" name="kind" value=${kind} />
    <input type="hidden" name="node" value=${node?.node ?? ""} />
    <input type="hidden" name="entry" value=${entry ?? ""} />
    ${asks
      ? html`<label>Reason <input name="reason" maxlength="500" autocomplete="off" placeholder="for everybody to read" /></label>`
      : nothing}
    ${kind === "pause"
      ? html`<label>For <select name="duration_seconds"><option value="">until resumed</option><option value="3600">1 hour</option><option value="28800">8 hours</option><option value="86400">1 day</option></select></label>`
      : nothing}
    ${where.controls === "token"
      ? html`<label>Token <input name="token" type="password" autocomplete="off" required /></label>`
      : nothing}
    <button>${asks ? `${label} ${target}` : label}</button>
  </form>`;
  return asks || where.controls === "token"
    ? html`<details class="ask"><summary>${label}…</summary>${form}</details>`
    : form;
}

export function pauseText(pause: Pause): string {
  const reason = pause.reason ? `: ${pause.reason}` : "";
  const until = pause.until ? `, until ${minute(pause.until)} UTC` : "";
  return `by ${pause.by}${reason}${until}`;
}

/** The one form in which a GPU is named: what `gleaner why` takes. */
export const gpuName = (node: string, gpu: { index: number | null }): string =>
  `${node}:${shownIndex(gpu)}`;

export const shownIndex = (gpu: { index: number | null }): string =>
  gpu.index === null ? "?" : String(gpu.index);

export const who = (gpu: Gpu): string => (gpu.last ? `was ${gpu.last}` : gpu.summary);

export const anchor = (one: { node: string; gpu: string }): string => `${one.node}-${one.gpu}`;

/** Where more is told about a GPU: on its node's card, or on the node's own page. */
export function gpuHref(where: Where, one: { node: string; gpu: string }): string {
  return `${where.hasCards ? "" : `${where.root}node/${one.node}`}#${anchor(one)}`;
}

export interface Badged {
  presence: string;
  simulated: boolean;
  paused: boolean;
  drained: boolean;
  driver: boolean;
}

export const badged = (node: Node): Badged => ({
  presence: node.presence,
  simulated: node.simulated,
  paused: Boolean(node.pause || node.local_pause),
  drained: Boolean(node.drain),
  driver: Boolean(node.driver_problem),
});

export function badges(node: Badged): Part {
  const state = node.presence;
  return html`${node.simulated ? html`<span class="badge simulated">simulated</span>` : nothing}${state === "online"
    ? nothing
    : html`<span class="badge ${state}">${symbol(state)}${stateText(state)}</span>`}${node.paused
    ? html`<span class="badge paused">${symbol("held")}paused</span>`
    : nothing}${node.drained ? html`<span class="badge drained">drained</span>` : nothing}${node.driver
    ? html`<span class="badge lost">${symbol("dirty")}driver</span>`
    : nothing}`;
}
