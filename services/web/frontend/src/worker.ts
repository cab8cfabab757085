// Shares one stream among all pages of this browser: it allows only six connections to a server.

import { type Fleet, fromSnapshot, take, toSnapshot } from "./fleet";
import { type Link, Stream } from "./stream";
import type { FromPage, ToPage } from "./shared";

/** How long the stream is kept when no page is visible. */
const LINGER_MS = 5_000;

const pages = new Map<MessagePort, boolean>();
let fleet: Fleet | null = null;
let link: Link = "connecting";
let stream: Stream | null = null;
let linger = 0;

function tell(message: ToPage): void {
  for (const [port, isVisible] of pages) if (isVisible) port.postMessage(message);
}

function start(url: string): Stream {
  return new Stream(url, {
    snapshot(snapshot) {
      fleet = fromSnapshot(snapshot);
      tell({ kind: "snapshot", snapshot });
    },
    delta(delta) {
      if (!fleet) return;
      take(fleet, delta);
      tell({ kind: "delta", delta });
    },
    link(now) {
      if (now === link) return;
      link = now;
      tell({ kind: "link", link });
    },
  });
}

function welcome(port: MessagePort): void {
  clearTimeout(linger);
  if (stream?.isOpen && fleet) {
    const snapshot: ToPage = { kind: "snapshot", snapshot: toSnapshot(fleet) };
    port.postMessage(snapshot);
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
        pages.set(port, true);
        welcome(port);
        break;
      case "hidden":
        pages.set(port, false);
        rest();
        break;
      case "bye":
        pages.delete(port);
        rest();
        break;
    }
  };
});
