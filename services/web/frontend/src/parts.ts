// The parts of the page; templates/parts.html draws the same without script.
// Every text goes through Lit's bindings and is therefore text, never markup.

import { html, nothing, type TemplateResult } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { guard } from "lit/directives/guard.js";
import { gibibytes, milliseconds, minute, share, tenths, whole } from "./texts";
import type { Gpu, Node, Overview, Pause, ShownRun } from "./view";

export interface Where {
  /** The way from this page to the first one: `./` or `../`. */
  root: string;
  controls: string;
  /** The node this page is about, or undefined for all. */
  only: string | undefined;
}

/** With more nodes the page is the grid alone; each node has a page of its own. */
export const CARDS_MAX = 40;
/** With more GPUs tiles are small. */
export const DENSE_GPUS = 96;

const STATE_TEXT: Record<string, string> = { unheard: "not heard" };
const STATE_SYMBOL: Record<string, string> = { unheard: "unknown" };
const stateText = (state: string) => STATE_TEXT[state] ?? state;

type Part = TemplateResult | typeof nothing;

const symbol = (name: string): Part =>
  html`<svg class="symbol" aria-hidden="true"><use href="#s-${STATE_SYMBOL[name] ?? name}" /></svg>`;

const since = (at: string | null): Part | string =>
  at ? html`<gl-age datetime=${at}></gl-age>` : "–";

const bar = (percent: number, kind: string): Part =>
  html`<svg class="bar ${kind}" aria-hidden="true"><rect width="${percent}%" height="100%" /></svg>`;

const heads = (...names: string[]): Part =>
  html`<thead role="rowgroup"><tr role="row">${names.map(
    (name) => html`<th role="columnheader" scope="col">${name}</th>`,
  )}</tr></thead>`;

