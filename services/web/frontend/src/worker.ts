// Shares one stream among all pages of this browser: it allows only six connections to a server.

import { Board, type Picture } from "./board";
import { type Fleet, fromSnapshot, take, toSnapshot } from "./fleet";
import { heardOf } from "./heard";
import type { FromPage, ToPage, Wish } from "./shared";
import { type Link, Stream } from "./stream";
import type { Delta, Snapshot } from "./view";

/** How long the stream is kept when no page is visible. */
const LINGER_MS = 5_000;

/** What each page wants; null while it is hidden. */
const pages = new Map<MessagePort, Wish | null>();
const board = new Board();
let fleet: Fleet | null = null;
let link: Link = "connecting";
let stream: Stream | null = null;
let linger = 0;

function tell(message: (wish: Wish) => ToPage): void {
  for (const [port, wish] of pages) if (wish) port.postMessage(message(wish));
}

function wantsPictures(): boolean {
  return [...pages.values()].some((wish) => wish?.what === "large");
}

function start(url: string): Stream {
  return new Stream(url, {
    snapshot(snapshot, identity) {
      const known = fromSnapshot(snapshot, identity);
      fleet = known;
      const picture = wantsPictures() ? board.whole(known) : null;
      const whole = toSnapshot(known);
      tell((wish) => everything(wish, whole, identity, picture));
    },
    delta(delta, identity) {
      if (!fleet) return;
      take(fleet, delta, identity);
      const picture = wantsPictures() ? board.changed(fleet, delta) : null;
      tell((wish) => changes(wish, delta, identity, picture));
    },
    link(now) {
      if (now === link) return;
      link = now;
      tell(() => ({ kind: "link", link }));
    },
  });
}

function everything(
  wish: Wish,
  snapshot: Snapshot,
  identity: string,
  picture: Picture | null,
): ToPage {
  if (wish.what === "past") return { kind: "heard", heard: heardOf(snapshot, identity, wish.only) };
  if (wish.what === "large" && picture) return { kind: "picture", picture };
  if (wish.only === null) return { kind: "snapshot", snapshot, identity };
  const nodes = snapshot.nodes.filter(({ node }) => node === wish.only);
  return { kind: "snapshot", snapshot: { ...snapshot, nodes }, identity };
}

function changes(wish: Wish, delta: Delta, identity: string, picture: Picture | null): ToPage {
  if (wish.what === "past") return { kind: "heard", heard: heardOf(delta, identity, wish.only) };
  if (wish.what === "large" && picture) return { kind: "picture", picture };
  return { kind: "delta", delta: deltaFor(wish, delta), identity };
}

function deltaFor({ only }: Wish, delta: Delta): Delta {
  if (only === null) return delta;
  return {
    ...delta,
    nodes: delta.nodes.filter(({ node }) => node === only),
    readings: delta.readings.filter(({ node }) => node === only),
  };
}

function welcome(port: MessagePort, wish: Wish): void {
  clearTimeout(linger);
  if (stream?.isOpen && fleet) {
    const picture = wish.what === "large" ? board.whole(fleet) : null;
    port.postMessage(everything(wish, toSnapshot(fleet), fleet.identity, picture));
  } else {
    link = "connecting";
    stream?.open();
  }
  const state: ToPage = { kind: "link", link };
  port.postMessage(state);
}

function rest(): void {
  clearTimeout(linger);
  if ([...pages.values()].some(Boolean)) return;
  linger = self.setTimeout(() => {
    stream?.close();
    fleet = null;
  }, LINGER_MS);
}

self.addEventListener("connect", (event) => {
  const port = (event as MessageEvent).ports[0];
  if (!port) return;
  port.onmessage = ({ data }: MessageEvent<FromPage>) => {
    switch (data.kind) {
      case "visible":
        stream ??= start(data.url);
        pages.set(port, data);
        welcome(port, data);
        break;
      case "hidden":
        pages.set(port, null);
        rest();
        break;
      case "bye":
        pages.delete(port);
        rest();
        break;
    }
  };
});
