// GPUs that somebody holds without using them, longest first; services/web/shown/held.py finds the same.

import { usersOf } from "./filter";
import type { Node } from "./view";

export interface Held {
  node: string;
  name: string;
  gpu: string;
  index: number | null;
  model: string;
  owner: string;
  memory: number | null;
  since: string;
}

export function held(nodes: Iterable<Node>): Held[] {
  const found: Held[] = [];
  for (const { node, name, gpus } of nodes) {
    for (const gpu of gpus) {
      if (gpu.state !== "held" || gpu.since === null || !gpu.schedulable) continue;
      const counted = gpu.holders.filter((one) => one.run === null && one.ignored === null);
      const isKnown = counted.length && counted.every((one) => one.memory_used_bytes !== null);
      found.push({
        node,
        name,
        gpu: gpu.gpu,
        index: gpu.index,
        model: gpu.model,
        owner: usersOf(gpu).join(", ") || "nobody known",
        memory: isKnown ? counted.reduce((sum, one) => sum + (one.memory_used_bytes ?? 0), 0) : null,
        since: gpu.since,
      });
    }
  }
  const at = (one: Held) => Date.parse(one.since);
  return found.sort(
    (a, b) =>
      at(a) - at(b) ||
      (a.node < b.node ? -1 : a.node > b.node ? 1 : (a.index ?? 0) - (b.index ?? 0)),
  );
}
