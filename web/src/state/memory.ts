/** What outlives a reload: the open workflow, the theme, and the id under which the server knows this tab. */
import { isObject, parseJson, stringifyJson } from "../lib/json";
import { isApiFormat } from "../lib/workflow";
import type { WorkflowDocument } from "../lib/workflow";

export type Theme = "system" | "light" | "dark";

const DOCUMENT_KEY = "vivarium.workflow";
const THEME_KEY = "vivarium.theme";
const CLIENT_KEY = "vivarium.client";

let ownClientId: string | null = null;

/**
 * The id stays the same over a reload. A duplicated tab copies the storage of one that is still open, and two tabs under
 * one id would take each other's messages: so the id is left in the storage only while no page is using it.
 */
export function clientId(): string {
  if (ownClientId === null) {
    ownClientId = read(sessionStorage, CLIENT_KEY) ?? randomId();
    write(sessionStorage, CLIENT_KEY, null);
    window.addEventListener("pagehide", () => write(sessionStorage, CLIENT_KEY, ownClientId));
    window.addEventListener("pageshow", () => write(sessionStorage, CLIENT_KEY, null));
  }
  return ownClientId;
}

let writeTimer: number | undefined;

/** Written a moment later: every keystroke ends up here. */
export function rememberDocument(document: WorkflowDocument | null): void {
  window.clearTimeout(writeTimer);
  writeTimer = window.setTimeout(() => write(localStorage, DOCUMENT_KEY, document ? stringifyJson(document) : null), 300);
}

export function recallDocument(): WorkflowDocument | null {
  const text = read(localStorage, DOCUMENT_KEY);
  if (!text) return null;
  try {
    const value = parseJson(text);
    const good = isObject(value) && isObject(value["prompt"]) && isApiFormat(value["prompt"]) && Array.isArray(value["bindings"]);
    return good ? (value as unknown as WorkflowDocument) : null;
  } catch {
    return null;
  }
}

export function recallTheme(): Theme {
  const theme = read(localStorage, THEME_KEY);
  return theme === "light" || theme === "dark" ? theme : "system";
}

export function rememberTheme(theme: Theme): void {
  write(localStorage, THEME_KEY, theme === "system" ? null : theme);
}

/** A version 4 UUID, which is how the server would name the prompt too. */
export function promptId(): string {
  const hex = randomId().split("");
  hex[12] = "4";
  hex[16] = "89ab"[parseInt(hex[16] ?? "0", 16) % 4] ?? "8";
  const text = hex.join("");
  return [text.slice(0, 8), text.slice(8, 12), text.slice(12, 16), text.slice(16, 20), text.slice(20)].join("-");
}

/** `crypto.randomUUID` is missing on plain-HTTP addresses other than localhost. */
export function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Storage may be switched off or full; the page works without it. */
function read(storage: Storage, key: string): string | null {
  try {
    return storage.getItem(key);
  } catch {
    return null;
  }
}

function write(storage: Storage, key: string, value: string | null): void {
  try {
    if (value === null) storage.removeItem(key);
    else storage.setItem(key, value);
  } catch {
    // Nothing is lost but convenience.
  }
}
