// What a page of a large fleet needs of it: rows of small tiles, and of each tick only what
// changed. It is worked out in the worker, so that the page's own thread only sets attributes.

import type { Fleet } from "./fleet";
import { shownState, usersOf } from "./filter";
import { type Held, held } from "./held";
import { tenths } from "./texts";
import type { Delta, Node, Overview, User } from "./view";

export interface Tile {
  gpu: string;
  state: string;
  fill: string;
  /** The part of its words that stands behind the node's name. */
  words: string;
  model: string;
  users: string[];
}

export interface Row {
  node: string;
  name: string;
  presence: string;
  simulated: boolean;
  paused: boolean;
  drained: boolean;
  driver: boolean;
  labels: string[];
  tiles: Tile[];
}

export interface Some<T> {
  first: T[];
  number: number;
}

export interface Picture {
  at: string;
  /** Whether this is everything, and not only what changed. */
  whole: boolean;
  overview: Overview | null;
  rows: Row[];
  /** Node, and the fills of its tiles with commas; one text is cheaper to hand over than a list. */
  fills: [string, string][];
  gone: string[];
  /** The first of them, and how many there are. */
  users: Some<User> | null;
  held: Some<Held> | null;
  /** What nodes are called of which the overview speaks. */
  names: Record<string, string>;
}

/** So many users, and so many held GPUs, are listed. */
export const ROWS_MAX = 100;

const STATE_TEXT: Record<string, string> = { unheard: "not heard" };

export class Board {
  private fills = new Map<string, string>();
  private held = "";

  whole(fleet: Fleet): Picture {
    this.fills.clear();
    this.held = "";
    const nodes = [...fleet.nodes.values()].sort((a, b) => (a.node < b.node ? -1 : 1));
    return {
      at: fleet.at,
      whole: true,
      overview: fleet.overview,
      rows: nodes.map((node) => this.row(node)),
      fills: [],
      gone: [],
      users: some(fleet.users),
      held: this.heldIfChanged(fleet) ?? some([]),
      names: names(fleet),
    };
  }

  /** What of a delta, which the fleet has taken in already, is to be seen. */
  changed(fleet: Fleet, delta: Delta): Picture {
    const isNew = new Set(delta.nodes.map((node) => node.node));
    const rows = [...isNew].flatMap((name) => fleet.nodes.get(name) ?? []);
    return {
      at: delta.at,
      whole: false,
      overview: delta.overview,
      rows: rows.map((node) => this.row(node)),
      fills: delta.readings.flatMap(({ node }) => (isNew.has(node) ? [] : this.moved(fleet, node))),
      gone: delta.gone,
      users: delta.users.length || delta.users_gone.length ? some(fleet.users) : null,
      held: rows.length || delta.gone.length ? this.heldIfChanged(fleet) : null,
      names: delta.overview ? names(fleet) : {},
    };
  }

  private row(node: Node): Row {
    const tiles = node.gpus.map((gpu) => {
      const state = shownState(node, gpu);
      const who = gpu.last ? `was ${gpu.last}` : gpu.summary;
      return {
        gpu: gpu.gpu,
        state,
        fill: String(tenths(gpu.utilization_percent)),
        words: `:${gpu.index ?? "?"} ${STATE_TEXT[state] ?? state}, ${who}`,
        model: gpu.model,
        users: usersOf(gpu),
      };
    });
    this.fills.set(node.node, tiles.map((tile) => tile.fill).join());
    return {
      node: node.node,
      name: node.name,
      presence: node.presence,
      simulated: node.simulated,
      paused: Boolean(node.pause || node.local_pause),
      drained: Boolean(node.drain),
      driver: Boolean(node.driver_problem),
      labels: node.labels,
      tiles,
    };
  }

  private moved(fleet: Fleet, name: string): [string, string][] {
    const node = fleet.nodes.get(name);
    if (!node) return [];
    const text = node.gpus.map((gpu) => tenths(gpu.utilization_percent)).join();
    if (this.fills.get(name) === text) return [];
    this.fills.set(name, text);
    return [[name, text]];
  }

  private heldIfChanged(fleet: Fleet): Some<Held> | null {
    const found = some(held(fleet.nodes.values()));
    const text = JSON.stringify(found);
    if (text === this.held) return null;
    this.held = text;
    return found;
  }
}

export const some = <T>(all: T[]): Some<T> => ({
  first: all.slice(0, ROWS_MAX),
  number: all.length,
});

function names(fleet: Fleet): Record<string, string> {
  return Object.fromEntries(
    fleet.overview.evictions.map(({ node }) => [node, fleet.nodes.get(node)?.name ?? node]),
  );
}
