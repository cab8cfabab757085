// Shares one stream among all pages of this browser: it allows only six connections to a server.

import { Board, type Picture } from "./board";
import { type Fleet, fromSnapshot, take, toSnapshot } from "./fleet";
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
  return [...pages.values()].some((wish) => wish?.isLarge);
}

function start(url: string): Stream {
  return new Stream(url, {
    snapshot(snapshot) {
      const known = fromSnapshot(snapshot);
      fleet = known;
      const picture = wantsPictures() ? board.whole(known) : null;
      const whole = toSnapshot(known);
      tell((wish) => everything(wish, whole, picture));
    },
    delta(delta) {
      if (!fleet) return;
      take(fleet, delta);
      const picture = wantsPictures() ? board.changed(fleet, delta) : null;
      tell((wish) =>
        wish.isLarge && picture
          ? { kind: "picture", picture }
          : { kind: "delta", delta: deltaFor(wish, delta) },
      );
    },
    link(now) {
      if (now === link) return;
      link = now;
      tell(() => ({ kind: "link", link }));
    },
  });
}

function everything(wish: Wish, snapshot: Snapshot, picture: Picture | null): ToPage {
  if (wish.isLarge && picture) return { kind: "picture", picture };
  if (wish.only === null) return { kind: "snapshot", snapshot };
  const nodes = snapshot.nodes.filter(({ node }) => node === wish.only);
  return { kind: "snapshot", snapshot: { ...snapshot, nodes } };
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
    const picture = wish.isLarge ? board.whole(fleet) : null;
    port.postMessage(everything(wish, toSnapshot(fleet), picture));
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
