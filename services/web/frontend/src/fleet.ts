// What is known of the fleet: a snapshot, and the deltas that came since.

import type { Delta, News, Node, Overview, Readings, Snapshot, User } from "./view";

export interface Fleet {
  at: string;
  overview: Overview;
  /** By id. An unchanged node stays the same object, so that it need not be drawn again. */
  nodes: Map<string, Node>;
  /** Most memory first; the same array until somebody changes. */
  users: User[];
  news: Map<string, News>;
  /** The identity of the last event. */
  identity: string;
}

export function fromSnapshot(snapshot: Snapshot, identity: string): Fleet {
  const fleet = {
    at: snapshot.at,
    identity,
    news: new Map(snapshot.news.map((news) => [news.node, news])),
    overview: snapshot.overview,
    nodes: new Map(snapshot.nodes.map((node) => [node.node, node])),
    users: snapshot.users,
  };
  takeReadings(fleet, snapshot.readings);
  return fleet;
}

export function toSnapshot(fleet: Fleet): Snapshot {
  const { at, overview, users, news } = fleet;
  return { at, overview, users, nodes: sorted(fleet), readings: [], news: [...news.values()] };
}

export function sorted(fleet: Fleet): Node[] {
  return [...fleet.nodes.values()].sort((a, b) => (a.node < b.node ? -1 : 1));
}

/** Take in what changed. Everything in a delta is whole, so taking it twice does no harm. */
export function take(fleet: Fleet, delta: Delta, identity: string): void {
  fleet.at = delta.at;
  fleet.identity = identity;
  for (const news of delta.news) fleet.news.set(news.node, news);
  if (delta.overview) fleet.overview = delta.overview;
  for (const node of delta.nodes) fleet.nodes.set(node.node, node);
  takeReadings(fleet, delta.readings);
  for (const node of delta.gone) fleet.nodes.delete(node);
  if (delta.users.length || delta.users_gone.length) takeUsers(fleet, delta);
}

function takeReadings(fleet: Fleet, all: Readings[]): void {
  for (const readings of all) {
    const node = fleet.nodes.get(readings.node);
    if (node) fleet.nodes.set(node.node, withReadings(node, readings));
  }
}

function takeUsers(fleet: Fleet, delta: Delta): void {
  const users = new Map(fleet.users.map((user) => [user.user, user]));
  for (const user of delta.users) users.set(user.user, user);
  for (const user of delta.users_gone) users.delete(user);
  fleet.users = [...users.values()].sort(
    (a, b) =>
      (b.memory_used_bytes ?? 0) - (a.memory_used_bytes ?? 0) ||
      b.n_procs - a.n_procs ||
      (a.user < b.user ? -1 : 1),
  );
}

function withReadings(node: Node, readings: Readings): Node {
  return {
    ...node,
    readings_at: readings.readings_at,
    host_reading: readings.host_reading,
    gpus: node.gpus.map((gpu, number) => {
      const [utilization, memory, temperature, power, unattributed] = readings.gpus[number] ?? [
        null,
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
        unattributed_memory_bytes: unattributed,
      };
    }),
  };
}