function control(
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

function pauseText(pause: Pause): string {
  const reason = pause.reason ? `: ${pause.reason}` : "";
  const until = pause.until ? `, until ${minute(pause.until)} UTC` : "";
  return `by ${pause.by}${reason}${until}`;
}

export function answer(where: Where, overview: Overview): Part {
  const free = overview.free_models.filter((model) => model.free);
  const isPaused = overview.pauses.length > 0;
  return html`<section class="answer" aria-label="Summary">
      <div class="say" role="status"><h1>${overview.headline}</h1>
      <p class="details">${overview.details.map((detail) => html`<span>${detail}</span> `)}</p></div>
      <div class="actions">${isPaused
        ? control(where, "resume", "Resume the fleet", null)
        : control(where, "pause", "Pause", null)}</div>
      ${free.length
        ? html`<p class="free"><span class="quiet">Free now</span> ${free.map(
            ({ model, free: number, nodes }) =>
              html`<span class="model"><b>${number} × ${model}</b> <span class="quiet">on ${nodes.slice(0, 4).join(", ")}${nodes.length > 4 ? ` and ${nodes.length - 4} more` : ""}</span></span> `,
          )}</p>`
        : nothing}
    </section>
    ${overview.connected
      ? nothing
      : html`<p class="banner bad">${symbol("offline")} This page has lost the broker. Nothing below is current.</p>`}
    ${overview.connected && !overview.scheduler_online
      ? html`<p class="banner warn">${symbol("stale")} No scheduler is heard: nothing new starts. What runs goes on, and still leaves when somebody comes.</p>`
      : nothing}
    ${overview.pauses.map(
      (pause) => html`<p class="banner warn">${symbol("held")} The fleet is paused ${pauseText(pause)}</p>`,
    )}
    ${where.controls === "off"
      ? html`<p class="banner note">You can look but not change anything from here: changes from other machines need <code>web.control_token_file</code>.</p>`
      : nothing}`;
}

const shownState = (node: Node, gpu: Gpu): string =>
  node.presence === "online" ? gpu.state : node.presence;

const shownIndex = (gpu: Gpu): string => (gpu.index === null ? "?" : String(gpu.index));

const memoryShare = (gpu: Gpu): number => share(gpu.memory_used_bytes, gpu.memory_total_bytes);

const who = (gpu: Gpu): string => (gpu.last ? `was ${gpu.last}` : gpu.summary);

const anchor = (node: Node, gpu: Gpu): string => `${node.node}-${gpu.gpu}`;

function tile(where: Where, node: Node, gpu: Gpu, hasCards: boolean): Part {
  const state = shownState(node, gpu);
  const href = `${hasCards ? "" : `${where.root}node/${node.node}`}#${anchor(node, gpu)}`;
  return html`<li><a class="tile s-${state}" data-fill=${tenths(gpu.utilization_percent)} href=${href}>
    <span class="tile-head">${symbol(state)}<b>${stateText(state)}</b> <span class="tile-since">${gpu.since ? since(gpu.since) : nothing}</span></span>
    <span class="tile-who" title=${gpu.summary}>${who(gpu)}</span>
    <span class="tile-foot"><span><span class="unseen">GPU </span><b>${shownIndex(gpu)}</b></span> ${gpu.last
      ? nothing
      : html`<span>${whole(gpu.utilization_percent, "%")}</span> <span>${gibibytes(gpu.memory_used_bytes)} GiB</span>`}</span>
    ${bar(memoryShare(gpu), "memory")}</a></li>`;
}

function denseTile(where: Where, node: Node, gpu: Gpu, hasCards: boolean): Part {
  const state = shownState(node, gpu);
  const href = `${hasCards ? "" : `${where.root}node/${node.node}`}#${anchor(node, gpu)}`;
  const words = `GPU ${shownIndex(gpu)}: ${stateText(state)}, ${who(gpu)}`;
  return html`<li><a class="tile s-${state}" data-fill=${tenths(gpu.utilization_percent)} href=${href} title=${words} aria-label=${words}>${symbol(state)}</a></li>`;
}

function badges(node: Node): Part {
  const state = node.presence;
  return html`${node.simulated ? html`<span class="badge simulated">simulated</span>` : nothing}${state === "online"
    ? nothing
    : html`<span class="badge ${state}">${symbol(state)}${stateText(state)}</span>`}${node.pause || node.local_pause
    ? html`<span class="badge paused">${symbol("held")}paused</span>`
    : nothing}${node.drain ? html`<span class="badge drained">drained</span>` : nothing}${node.driver_problem
    ? html`<span class="badge lost">${symbol("dirty")}driver</span>`
    : nothing}`;
}

export function grid(where: Where, overview: Overview, nodes: Node[]): Part {
  const draw = overview.gpus > DENSE_GPUS ? denseTile : tile;
  const hasCards = nodes.length <= CARDS_MAX;
  const states = Object.entries(overview.states).filter(
    ([state, number]) => number || ["idle", "ours", "busy"].includes(state),
  );
  return html`<section class="grid ${draw === denseTile ? "dense" : ""}" aria-labelledby="grid-title">
    <h2 id="grid-title" class="unseen">All GPUs</h2>
    <ul class="legend" aria-label="States">${states.map(
      ([state, number]) => html`<li class="s-${state}">${symbol(state)}${state} <b>${number}</b></li>`,
    )}</ul>
    ${repeat(
      nodes,
      (node) => node.node,
      (node) =>
        guard([node, draw, hasCards], () => {
          const href = hasCards ? `#node-${node.node}` : `${where.root}node/${node.node}`;
          return html`<div class="row" data-presence=${node.presence}>
            <h3><a href=${href}>${node.name}</a>${badges(node)}</h3>
            ${
              node.gpus.length
                ? html`<ul class="tiles">${node.gpus.map((gpu) => draw(where, node, gpu, hasCards))}</ul>`
                : html`<p class="quiet">no GPU is known here</p>`
            }
          </div>`;
        }),
    )}
  </section>`;
}

function why(gpu: Gpu): Part {
  if (gpu.blockers === null) return html`<span class="quiet">the scheduler has not said</span>`;
  if (gpu.blockers.length === 0) {
    return html`<span class="quiet">${gpu.state === "ours" ? "at work" : "nothing is in the way"}</span>`;
  }
  return html`<ul>${gpu.blockers.map((blocker) => html`<li>${blocker.text}</li>`)}</ul>`;
}

function gpuRow(node: Node, gpu: Gpu): Part {
  const state = shownState(node, gpu);
  return html`<tr role="row" id=${anchor(node, gpu)} class="s-${state}">
    <th role="rowheader" scope="row"><b>${shownIndex(gpu)}</b> <span class="quiet" title=${gpu.gpu}>${gpu.model}</span></th>
    <td role="cell" data-label="State"><span class="state">${symbol(state)}${stateText(state)}</span> ${gpu.since ? html`<span class="quiet">${since(gpu.since)}</span>` : nothing}</td>
    <td role="cell" data-label="Utilization"><span class="number">${whole(gpu.utilization_percent, "%")}</span>${bar(share(gpu.utilization_percent, 100), "use")}</td>
    <td role="cell" data-label="Memory"><span class="number">${gibibytes(gpu.memory_used_bytes)}<span class="quiet"> / ${gibibytes(gpu.memory_total_bytes)} GiB</span></span>${bar(memoryShare(gpu), "memory")}</td>
    <td role="cell" data-label="Heat and power"><span class="number">${whole(gpu.temperature_celsius, "°C")} <span class="quiet">${whole(gpu.power_watts, "W")}</span></span></td>
    <td role="cell" data-label="Held by" class="who">${gpu.last
      ? html`<span class="quiet">${who(gpu)}</span>`
      : html`<span title=${gpu.reasons.join("; ")}>${gpu.summary}</span>`}</td>
    <td role="cell" data-label="Why nothing starts" class="why">${why(gpu)}</td>
  </tr>`;
}

function people(node: Node): Part {
  return html`<section class="panel"><h3>People</h3>
    ${node.people.length
      ? html`<table role="table">${heads("User", "Where", "State")}
          <tbody role="rowgroup">${node.people.map(
            (person) => html`<tr role="row"><th role="rowheader" scope="row">${person.user ?? `user ${person.user_id}`}</th><td role="cell">${person.where}</td><td role="cell">${person.active
              ? html`<span class="active">${symbol("person")}active</span>`
              : "idle"} <span class="quiet">${since(person.since)}${person.whitelisted ? ", does not count" : ""}</span></td></tr>`,
          )}</tbody></table>`
      : nothing}
    <p class="quiet">${node.people_reason}</p>
  </section>`;
}

function indices(node: Node, gpus: string[]): string {
  const known = new Map(node.gpus.map((gpu) => [gpu.gpu, shownIndex(gpu)]));
  return gpus.map((gpu) => known.get(gpu) ?? "?").join(", ");
}

function runs(where: Where, node: Node): Part {
  return html`<section class="panel"><h3>Runs</h3>
    ${node.runs.length
      ? html`<table role="table" class="runs">${heads("Workload", "GPU", "State", "PID", "Left within")}
          <tbody role="rowgroup">${node.runs.map(
            (run) => html`<tr role="row"><th role="rowheader" scope="row">${run.entry}</th><td role="cell" data-label="GPU">${indices(node, run.gpus)}</td><td role="cell" data-label="State"><span>${run.state}</span> <span class="quiet">${since(run.started_at)}</span>${run.state === "running" ? nothing : html`<span class="reason">${run.cause ?? run.reason}</span>`}</td><td role="cell" data-label="PID" class="number">${run.pid ?? "–"}</td><td role="cell" data-label="Left within" class="number">${milliseconds(run.stages?.noticed_to_clear)}</td></tr>`,
          )}</tbody></table>`
      : html`<p class="quiet">nothing of ours runs here</p>`}
    ${node.workloads
      .filter((workload) => workload.blockers.length)
      .map(
        ({ entry, blockers }) => html`<div class="workload"><b>${entry}</b> <ul>${blockers.map((blocker) => html`<li>${blocker.text}</li>`)}</ul>${node.resumable.includes(entry) ? control(where, "resume", `Resume ${entry}`, node, entry) : nothing}</div>`,
      )}
  </section>`;
}

function processes(node: Node): Part {
  const rows = node.gpus.flatMap((gpu) => gpu.holders.map((holder) => ({ gpu, holder })));
  return html`<section class="panel wide"><h3>Processes</h3>
    ${rows.length
      ? html`<table role="table" class="processes">${heads("PID", "User", "Command", "GPU", "Memory", "Runs for")}
          <tbody role="rowgroup">${rows.map(
            ({ gpu, holder }) => html`<tr role="row"><th role="rowheader" scope="row" class="number">${holder.pid}</th><td role="cell" data-label="User">${holder.user ?? holder.user_id ?? "?"}</td><td role="cell" data-label="Command" class="command"><code>${holder.command ?? "?"}</code>${holder.run ? html` <span class="badge ours">ours</span>` : nothing}${holder.ignored ? html` <span class="quiet">ignored: ${holder.ignored}</span>` : nothing}${holder.alive ? nothing : html` <span class="badge lost">gone, still listed</span>`}</td><td role="cell" data-label="GPU" class="number">${shownIndex(gpu)}</td><td role="cell" data-label="Memory" class="number">${gibibytes(holder.memory_used_bytes)} GiB</td><td role="cell" data-label="Runs for" class="number">${since(holder.started_at)}</td></tr>`,
          )}</tbody></table>`
      : html`<p class="quiet">no process holds a GPU</p>`}
  </section>`;
}

function freshness(node: Node): Part {
  if (node.presence !== "online") {
    return html`<b>${node.presence_text}</b>${node.heard_at ? html`, last heard ${since(node.heard_at)} ago` : nothing}`;
  }
  return node.readings_at ? html`readings ${since(node.readings_at)} old` : html`no readings`;
}

function banners(node: Node): Part {
  return html`${node.simulated ? html`<p class="banner simulated">This node is simulated: nothing of it really exists.</p>` : nothing}
    ${node.presence === "online" ? nothing : html`<p class="banner warn">${symbol(node.presence)} Nothing here is current: ${node.presence_text}.</p>`}
    ${node.driver_problem ? html`<p class="banner bad">${symbol("dirty")} ${node.driver_problem}</p>` : nothing}
    ${node.pause ? html`<p class="banner warn">${symbol("held")} Paused ${pauseText(node.pause)}</p>` : nothing}
    ${node.local_pause ? html`<p class="banner warn">${symbol("held")} Paused on the node itself: ${node.local_pause}</p>` : nothing}
    ${node.drain ? html`<p class="banner warn">Drained by ${node.drain.by}${node.drain.reason ? `: ${node.drain.reason}` : ""}</p>` : nothing}`;
}

function facts(node: Node): Part {
  const fact = (name: string, value: string | null) =>
    html`<div><dt>${name}</dt><dd>${value ?? "?"}</dd></div>`;
  const host = node.host_reading;
  return html`<dl class="facts">
    ${fact("Source", node.source)}${fact("Driver", node.driver_version)}${fact("Reacts", node.reaction)}
    ${host
      ? html`${fact("CPU", whole(host.cpu_percent, "%"))}${fact("Memory", `${gibibytes(host.memory_used_bytes)} / ${gibibytes(host.memory_total_bytes)} GiB`)}`
      : nothing}
    ${node.lease && node.lease !== "held" ? fact("Lease", `${node.lease}: nothing is launched`) : nothing}
  </dl>`;
}

function limitations(node: Node): Part {
  const number = node.limitations.length;
  if (!number) return nothing;
  return html`<details class="limits"><summary>${number} ${number === 1 ? "thing" : "things"} to know about this node</summary><ul>${node.limitations.map((text) => html`<li>${text}</li>`)}</ul></details>`;
}

export function card(where: Where, node: Node): Part {
  return html`<article class="node" id="node-${node.node}" data-presence=${node.presence} aria-labelledby="title-${node.node}">
    <header>
      <h2 id="title-${node.node}"><a href="${where.root}node/${node.node}">${node.name}</a>${node.host && node.host !== node.name ? html` <span class="quiet">${node.host}</span>` : nothing}</h2>
      ${badges(node)}
      <p class="freshness">${freshness(node)}</p>
      <div class="actions">
        ${node.pause ? control(where, "resume", "Resume", node) : control(where, "pause", "Pause", node)}
        ${node.drain ? control(where, "undrain", "Undrain", node) : control(where, "drain", "Drain", node)}
      </div>
    </header>
    ${banners(node)}${facts(node)}
    ${node.gpus.length
      ? html`<table role="table" class="gpus"><caption class="unseen">GPUs of ${node.name}</caption>
          ${heads("GPU", "State", "Utilization", "Memory", "Heat, power", "Held by", "Why nothing starts here")}
          <tbody role="rowgroup">${repeat(node.gpus, (gpu) => gpu.gpu, (gpu) => gpuRow(node, gpu))}</tbody></table>`
      : html`<p class="quiet">no GPU is known here</p>`}
    ${node.presence === "online"
      ? html`<div class="panels">${people(node)}${runs(where, node)}${processes(node)}</div>`
      : nothing}
    ${limitations(node)}
  </article>`;
}

export function cards(where: Where, nodes: Node[]): Part {
  if (nodes.length > CARDS_MAX) return nothing;
  return html`${repeat(
    nodes,
    (node) => node.node,
    (node) => guard([node], () => card(where, node)),
  )}`;
}

export function evictions(overview: Overview, nodes: Map<string, Node>): Part {
  if (!overview.evictions.length) return nothing;
  const row = (run: ShownRun) => html`<tr role="row"><td role="cell" data-label="When">${since(run.at)} ago</td><th role="rowheader" scope="row">${run.entry} <span class="quiet">on ${nodes.get(run.node)?.name ?? run.node}</span></th><td role="cell" data-label="Why">${run.cause ?? run.reason}${run.killed ? html` <span class="badge lost">needed KILL</span>` : nothing}</td><td role="cell" data-label="Noticed → TERM" class="number">${milliseconds(run.stages?.noticed_to_term)}</td><td role="cell" data-label="→ gone" class="number">${milliseconds(run.stages?.term_to_exit)}</td><td role="cell" data-label="→ GPU clear" class="number">${milliseconds(run.stages?.exit_to_clear)}</td><td role="cell" data-label="In all" class="number"><b>${milliseconds(run.stages?.noticed_to_clear)}</b></td></tr>`;
  return html`<section class="node" aria-labelledby="evictions-title">
    <header><h2 id="evictions-title">Who left, and how fast</h2></header>
    <table role="table" class="evictions">${heads("When", "Workload", "Why", "Noticed → TERM", "→ gone", "→ GPU clear", "In all")}
      <tbody role="rowgroup">${repeat(overview.evictions, (run) => run.run, row)}</tbody></table>
  </section>`;
}
