// Rows that come in at the top: into the page, unless somebody reads there; then it is told how many.

/** So many stand on a page; more are not counted. */
const ROWS_MAX = 100;

const rowsOf = (root: ParentNode) =>
  root.querySelector<HTMLTableSectionElement>("tbody[data-rows]");
const identities = (root: ParentNode) =>
  new Set(Array.from(rowsOf(root)?.rows ?? [], (row) => row.id));

export class Rows {
  /** What somebody knows who turned to an older page; null: this is the newest page. */
  private known: Set<string> | null = null;
  private readonly notice = document.querySelector<HTMLAnchorElement>("#newer a");

  /** `look` asks for the page again. */
  constructor(private readonly look: () => void) {
    if (this.isOlder) return;
    this.notice?.addEventListener("click", (event) => {
      event.preventDefault();
      getSelection()?.removeAllRanges();
      (document.activeElement as HTMLElement | null)?.blur();
      rowsOf(document)?.closest("section")?.scrollIntoView();
      this.look();
    });
    addEventListener("scroll", () => this.isTelling && !this.isRead() && this.look(), {
      passive: true,
    });
  }

  /** The address of the newest page, where this is an older one. */
  get isOlder(): boolean {
    return this.notice?.dataset["older"] !== undefined;
  }

  /** Take in fresh rows; return whether the page may be changed to what is left of `fresh`. */
  take(fresh: Document): boolean {
    if (this.isOlder) {
      // What is there at the beginning is what the reader came from.
      this.known ??= identities(fresh);
      this.tell(fresh, this.known);
      return false;
    }
    const [shown, coming] = [rowsOf(document), rowsOf(fresh)];
    if (shown && coming && this.isRead()) {
      this.tell(fresh, identities(document));
      const rows = new Map(Array.from(coming.rows, (row) => [row.id, row]));
      const kept = Array.from(shown.rows, (row) => rows.get(row.id) ?? row.cloneNode(true));
      coming.replaceChildren(...kept);
    } else if (coming) {
      this.tell(fresh, identities(fresh));
      const before = identities(document);
      for (const row of coming.rows) row.classList.toggle("arrived", !before.has(row.id));
    }
    return true;
  }

  private get isTelling(): boolean {
    return this.notice !== null && !this.notice.hidden;
  }

  /** New rows would move what somebody looks at, has marked, or has come to by keyboard. */
  private isRead(): boolean {
    const rows = rowsOf(document);
    if (!rows) return false;
    const marked = getSelection();
    const covered = document.querySelector<HTMLElement>("header.top")?.offsetHeight ?? 0;
    return (
      rows.getBoundingClientRect().top < covered ||
      (marked !== null && !marked.isCollapsed && marked.containsNode(rows, true)) ||
      rows.contains(document.activeElement)
    );
  }

  private tell(fresh: Document, known: Set<string>): void {
    if (!this.notice) return;
    const number = [...identities(fresh)].filter((one) => !known.has(one)).length;
    const what = this.notice.dataset["what"] ?? "";
    const many = number < ROWS_MAX ? String(number) : `${ROWS_MAX} or more`;
    this.notice.hidden = !number;
    this.notice.textContent = number ? `${many} new ${what}${number === 1 ? "" : "s"}` : "";
  }
}
