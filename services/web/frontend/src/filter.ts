// Which GPUs somebody wants to see, as it stands in the address; services/web/shown/filter.py does the
// same where script is off.

import type { Gpu, Node } from "./view";

export interface Filter {
  model: string;
  state: string;
  user: string;
  label: string;
  /** Part of its id or name. */
  node: string;
  /** How many somebody needs on one node; for what is offered, not for the grid. */
  gpus: number;
}

/** What a filter looks at; a whole node and GPU have more. */
export interface Sought {
  node: string;
  name: string;
  labels: string[];
  model: string;
  state: string;
  users: string[];
}

const WORDS = ["model", "state", "user", "label", "node"] as const;

export function shownState(node: Node, gpu: Gpu): string {
  if (node.presence !== "online") return node.presence;
  return gpu.state === "idle" && !gpu.schedulable ? "divided" : gpu.state;
}

export function userName(holder: Gpu["holders"][number]): string {
  return holder.user || (holder.user_id === null ? "unknown" : `uid ${holder.user_id}`);
}

/** The people who hold a GPU, each once. */
export function usersOf(gpu: Gpu): string[] {
  if (!gpu.holders.length) return [];
  const counted = gpu.holders.filter((one) => one.run === null && one.ignored === null);
  return [...new Set(counted.map(userName))];
}

export function isEmpty(filter: Filter): boolean {
  return WORDS.every((word) => !filter[word]);
}

export function takes(filter: Filter, one: Sought): boolean {
  const node = filter.node.toLowerCase();
  return (
    (!filter.model || filter.model === one.model) &&
    (!filter.state || filter.state === one.state) &&
    (!filter.user || one.users.includes(filter.user)) &&
    (!filter.label || one.labels.includes(filter.label)) &&
    (!node || one.node.includes(node) || one.name.toLowerCase().includes(node))
  );
}

/** The nodes with the GPUs that are to be shown; nodes without any are left out. */
export function taken(filter: Filter, nodes: Node[]): Node[] {
  if (isEmpty(filter)) return nodes;
  return nodes.flatMap((node) => {
    const gpus = node.gpus.filter((gpu) =>
      takes(filter, {
        node: node.node,
        name: node.name,
        labels: node.labels,
        model: gpu.model,
        state: shownState(node, gpu),
        users: usersOf(gpu),
      }),
    );
    if (gpus.length === node.gpus.length) return [node];
    return gpus.length ? [{ ...node, gpus, runs: runsOn(gpus, node.runs) }] : [];
  });
}

/** The runs on these GPUs, each without the others that it has. */
function runsOn(gpus: Gpu[], runs: Node["runs"]): Node["runs"] {
  const taken = new Set(gpus.map((gpu) => gpu.gpu));
  return runs
    .map((run) => ({ ...run, gpus: run.gpus.filter((gpu) => taken.has(gpu)) }))
    .filter((run) => run.gpus.length);
}

export function fromForm(form: HTMLFormElement | null): Filter {
  const fields = new FormData(form ?? undefined);
  const text = (name: string) => String(fields.get(name) ?? "").trim();
  const gpus = Number.parseInt(text("gpus"), 10);
  return {
    model: text("model"),
    state: text("state"),
    user: text("user"),
    label: text("label"),
    node: text("node"),
    gpus: Math.max(1, Math.min(64, gpus || 1)),
  };
}

/** What stands in the address for a filter: only what is not as it always is. */
export function toQuery(filter: Filter): string {
  const query = new URLSearchParams();
  for (const word of WORDS) if (filter[word]) query.set(word, filter[word]);
  if (filter.gpus > 1) query.set("gpus", String(filter.gpus));
  const text = query.toString();
  return text && `?${text}`;
}

/** Call back with each change of the form, and keep the address as the form is. */
export function startFilter(form: HTMLFormElement | null, changed: (filter: Filter) => void): void {
  if (!form) return;
  const look = () => {
    const filter = fromForm(form);
    history.replaceState(null, "", `${location.pathname}${toQuery(filter)}${location.hash}`);
    const reset = form.querySelector<HTMLElement>(".reset");
    if (reset) reset.hidden = isEmpty(filter);
    // What the address had that made no sense is there no more.
    document.getElementById("misread")?.remove();
    changed(filter);
  };
  form.addEventListener("input", look);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    look();
  });
  form.querySelector(".reset")?.addEventListener("click", (event) => {
    event.preventDefault();
    for (const field of form.querySelectorAll<HTMLInputElement | HTMLSelectElement>("[name]")) {
      field.value = field.name === "gpus" ? "1" : "";
    }
    look();
  });
}
