// The parts of the first page; templates/parts.html draws the same without script.

import { html, nothing } from "lit";
import { guard } from "lit/directives/guard.js";
import { repeat } from "lit/directives/repeat.js";
import {
  badged,
  badges,
  bar,
  control,
  gpuHref,
  gpuName,
  heads,
  type Part,
  pauseText,
  shownIndex,
  since,
  stateText,
  symbol,
  type Where,
  who,
} from "./base";
import { ROWS_MAX, type Some } from "./board";
import { type Filter, shownState } from "./filter";
import { command } from "./free";
import type { Held } from "./held";
import { amount, memory, milliseconds, share, tenths, whole } from "./texts";
import type { FreeModel, Gpu, Node, Offer, Overview, ShownRun, User } from "./view";

/** With more nodes the page is the grid alone; each node has a page of its own. */
export const CARDS_MAX = 40;
/** With more GPUs tiles are small. */
export const DENSE_GPUS = 96;

function offer(one: Offer, wanted: number): Part {
  const counts = [
    ...(one.idle ? [`${one.idle} idle`] : []),
    ...(one.on_demand ? [`${one.on_demand} on demand`] : []),
  ].join(", ");
  if (one.host === null) {
    return html`<li><span class="offer">${one.name} <span class="quiet">${counts}${one.simulated ? ", simulated" : ""}</span></span></li>`;
  }
  const line = command(one.host, one.gpus.slice(0, wanted));
  return html`<li><details class="offer"><summary>${one.name} <span class="quiet">${counts}</span></summary><code>${line}</code></details><button type="button" class="copy" data-copy=${line} aria-label="Copy the command for ${one.name}" title="Copy: ${line}">${symbol("copy")}</button></li>`;
}

function offers(model: FreeModel, wanted: number): Part {
  const fitting = model.offers.filter((one) => one.gpus.length >= wanted);
  if (!fitting.length) return html`<p class="quiet">none with ${wanted} on one node</p>`;
  const more = model.nodes - model.offers.length;
  return html`<ul class="offers">${repeat(
    fitting,
    (one) => one.node,
    (one) => offer(one, wanted),
  )}</ul>${more > 0 ? html`<p class="quiet">and on ${more} more</p>` : nothing}`;
}

function free(overview: Overview, filter: Filter): Part {
  if (!overview.free_models.length) return nothing;
  return html`<section class="free" aria-labelledby="free-title"><h2 id="free-title">Free now</h2>
    <ul class="models">${repeat(
      overview.free_models,
      (model) => model.model,
      (model) => html`<li><p><b>${model.free} × ${model.model}</b> <span class="quiet">of ${model.total}</span></p>${offers(model, filter.gpus)}</li>`,
    )}</ul></section>`;
}

export function answer(where: Where, overview: Overview, filter: Filter): Part {
  const isPaused = overview.pauses.length > 0;
  return html`<section class="answer" aria-label="Summary">
      <div class="say" role="status"><h1>${overview.headline}</h1>
      <p class="details">${overview.details.map((detail) => html`<span>${detail}</span> `)}</p></div>
      <div class="actions">${isPaused
        ? control(where, "resume", "Resume the fleet", null)
        : control(where, "pause", "Pause", null)}</div>
      ${free(overview, filter)}
    </section>
    ${alarms(where, overview)}`;
}

/** Of one node, whose card below has what may be done with it. */
export function nodeAnswer(where: Where, overview: Overview, node: Node): Part {
  return html`<section class="answer" aria-label="Summary of this node">
      <div class="say" role="status"><h1>${node.name}: ${node.headline}</h1>
      <p class="details">${node.details.map((detail) => html`<span>${detail}</span> `)}</p></div>
    </section>
    ${alarms(where, overview)}`;
}

function alarms(where: Where, overview: Overview): Part {
  return html`${overview.connected
      ? nothing
      : html`<p class="banner bad">${symbol("offline")} This page has lost the broker. Nothing below is current.</p>`}
    ${overview.connected && !overview.scheduler_online
      ? html`<p class="banner warn">${symbol("stale")} No scheduler is heard: nothing new starts. What runs goes on, and still leaves when somebody comes.</p>`
      : nothing}
    ${overview.history_problem
      ? html`<p class="banner warn">${symbol("stale")} ${overview.history_problem}</p>`
      : nothing}
    ${overview.pauses.map(
      (pause) => html`<p class="banner warn">${symbol("held")} The fleet is paused ${pauseText(pause)}</p>`,
    )}
    ${where.controls === "off"
      ? html`<p class="banner note">You can look but not change anything. That is for root and the user who runs Gleaner, at its own machine; for others it needs <code>web.control_token_file</code>.</p>`
      : nothing}`;
}

function tile(where: Where, node: Node, gpu: Gpu): Part {
  const state = shownState(node, gpu);
  return html`<li><a class="tile s-${state}" data-fill=${tenths(gpu.utilization_percent)} href=${gpuHref(where, gpu)}>
    <span class="tile-head">${symbol(state)}<b>${stateText(state)}</b> <span class="tile-since">${gpu.since ? since(gpu.since) : nothing}</span></span>
    <span class="tile-who" title=${gpu.summary}>${who(gpu)}</span>
    <span class="tile-foot"><span><span class="unseen">GPU </span><b>${shownIndex(gpu)}</b></span> ${gpu.utilization_percent === null && gpu.memory_used_bytes === null
      ? nothing
      : html`<span>${whole(gpu.utilization_percent, "%")}</span> <span>${memory(gpu.memory_used_bytes)}</span>`}</span>
    ${bar(share(gpu.memory_used_bytes, gpu.memory_total_bytes), "memory")}</a></li>`;
}

