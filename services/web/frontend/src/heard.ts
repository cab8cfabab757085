// What pages of the past hear of the stream: where it is, what is new, whether a node changed.

import type { Link } from "./stream";
import type { Delta, News, Snapshot } from "./view";

/** An event of the stream: which life of the service, and its number there. */
export interface Place {
  life: string;
  number: number;
}

export interface Heard {
  at: string;
  place: Place;
  news: News[];
  /** Whether facts or readings of the node in question may have changed. */
  moved: boolean;
}

/** By the identity of an event, as the server writes it. */
export function placeOf(identity: string): Place {
  const cut = identity.lastIndexOf("-");
  return { life: identity.slice(0, cut), number: Number(identity.slice(cut + 1)) };
}

/** Another life of the service knows nothing of what was told in this one. */
export const isBeyond = (a: Place, b: Place): boolean => a.life !== b.life || a.number > b.number;

export function heardOf(said: Snapshot | Delta, identity: string, only: string | null): Heard {
  const isOf = (one: { node: string }) => one.node === only;
  return {
    at: said.at,
    place: placeOf(identity),
    news: said.news,
    moved: said.nodes.some(isOf) || said.readings.some(isOf),
  };
}

/** What the script of a node's page passes on to that of its past, so that it needs no line. */
export const HEARD = "gleaner:heard";
export const LINK = "gleaner:link";

export function passOn(name: typeof HEARD | typeof LINK, detail: Heard | Link): void {
  document.dispatchEvent(new CustomEvent(name, { detail }));
}
