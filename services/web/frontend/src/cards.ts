// The cards of nodes; templates/parts.html draws the same without script.

import { html, nothing } from "lit";
import { guard } from "lit/directives/guard.js";
import { repeat } from "lit/directives/repeat.js";
import {
  anchor,
  badged,
  badges,
  bar,
  control,
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
import { shownState, userName } from "./filter";
import {
  age,
  gibibytes,
  level,
  memory,
  milliseconds,
  minute,
  rate,
  ratio,
  share,
  spark,
  sparkText,
  whole,
} from "./texts";
import type { Gpu, Node } from "./view";

/** A dead process that the driver lists with less is nothing to speak of. */
const DEAD_BYTES = 10 * 2 ** 20;
/** The driver itself always has some. */
const UNATTRIBUTED_BYTES = 256 * 2 ** 20;

/** By GPU: utilization in sixty means of a minute. */
export type Hour = Record<string, (number | null)[]>;

const shownHolders = (gpu: Gpu): Gpu["holders"] =>
  gpu.holders.filter((one) => one.alive || (one.memory_used_bytes ?? 0) >= DEAD_BYTES);

function sparkline(minutes: (number | null)[] | undefined): Part {
  const path = minutes && spark(minutes);
  if (!path) return nothing;
  return html`<svg class="spark" viewBox="0 -4 59 108" preserveAspectRatio="none" role="img" aria-label=${sparkText(minutes)}><path d=${path} /></svg>`;
}

function meter(percent: number | null, low = 35, high = 70): Part {
  const how = level(percent, low, high);
  return html`<span class="level ${how}">${whole(percent, "%")}${how === "high" ? html`<span aria-hidden="true"> ▲</span>` : nothing}</span>`;
}

function chip(gpu: Gpu, holder: Gpu["holders"][number]): Part {
  const isKnown = holder.memory_used_bytes !== null && gpu.memory_total_bytes;
  const part = isKnown ? `${share(holder.memory_used_bytes, gpu.memory_total_bytes)}%` : "?";
  const living = gpu.holders.filter((one) => one.alive).map((one) => one.pid);
  return html`<span class="chip${holder.run ? " ours" : ""}${holder.alive ? "" : " dead"}" tabindex="0">${holder.pid}@${userName(holder)} (${part})${holder.ignored ? " ignored" : ""}${holder.alive ? "" : " probably dead"}<span class="tip" role="note"><code>${holder.command ?? "command not known"}</code><span>${memory(holder.memory_used_bytes)}${holder.container ? `, container ${holder.container_name ?? holder.container}` : ""}</span><span>${holder.started_at ? html`started ${minute(holder.started_at)} UTC, ${since(holder.started_at)} ago` : "start not known"}</span>${holder.alive ? nothing : html`<span>the driver lists it, the system does not${living.length ? `; alive here: ${living.join(", ")}` : ""}</span>`}</span></span>`;
}

function heldBy(gpu: Gpu): Part {
  if (gpu.last) return html`<span class="quiet">${who(gpu)}</span>`;
  const shown = shownHolders(gpu);
  return shown.length
    ? html`${shown.map((holder) => html`${chip(gpu, holder)} `)}`
    : html`<span title=${gpu.reasons.join("; ")}>${gpu.summary}</span>`;
}

function why(gpu: Gpu): Part {
  if (gpu.blockers === null) return html`<span class="quiet">the scheduler has not said</span>`;
  if (gpu.blockers.length === 0) {
    return html`<span class="quiet">${gpu.state === "ours" ? "at work" : "nothing is in the way"}</span>`;
  }
  return html`<ul>${gpu.blockers.map((blocker) => html`<li>${blocker.text}</li>`)}</ul>`;
}

/** Nothing is known at all: one dash, not a sum of dashes. */
function ofMemory({ memory_used_bytes: used, memory_total_bytes: total }: Gpu): Part {
  return html`${gibibytes(used)}${used === null && total === null ? nothing : html`<span class="quiet"> / ${memory(total)}</span>`}`;
}

function gpuRow(node: Node, gpu: Gpu, hour: Hour): Part {
  const filled = share(gpu.memory_used_bytes, gpu.memory_total_bytes);
  const memoryLevel = level(gpu.memory_used_bytes === null || !gpu.memory_total_bytes ? null : filled, 10, 75);
  const state = shownState(node, gpu);
  return html`<tr role="row" id=${anchor(gpu)} class="s-${state}">
    <th role="rowheader" scope="row"><b>${shownIndex(gpu)}</b> <span class="quiet" title="${gpu.name ?? ""} ${gpu.gpu}">${gpu.model}</span></th>
    <td role="cell" data-label="State"><span class="state">${symbol(state)}${stateText(state)}</span> ${gpu.since ? html`<span class="quiet">${since(gpu.since)}</span>` : nothing}</td>
    <td role="cell" data-label="Utilization"><span class="number">${meter(gpu.utilization_percent, 10, 50)}</span>${sparkline(hour[gpu.gpu])}${bar(share(gpu.utilization_percent, 100), `rate ${level(gpu.utilization_percent, 10, 50)}`)}</td>
    <td role="cell" data-label="Memory"><span class="number">${ofMemory(gpu)}</span>${bar(filled, `memory ${memoryLevel}`)}${(gpu.unattributed_memory_bytes ?? 0) >= UNATTRIBUTED_BYTES ? html`<span class="quiet">${gibibytes(gpu.unattributed_memory_bytes)} GiB by nobody known</span>` : nothing}</td>
    <td role="cell" data-label="Heat and power"><span class="number">${whole(gpu.temperature_celsius, "°C")}${gpu.temperature_celsius === null && gpu.power_watts === null ? nothing : html` <span class="quiet">${whole(gpu.power_watts, "W")}</span>`}</span></td>
    <td role="cell" data-label="Held by" class="who">${heldBy(gpu)}</td>
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
  const rows = node.gpus.flatMap((gpu) => shownHolders(gpu).map((holder) => ({ gpu, holder })));
  return html`<section class="panel wide"><h3>Processes</h3>
    ${rows.length
      ? html`<table role="table" class="processes">${heads("PID", "User", "Command", "GPU", "Memory", "Runs for")}
          <tbody role="rowgroup">${rows.map(
            ({ gpu, holder }) => html`<tr role="row"><th role="rowheader" scope="row" class="number">${holder.pid}</th><td role="cell" data-label="User">${userName(holder)}</td><td role="cell" data-label="Command" class="command"><code>${holder.command ?? "?"}</code>${holder.run ? html` <span class="badge ours">ours</span>` : nothing}${holder.ignored ? html` <span class="quiet">ignored: ${holder.ignored}</span>` : nothing}${holder.alive ? nothing : html` <span class="badge lost">probably dead</span>`}</td><td role="cell" data-label="GPU" class="number">${shownIndex(gpu)}</td><td role="cell" data-label="Memory" class="number">${memory(holder.memory_used_bytes)}</td><td role="cell" data-label="Runs for" class="number">${since(holder.started_at)}</td></tr>`,
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
  const measured = (name: string, part: Part) => html`<div><dt>${name}</dt><dd>${part}</dd></div>`;
  const host = node.host_reading;
  return html`<dl class="facts">
    ${fact("Source", node.source)}${fact("Driver", node.driver_version)}${fact("Reacts", node.reaction)}
    ${node.labels.length ? fact("Labels", node.labels.join(", ")) : nothing}
    ${host
      ? html`${measured("CPU", meter(host.cpu_percent))}
          ${measured("Load", html`${meter(ratio(host.load_1_minute, host.cpu_count))}${host.cpu_count ? html` <span class="quiet">of ${host.cpu_count} cores</span>` : nothing}`)}
          ${measured("Memory", html`${meter(ratio(host.memory_used_bytes, host.memory_total_bytes))} <span class="quiet">${gibibytes(host.memory_used_bytes)} / ${memory(host.memory_total_bytes)}</span>`)}
          ${host.disks.map((disk) => measured(`Disk ${disk.mount}`, meter(ratio(disk.used_bytes, disk.total_bytes))))}
          ${host.network_received_bytes_per_second === null ? nothing : measured("Network", html`${rate(host.network_received_bytes_per_second)} <span class="quiet">in, ${rate(host.network_sent_bytes_per_second)} out</span>`)}
          ${host.uptime_seconds === null ? nothing : fact("Up for", age(host.uptime_seconds))}`
      : nothing}
    ${node.lease && node.lease !== "held" ? fact("Lease", `${node.lease}: nothing is launched`) : nothing}
  </dl>`;
}

function limitations(node: Node): Part {
  const number = node.limitations.length;
  if (!number) return nothing;
  return html`<details class="limits"><summary>${number} ${number === 1 ? "thing" : "things"} to know about this node</summary><ul>${node.limitations.map((text) => html`<li>${text}</li>`)}</ul></details>`;
}

function card(where: Where, node: Node, hour: Hour): Part {
  return html`<article class="node" id="node-${node.node}" data-presence=${node.presence} aria-labelledby="title-${node.node}">
    <header>
      <h2 id="title-${node.node}"><a href="${where.root}node/${node.node}">${node.name}</a>${node.host && node.host !== node.name ? html` <span class="quiet">host ${node.host}</span>` : nothing}</h2>
      ${badges(badged(node))}
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
          <tbody role="rowgroup">${repeat(node.gpus, (gpu) => gpu.gpu, (gpu) => gpuRow(node, gpu, hour))}</tbody></table>`
      : html`<p class="quiet">no GPU is known here</p>`}
    ${node.presence === "online"
      ? html`<div class="panels">${people(node)}${runs(where, node)}${processes(node)}</div>`
      : nothing}
    ${limitations(node)}
  </article>`;
}

export function cards(where: Where, nodes: Node[], hour: Hour): Part {
  return html`${repeat(
    nodes,
    (node) => node.node,
    (node) => guard([node, hour], () => card(where, node, hour)),
  )}`;
}