function denseTile(where: Where, node: Node, gpu: Gpu): Part {
  const state = shownState(node, gpu);
  const words = `${gpuName(node.name, gpu)} ${stateText(state)}, ${who(gpu)}`;
  return html`<li><a class="tile s-${state}" data-fill=${tenths(gpu.utilization_percent)} href=${gpuHref(where, gpu)} title=${words}></a></li>`;
}

export function legend(overview: Overview): Part {
  const states = Object.entries(overview.states).filter(
    ([state, number]) => number || ["idle", "ours", "busy"].includes(state),
  );
  return html`<ul class="legend" aria-label="States">${states.map(
    ([state, number]) => html`<li class="s-${state}">${symbol(state)}${state} <b>${number}</b></li>`,
  )}</ul>
    <p class="loads">Utilization <span><i data-fill="1"></i>to 10 %</span> <span><i data-fill="5"></i>to 50 %</span> <span><i data-fill="10"></i>above</span></p>`;
}

/** The grid of a fleet that is not large; see large.ts for that. */
export function grid(where: Where, overview: Overview, nodes: Node[]): Part {
  const draw = overview.gpus > DENSE_GPUS ? denseTile : tile;
  return html`${repeat(
    nodes,
    (node) => node.node,
    (node) =>
      guard(
        [node, draw],
        () => html`<div class="row" data-presence=${node.presence}>
          <h3><a href="#node-${node.node}">${node.name}</a>${badges(badged(node))}</h3>
          ${
            node.gpus.length
              ? html`<ul class="tiles">${node.gpus.map((gpu) => draw(where, node, gpu))}</ul>`
              : html`<p class="quiet">no GPU is known here</p>`
          }
        </div>`,
      ),
  )}`;
}

export function held(where: Where, { first, number }: Some<Held>): Part {
  if (!number) return nothing;
  const row = (one: Held) => html`<tr role="row"><th role="rowheader" scope="row"><a href=${gpuHref(where, one)}>${gpuName(one.name, one)}</a> <span class="quiet">${one.model}</span></th><td role="cell" data-label="Owner">${one.owner}</td><td role="cell" data-label="Memory" class="number">${amount(one.memory)}</td><td role="cell" data-label="Since" class="number">${since(one.since)}</td><td role="cell" data-label="GPU-hours wasted" class="number"><gl-age data-unit="hours" datetime=${one.since}></gl-age></td></tr>`;
  return html`<section class="node" aria-labelledby="held-title"><header><h2 id="held-title">Held, and doing nothing</h2></header>
    <table role="table" class="held">${heads("GPU", "Owner", "Memory", "Since", "GPU-hours wasted")}
      <tbody role="rowgroup">${repeat(first, (one) => one.gpu, row)}</tbody></table>
    ${number > ROWS_MAX ? html`<p class="quiet">and ${number - ROWS_MAX} more, held for less time</p>` : nothing}
  </section>`;
}

export function users(where: Where, overview: Overview, { first, number }: Some<User>): Part {
  const row = (one: User) => html`<tr role="row"><th role="rowheader" scope="row"><a href="${where.root}?user=${encodeURIComponent(one.user)}">${one.user}</a></th><td role="cell" data-label="Memory" class="number">${!one.memory_is_complete && one.memory_used_bytes !== null ? "≥ " : ""}${amount(one.memory_used_bytes)}</td><td role="cell" data-label="GPUs" class="number">${one.n_gpus}</td><td role="cell" data-label="Processes" class="number">${one.n_procs}</td><td role="cell" data-label="Where" class="where">${one.gpus.join("  ")}${one.more_nodes ? html` <span class="quiet">and ${one.more_nodes} more</span>` : nothing}</td></tr>`;
  return html`<section class="node" aria-labelledby="users-title"><header><h2 id="users-title">Who uses GPUs now</h2></header>
    ${
      number
        ? html`<table role="table" class="users">${heads("User", "Memory", "GPUs", "Processes", "Where")}
          <tbody role="rowgroup">${repeat(
            first,
            (one) => one.user,
            (one) => guard([one], () => row(one)),
          )}</tbody></table>${number > ROWS_MAX ? html`<p class="quiet">and ${number - ROWS_MAX} more with less memory</p>` : nothing}`
        : html`<p class="quiet">nobody uses a GPU</p>`
    }${overview.not_counted.map((text) => html`<p class="quiet">${text}</p>`)}
  </section>`;
}

export function evictions(overview: Overview, name: (node: string) => string): Part {
  if (!overview.evictions.length) return nothing;
  const row = (run: ShownRun) => html`<tr role="row"><td role="cell" data-label="When">${since(run.at)} ago</td><th role="rowheader" scope="row">${run.entry} <span class="quiet">on ${name(run.node)}</span></th><td role="cell" data-label="Why">${run.cause ?? run.reason}${run.killed ? html` <span class="badge lost">needed KILL</span>` : nothing}</td><td role="cell" data-label="Noticed → TERM" class="number">${milliseconds(run.stages?.noticed_to_term)}</td><td role="cell" data-label="→ gone" class="number">${milliseconds(run.stages?.term_to_exit)}</td><td role="cell" data-label="→ GPU clear" class="number">${milliseconds(run.stages?.exit_to_clear)}</td><td role="cell" data-label="In all" class="number"><b>${milliseconds(run.stages?.noticed_to_clear)}</b></td></tr>`;
  return html`<section class="node" aria-labelledby="evictions-title">
    <header><h2 id="evictions-title">Who left, and how fast</h2></header>
    <table role="table" class="evictions">${heads("When", "Workload", "Why", "Noticed → TERM", "→ gone", "→ GPU clear", "In all")}
      <tbody role="rowgroup">${repeat(overview.evictions, (run) => run.run, row)}</tbody></table>
  </section>`;
}
