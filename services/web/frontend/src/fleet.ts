// What is known of the fleet: a snapshot, and the deltas that came since.

import type { Delta, Node, Overview, Readings, Snapshot } from "./view";

export interface Fleet {
  at: string;
  overview: Overview;
  /** By id. An unchanged node stays the same object, so that it need not be drawn again. */
  nodes: Map<string, Node>;
}

export function fromSnapshot(snapshot: Snapshot): Fleet {
  return {
    at: snapshot.at,
    overview: snapshot.overview,
    nodes: new Map(snapshot.nodes.map((node) => [node.node, node])),
  };
}

export function toSnapshot(fleet: Fleet): Snapshot {
  return { at: fleet.at, overview: fleet.overview, nodes: sorted(fleet) };
}

export function sorted(fleet: Fleet): Node[] {
  return [...fleet.nodes.values()].sort((a, b) => (a.node < b.node ? -1 : 1));
}

/** Take in what changed. Everything in a delta is whole, so taking it twice does no harm. */
export function take(fleet: Fleet, delta: Delta): void {
  fleet.at = delta.at;
  if (delta.overview) fleet.overview = delta.overview;
  for (const node of delta.nodes) fleet.nodes.set(node.node, node);
  for (const readings of delta.readings) {
    const node = fleet.nodes.get(readings.node);
    if (node) fleet.nodes.set(node.node, withReadings(node, readings));
  }
  for (const node of delta.gone) fleet.nodes.delete(node);
}

function withReadings(node: Node, readings: Readings): Node {
  return {
    ...node,
    readings_at: readings.readings_at,
    host_reading: readings.host_reading,
    gpus: node.gpus.map((gpu, number) => {
      const [utilization, memory, temperature, power] = readings.gpus[number] ?? [
        null,
        null,
        null,
        null,
      ];
      return {
        ...gpu,
        utilization_percent: utilization,
        memory_used_bytes: memory,
        temperature_celsius: temperature,
        power_watts: power,
      };
    }),
  };
}
