/** Numbers and times in words. */

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

/** How much of a limit is used. */
export function formatShare(used: number, total: number, unit: string): string {
  const first = isBytes(unit) || unit === "ms" ? formatAmount(used, unit) : formatAmount(used, "");
  return `${first} of ${formatAmount(total, unit)}`;
}

/** A limit's value with its unit; byte counts become readable. */
export function formatAmount(value: number, unit: string): string {
  if (isBytes(unit)) return formatBytes(value);
  if (unit === "ms") return formatDuration(value);
  if (unit === "s" || unit === "seconds") return formatDuration(value * 1000);
  const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 3 }).format(value);
  return unit === "" || unit === "count" ? plain : `${plain} ${unit}`;
}

function isBytes(unit: string): boolean {
  return unit === "bytes" || unit === "byte" || unit === "B";
}

export function formatDuration(milliseconds: number): string {
  const seconds = milliseconds / 1000;
  if (seconds < 1) return `${Math.max(0, Math.round(milliseconds))} ms`;
  if (seconds < 60) return `${Number(seconds.toFixed(1))} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return withRest(minutes, "min", Math.round(seconds % 60), "s");
  return withRest(Math.floor(minutes / 60), "h", minutes % 60, "min");
}

function withRest(large: number, largeUnit: string, small: number, smallUnit: string): string {
  return small === 0 ? `${large} ${largeUnit}` : `${large} ${largeUnit} ${small} ${smallUnit}`;
}

/** "just now", "5 minutes ago", or the date. */
export function formatAgo(timestamp: number, now = Date.now()): string {
  const seconds = Math.round((now - timestamp) / 1000);
  if (seconds < 45) return "just now";
  if (seconds < 3600) return plural(Math.max(1, Math.round(seconds / 60)), "minute") + " ago";
  if (seconds < 86_400) return plural(Math.round(seconds / 3600), "hour") + " ago";
  return new Date(timestamp).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** A name from code, for people: `filename_prefix` becomes "Filename prefix". */
export function humanName(name: string): string {
  const words = name.replace(/[_-]+/g, " ").replace(/([a-z])([A-Z])/g, "$1 $2").trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
}
