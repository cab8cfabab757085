// How a page follows the fleet: through the shared worker, or by a stream of its own without one.

import { Board, type Picture } from "./board";
import { type Fleet, fromSnapshot, take } from "./fleet";
import { type Heard, heardOf } from "./heard";
import { type Link, type Listener, Stream } from "./stream";
import type { Delta, Snapshot } from "./view";

/** What a page wants to hear: all there is of one node or all, pictures of a large fleet, or just
 * whether there is something new. */
export type Wish = { what: "all" | "large" | "past"; only: string | null };
export type FromPage =
  | ({ kind: "visible"; url: string } & Wish)
  | { kind: "hidden" }
  | { kind: "bye" };
export type ToPage =
  | { kind: "snapshot"; snapshot: Snapshot; identity: string }
  | { kind: "delta"; delta: Delta; identity: string }
  | { kind: "heard"; heard: Heard }
  | { kind: "picture"; picture: Picture }
  | { kind: "link"; link: Link };

export interface LargeListener {
  picture(picture: Picture): void;
  link(link: Link): void;
}

export interface PastListener {
  heard(heard: Heard): void;
  link(link: Link): void;
}

interface Line {
  open(): void;
  close(): void;
  leave(): void;
}

/** Follow everything, or one node, while the page is visible. */
export function follow(url: string, worker: string, listener: Listener, only?: string): void {
  const hear = (message: ToPage) => {
    if (message.kind === "snapshot") listener.snapshot(message.snapshot, message.identity);
    else if (message.kind === "delta") listener.delta(message.delta, message.identity);
    else if (message.kind === "link") listener.link(message.link);
  };
  start(sharedLine(url, worker, { what: "all", only: only ?? null }, hear) ?? ownLine(url, listener));
}

/** Follow a large fleet while the page is visible: the worker tells what is to be seen of it. */
export function followLarge(url: string, worker: string, listener: LargeListener): void {
  const hear = (message: ToPage) => {
    if (message.kind === "picture") listener.picture(message.picture);
    else if (message.kind === "link") listener.link(message.link);
  };
  const wish: Wish = { what: "large", only: null };
  start(sharedLine(url, worker, wish, hear) ?? ownLine(url, withBoard(listener)));
}

/** Hear while the page is visible whether there is something new, and whether a node changed. */
export function followPast(
  url: string,
  worker: string,
  listener: PastListener,
  only: string | null,
): void {
  const hear = (message: ToPage) => {
    if (message.kind === "heard") listener.heard(message.heard);
    else if (message.kind === "link") listener.link(message.link);
  };
  const own: Listener = {
    snapshot: (snapshot, identity) => listener.heard(heardOf(snapshot, identity, only)),
    delta: (delta, identity) => listener.heard(heardOf(delta, identity, only)),
    link: (link) => listener.link(link),
  };
  start(sharedLine(url, worker, { what: "past", only }, hear) ?? ownLine(url, own));
}

/** Without a shared worker the page does its work itself. */
function withBoard(listener: LargeListener): Listener {
  const board = new Board();
  let fleet: Fleet | null = null;
  return {
    snapshot(snapshot, identity) {
      fleet = fromSnapshot(snapshot, identity);
      listener.picture(board.whole(fleet));
    },
    delta(delta, identity) {
      if (!fleet) return;
      take(fleet, delta, identity);
      listener.picture(board.changed(fleet, delta));
    },
    link: (link) => listener.link(link),
  };
}

function start(line: Line): void {
  const look = () => (document.hidden ? line.close() : line.open());
  document.addEventListener("visibilitychange", look);
  // A page that comes out of the back-forward cache is shown again without loading.
  addEventListener("pageshow", (event) => event.persisted && line.open());
  addEventListener("pagehide", () => line.leave());
  look();
}

function sharedLine(
  url: string,
  worker: string,
  wish: Wish,
  hear: (message: ToPage) => void,
): Line | null {
  if (typeof SharedWorker === "undefined") return null;
  let port: MessagePort;
  try {
    port = new SharedWorker(worker).port;
  } catch {
    return null;
  }
  port.onmessage = ({ data }: MessageEvent<ToPage>) => hear(data);
  const say = (message: FromPage) => port.postMessage(message);
  return {
    open: () => say({ kind: "visible", url, ...wish }),
    close: () => say({ kind: "hidden" }),
    leave: () => say({ kind: "bye" }),
  };
}

function ownLine(url: string, listener: Listener): Line {
  const stream = new Stream(url, listener);
  return {
    open: () => stream.open(),
    close: () => stream.close(),
    leave: () => stream.close(),
  };
}
