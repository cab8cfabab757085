// How numbers and ages are written; services/web/texts.py writes them the same.

const TENTH_OF_AN_HOUR = 360;

export function age(seconds: number): string {
  const whole = Math.max(0, Math.trunc(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.trunc(whole / 60);
  const hours = Math.trunc(whole / 3600);
  const days = Math.trunc(whole / 86400);
  if (hours === 0) return `${minutes} min`;
  if (days === 0) return `${hours} h ${minutes % 60} min`;
  return `${days} d ${hours % 24} h`;
}

export function gibibytes(bytes: number | null | undefined): string {
  if (bytes == null) return "–";
  const amount = bytes / 2 ** 30;
  return amount < 100 ? amount.toFixed(1) : amount.toFixed(0);
}

export function memory(bytes: number | null | undefined): string {
  return bytes == null ? "–" : `${gibibytes(bytes)} GiB`;
}

export function rate(bytesPerSecond: number | null): string {
  return bytesPerSecond === null ? "–" : `${(bytesPerSecond / 1e6).toFixed(1)} MB/s`;
}

export function whole(number: number | null | undefined, unit: string): string {
  return number == null ? "–" : `${Math.round(number)} ${unit}`;
}

export function share(part: number | null, total: number | null): number {
  if (part === null || !total) return 0;
  return Math.max(0, Math.min(100, Math.round((100 * part) / total)));
}

export function milliseconds(seconds: number | null | undefined): string {
  if (seconds == null) return "–";
  if (seconds < 0.01) return `${(seconds * 1000).toFixed(1)} ms`;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  return `${seconds.toFixed(2)} s`;
}

/** In tenths, rounded up, for the fill of a tile; -1: not known. */
export function tenths(percent: number | null): number {
  return percent === null ? -1 : Math.max(0, Math.min(10, Math.ceil(percent / 10)));
}

/** `2026-11-21 14:00`, as the server writes an instant. */
export function minute(at: string): string {
  return new Date(at).toISOString().slice(0, 16).replace("T", " ");
}

/** `14:00:12` */
export function clock(at: string): string {
  return new Date(at).toISOString().slice(11, 19);
}

/** `900 MiB`, and from 1024 on `1.37 GiB`. */
export function amount(bytes: number | null): string {
  if (bytes === null) return "–";
  const mebibytes = bytes / 2 ** 20;
  return mebibytes < 1024 ? `${Math.round(mebibytes)} MiB` : `${(mebibytes / 1024).toFixed(2)} GiB`;
}

/** `5.2`; what would be 0.0 as `1 min` */
export function hours(seconds: number): string {
  return seconds >= TENTH_OF_AN_HOUR ? (seconds / 3600).toFixed(1) : age(seconds);
}

/** In whole percent, and more than 100 where it is more. */
export function ratio(part: number | null, total: number | null): number | null {
  return part === null || !total ? null : Math.round((100 * part) / total);
}

export function level(percent: number | null, low: number, high: number): string {
  if (percent === null) return "none";
  return percent <= low ? "low" : percent <= high ? "mid" : "high";
}

/** The path of a line through a row of percents, in a box of 59 × 100; gaps stay open. */
export function spark(minutes: (number | null)[]): string {
  let path = "";
  let isDrawing = false;
  minutes.forEach((value, x) => {
    if (value !== null) {
      path += `${isDrawing ? "L" : `M${x} ${100 - value}L`}${x} ${100 - value}`;
    }
    isDrawing = value !== null;
  });
  return path;
}

export function sparkText(minutes: (number | null)[]): string {
  const known = minutes.filter((value) => value !== null);
  const mean = known.length ? Math.round(known.reduce((a, b) => a + b, 0) / known.length) : 0;
  return `utilization in the last hour: ${mean} % in the mean, at most ${Math.max(0, ...known)} %`;
}
