// One EventSource that is opened again whenever it fails or falls silent.

import type { Delta, Snapshot } from "./view";

export type Link = "connecting" | "live" | "lost";

export interface Listener {
  /** With the identity of the event. */
  snapshot(snapshot: Snapshot, identity: string): void;
  delta(delta: Delta, identity: string): void;
  link(link: Link): void;
}

/** The server says something at least every 6 s. */
const SILENT_MS = 15_000;
const RETRY_MS = 2_000;

export class Stream {
  private source: EventSource | null = null;
  private silence = 0;
  private retry = 0;

  constructor(
    private readonly url: string,
    private readonly listener: Listener,
  ) {}

  get isOpen(): boolean {
    return this.source !== null || this.retry !== 0;
  }

  open(): void {
    if (this.isOpen) return;
    this.listener.link("connecting");
    this.connect();
  }

  close(): void {
    clearTimeout(this.silence);
    clearTimeout(this.retry);
    this.retry = 0;
    this.source?.close();
    this.source = null;
  }

  private connect(): void {
    this.retry = 0;
    const source = new EventSource(this.url);
    this.source = source;
    this.listen();
    source.addEventListener("snapshot", (event) => {
      this.heard();
      this.listener.snapshot(JSON.parse(event.data), event.lastEventId);
    });
    source.addEventListener("delta", (event) => {
      this.heard();
      this.listener.delta(JSON.parse(event.data), event.lastEventId);
    });
    source.addEventListener("error", () => {
      this.listener.link("lost");
      // A browser gives up on its own after an answer that is no stream (a proxy's 502).
      if (source.readyState === EventSource.CLOSED) this.again();
    });
  }

  private heard(): void {
    this.listener.link("live");
    this.listen();
  }

  private listen(): void {
    clearTimeout(this.silence);
    this.silence = self.setTimeout(() => {
      this.listener.link("lost");
      this.again();
    }, SILENT_MS);
  }

  private again(): void {
    this.close();
    this.retry = self.setTimeout(() => this.connect(), RETRY_MS);
  }
}
