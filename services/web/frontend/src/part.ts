// A part of a page of the past: asks for itself again when the stream tells of something new.

import { type Heard, isBeyond, type Place, placeOf } from "./heard";

/** After an answer that took long it waits five times as long, for the sake of who answers. */
const REST = 5;
const RETRY_MS = 5_000;
/** It came or went while it was asked. */
const BACK_MS = 1_000;
/** The recorder did not answer, and nobody told that it came back. */
const SILENT_MS = 15_000;
/** What the stream tells when the recorder goes or comes; see live_parts.py. */
const RECORDER = "recorder";

export interface Takes {
  take(part: string, fresh: Document): void;
  /** The recorder did not answer: what is shown stays. */
  unanswered(): void;
  failed(): void;
}

const isSilent = (page: Document): boolean => page.body.dataset["silent"] !== undefined;

export class Part {
  /** What it shows has all that was told up to there. */
  private known: Place;
  private wanted: Place;
  private timer = 0;
  private isAsking = false;
  private isUnanswered = false;
  /** When what it shows was answered in full; null: it was not. */
  private answeredAt: string | null;
  /** In which event the recorder was told to have gone or come. */
  private recorderTold = 0;
  private notBefore: number;
  private readonly kinds: string[];
  private readonly node: string;
  private readonly showsNow: boolean;
  private readonly paceMs: number;

  constructor(
    readonly name: string,
    { kinds = "", node = "", now = "", pace = "1" }: DOMStringMap,
    place: Place,
    private readonly address: () => string,
    private readonly reader: Takes,
  ) {
    this.known = this.wanted = place;
    this.kinds = kinds.split(" ");
    this.node = node;
    this.showsNow = Boolean(now);
    this.paceMs = 1000 * Number(pace);
    // Once a second is no hurry; what shows no more than one point in an hour has just been drawn.
    this.notBefore = this.paceMs > 1000 ? Date.now() + this.paceMs : 0;
    this.isUnanswered = isSilent(document);
    this.answeredAt = this.isUnanswered ? null : (document.body.dataset["at"] ?? null);
    if (this.isUnanswered) this.askAfter(SILENT_MS);
    document.addEventListener("visibilitychange", () => {
      if (isBeyond(this.wanted, this.known)) this.want(this.wanted);
    });
  }

  /** Since when what it shows may be old, for want of an answer. */
  get unansweredSince(): string | null {
    return this.isUnanswered ? this.answeredAt : null;
  }

  hear({ place, news, moved }: Heard): void {
    if (place.life !== this.known.life) return this.want(place);
    for (const { kinds } of news) {
      this.recorderTold = Math.max(this.recorderTold, kinds[RECORDER] ?? 0);
    }
    if (this.isUnanswered && this.isRecorderNew && !this.isAsking) return this.refresh();
    let number = moved && this.showsNow ? place.number : 0;
    for (const { node, kinds } of news) {
      if (node && this.node && node !== this.node) continue;
      for (const kind of this.kinds) number = Math.max(number, kinds[kind] ?? 0);
    }
    if (number > this.known.number) this.want({ life: place.life, number });
  }

  /** Ask at once, whether there is something new or not. */
  refresh(): void {
    this.askAfter(0);
  }

  private get isRecorderNew(): boolean {
    return this.recorderTold > this.known.number;
  }

  private askAfter(pauseMs: number): void {
    this.notBefore = Date.now() + pauseMs;
    clearTimeout(this.timer);
    this.timer = 0;
    this.want({ life: "", number: 0 });
  }

  private want(place: Place): void {
    this.wanted = place;
    if (this.timer || this.isAsking) return;
    this.timer = self.setTimeout(() => void this.ask(), Math.max(0, this.notBefore - Date.now()));
  }

  private async ask(): Promise<void> {
    this.timer = 0;
    const { wanted } = this;
    // When somebody comes back to a hidden page it is asked then.
    if (document.hidden || !isBeyond(wanted, this.known)) return;
    this.isAsking = true;
    const begin = Date.now();
    let pause = this.paceMs;
    try {
      const response = await fetch(this.address(), { cache: "no-store" });
      // It is there no more, and the page says so.
      if (response.status === 404) return location.reload();
      if (!response.ok) throw new Error(String(response.status));
      const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
      const { place } = fresh.body.dataset;
      // Somebody else's answer: of a proxy that wants a password.
      if (!place) throw new Error("another page");
      this.known = placeOf(place);
      pause = Math.max(pause, REST * (Date.now() - begin));
      this.isUnanswered = isSilent(fresh);
      if (this.unansweredSince !== null) {
        this.reader.unanswered();
      } else {
        if (!this.isUnanswered) this.answeredAt = fresh.body.dataset["at"] ?? null;
        this.reader.take(this.name, fresh);
      }
      if (this.wanted === wanted) this.wanted = this.known;
      if (this.isUnanswered) {
        pause = this.isRecorderNew ? BACK_MS : Math.max(pause, SILENT_MS);
        this.wanted = { life: "", number: 0 };
      }
    } catch {
      pause = Math.max(pause, RETRY_MS);
      this.reader.failed();
    }
    this.isAsking = false;
    this.notBefore = Date.now() + pause;
    if (isBeyond(this.wanted, this.known)) this.want(this.wanted);
  }
}
