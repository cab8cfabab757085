// How a page follows the fleet: through the shared worker, or by a stream of its own without one.

import { type Link, type Listener, Stream } from "./stream";
import type { Delta, Snapshot } from "./view";

export type FromPage = { kind: "visible"; url: string } | { kind: "hidden" } | { kind: "bye" };
export type ToPage =
  | { kind: "snapshot"; snapshot: Snapshot }
  | { kind: "delta"; delta: Delta }
  | { kind: "link"; link: Link };

interface Line {
  open(): void;
  close(): void;
  leave(): void;
}

/** Follow while the page is visible. */
export function follow(url: string, worker: string, listener: Listener): void {
  const line = sharedLine(url, worker, listener) ?? ownLine(url, listener);
  const look = () => (document.hidden ? line.close() : line.open());
  document.addEventListener("visibilitychange", look);
  // A page that comes out of the back-forward cache is shown again without loading.
  addEventListener("pageshow", (event) => event.persisted && line.open());
  addEventListener("pagehide", () => line.leave());
  look();
}

function sharedLine(url: string, worker: string, listener: Listener): Line | null {
  if (typeof SharedWorker === "undefined") return null;
  let port: MessagePort;
  try {
    port = new SharedWorker(worker).port;
  } catch {
    return null;
  }
  port.onmessage = ({ data }: MessageEvent<ToPage>) => {
    switch (data.kind) {
      case "snapshot":
        return listener.snapshot(data.snapshot);
      case "delta":
        return listener.delta(data.delta);
      case "link":
        return listener.link(data.link);
    }
  };
  const say = (message: FromPage) => port.postMessage(message);
  return {
    open: () => say({ kind: "visible", url }),
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
