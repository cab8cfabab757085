// The grid of a large fleet. The server's HTML is adopted as it is; afterwards only the tiles that
// changed are touched, one attribute each. Drawing 8,000 tiles by a template takes twice as long
// per tick as the whole page may.

import { html, render } from "lit";
import { badges, type Where } from "./base";
import type { Row, Tile } from "./board";
import { type Filter, isEmpty, takes } from "./filter";

interface Shown {
  row: Row;
  element: HTMLElement;
  tiles: HTMLElement[];
}

export class LargeGrid {
  private readonly rows = new Map<string, Shown>();
  private matching = 0;
  private known = 0;

  constructor(
    private readonly place: HTMLElement,
    private readonly where: Where,
    private filter: Filter,
  ) {}

  get count(): { matching: number; known: number } {
    return { matching: this.matching, known: this.known };
  }

  show(rows: Row[], fills: [string, string][], gone: string[], isWhole: boolean): void {
    if (isWhole) {
      const names = new Set(rows.map((row) => row.node));
      for (const name of this.rows.keys()) if (!names.has(name)) this.drop(name);
      for (const element of [...this.place.children]) {
        if (!names.has(element.id.slice(4))) element.remove();
      }
    }
    for (const row of rows) this.put(row);
    for (const [name, texts] of fills) this.fill(name, texts);
    for (const name of gone) this.drop(name);
    if (rows.length || gone.length) this.countAll();
  }

  sift(filter: Filter): void {
    this.filter = filter;
    for (const shown of this.rows.values()) this.hide(shown);
    this.countAll();
  }

  private put(row: Row): void {
    const before = this.rows.get(row.node);
    const element =
      before?.element ?? document.getElementById(`row-${row.node}`) ?? this.newElement(row.node);
    let tiles = before?.tiles ?? [...element.querySelectorAll<HTMLElement>("a.tile")];
    const known = before?.row ?? null;
    const isSame = tiles.length === row.tiles.length && hrefsAre(tiles, row, this.where, known);
    if (!isSame) tiles = this.fillElement(element, row);
    else if (known ? headText(known) !== headText(row) : true) this.head(element, row);
    row.tiles.forEach((tile, number) => {
      const place = tiles[number];
      if (place) change(place, row, tile, isSame ? known?.tiles[number] : undefined);
    });
    const shown = { row, element, tiles };
    this.rows.set(row.node, shown);
    if (!isEmpty(this.filter) || element.hidden) this.hide(shown);
  }

  private fill(name: string, fills: string): void {
    const shown = this.rows.get(name);
    if (!shown) return;
    fills.split(",").forEach((value, number) => {
      const tile = shown.row.tiles[number];
      if (!tile || tile.fill === value) return;
      tile.fill = value;
      shown.tiles[number]?.setAttribute("data-fill", value);
    });
  }

  private drop(name: string): void {
    this.rows.get(name)?.element.remove();
    this.rows.delete(name);
  }

  private newElement(name: string): HTMLElement {
    const element = document.createElement("div");
    element.className = "row";
    element.id = `row-${name}`;
    // Rows stand by name, so the first with a later one comes behind.
    const later = [...this.place.children].find((other) => other.id > element.id);
    this.place.insertBefore(element, later ?? null);
    return element;
  }

  private fillElement(element: HTMLElement, row: Row): HTMLElement[] {
    element.replaceChildren(document.createElement("h3"));
    const list = document.createElement("ul");
    list.className = "tiles";
    const tiles = row.tiles.map((tile) => {
      const link = document.createElement("a");
      link.setAttribute("href", href(this.where, row, tile));
      const item = document.createElement("li");
      item.append(link);
      list.append(item);
      return link;
    });
    if (tiles.length) element.append(list);
    this.head(element, row);
    return tiles;
  }

  private head(element: HTMLElement, row: Row): void {
    element.dataset["presence"] = row.presence;
    const heading = document.createElement("h3");
    render(
      html`<a href="${this.where.root}node/${row.node}">${row.name}</a>${badges(row)}`,
      heading,
    );
    element.querySelector("h3")?.replaceWith(heading);
  }

  private hide({ row, element, tiles }: Shown): void {
    let isAny = isEmpty(this.filter);
    row.tiles.forEach((tile, number) => {
      const isTaken = takes(this.filter, { ...row, ...tile });
      isAny ||= isTaken;
      const item = tiles[number]?.parentElement;
      if (item && item.hidden === isTaken) item.hidden = !isTaken;
    });
    if (element.hidden === isAny) element.hidden = !isAny;
  }

  private countAll(): void {
    this.known = 0;
    this.matching = 0;
    const all = isEmpty(this.filter);
    for (const { row } of this.rows.values()) {
      this.known += row.tiles.length;
      if (all) this.matching += row.tiles.length;
      else for (const tile of row.tiles) if (takes(this.filter, { ...row, ...tile })) this.matching++;
    }
  }
}

const href = (where: Where, row: Row, tile: Tile): string =>
  `${where.root}node/${row.node}#${row.node}-${tile.gpu}`;

function hrefsAre(tiles: HTMLElement[], row: Row, where: Where, known: Row | null): boolean {
  return row.tiles.every((tile, number) =>
    known
      ? known.tiles[number]?.gpu === tile.gpu
      : tiles[number]?.getAttribute("href") === href(where, row, tile),
  );
}

/** What the head of a row shows. */
function headText({ name, presence, simulated, paused, drained, driver }: Row): string {
  return JSON.stringify([name, presence, simulated, paused, drained, driver]);
}

function change(place: HTMLElement, row: Row, tile: Tile, before: Tile | undefined): void {
  const className = `tile s-${tile.state}`;
  if (before ? before.state !== tile.state : place.className !== className) {
    place.className = className;
  }
  if (before ? before.fill !== tile.fill : place.getAttribute("data-fill") !== tile.fill) {
    place.setAttribute("data-fill", tile.fill);
  }
  if (!before || before.words !== tile.words) place.title = `${row.name}${tile.words}`;
}
