/**
 * JSON that does not damage large integers. Seeds go up to 2^64 - 1, but a JavaScript number is exact only up to 2^53;
 * such integers become `bigint` on the way in and are written digit by digit on the way out. Browsers without
 * `JSON.rawJSON` (before 2025) fall back to plain numbers.
 */
import type { Json } from "./types";

interface ReviverContext {
  source?: string;
}

type RawJson = { rawJSON?: (text: string) => unknown };

const rawJson = (JSON as unknown as RawJson).rawJSON;

/** True when this browser keeps large integers exact. */
export const keepsLargeIntegers = typeof rawJson === "function";

/** Parses JSON. Python's bare `NaN` and `Infinity` are read as null. Throws `SyntaxError` like `JSON.parse`. */
export function parseJson(text: string): Json {
  try {
    return JSON.parse(text, revive as (key: string, value: unknown) => unknown) as Json;
  } catch (error) {
    const cleaned = withoutNonFinite(text);
    if (cleaned === text) throw error;
    return JSON.parse(cleaned, revive as (key: string, value: unknown) => unknown) as Json;
  }
}

/** Writes JSON; `bigint`s become plain integers. */
export function stringifyJson(value: unknown, indent?: number): string {
  return JSON.stringify(
    value,
    (_key, item: unknown) => {
      if (typeof item !== "bigint") return item;
      return rawJson ? rawJson(item.toString()) : Number(item);
    },
    indent,
  );
}

/** A deep copy of a JSON value. */
export function cloneJson<T>(value: T): T {
  return structuredClone(value);
}

export function isObject(value: unknown): value is { [key: string]: Json } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function revive(_key: string, value: unknown, context?: ReviverContext): unknown {
  if (typeof value !== "number" || Number.isSafeInteger(value)) return value;
  const source = context?.source;
  if (rawJson && source !== undefined && /^-?\d+$/.test(source)) return BigInt(source);
  return value;
}

/** Replaces `NaN`, `Infinity` and `-Infinity` outside of strings by `null`. */
function withoutNonFinite(text: string): string {
  return text.replace(/"(?:[^"\\]|\\.)*"|-?\b(?:NaN|Infinity)\b/g, (part) => (part.startsWith('"') ? part : "null"));
}
