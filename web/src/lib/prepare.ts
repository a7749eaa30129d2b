/** What happens to a workflow's values at the moment it is queued, and to its seeds afterwards. */
import type { ControlMode } from "./convert/widgets";
import { cloneJson } from "./json";
import { asLink, inputSpecs } from "./object-info";
import type { InputSpec } from "./object-info";
import type { Json, ObjectInfo, Prompt } from "./types";
import type { WorkflowDocument } from "./workflow";

type Random = () => number;

/**
 * The prompt as it is sent: `{a|b}` choices are drawn in texts that allow them, and `%date:…%` and `%Node title.input%`
 * are filled in inside file name prefixes. The server does neither.
 */
export function preparePrompt(prompt: Prompt, objectInfo: ObjectInfo, now = new Date(), random: Random = Math.random): Prompt {
  const prepared = cloneJson(prompt);
  for (const node of Object.values(prepared)) {
    const info = objectInfo[node.class_type];
    for (const spec of info ? inputSpecs(info) : []) {
      const value = node.inputs[spec.name];
      if (typeof value !== "string") continue;
      if (spec.options["dynamicPrompts"] === true) node.inputs[spec.name] = drawChoices(value, random);
      if (spec.name === "filename_prefix") node.inputs[spec.name] = fillPrefix(value, prompt, now);
    }
  }
  return prepared;
}

/** Replaces each `{a|b|c}` by one of its parts, from the inside out. `\{` stays a brace. */
export function drawChoices(text: string, random: Random = Math.random): string {
  const innermost = /(?<!\\)\{((?:\\.|[^{}\\])*)(?<!\\)\}/;
  let result = text;
  for (let round = 0; round < 1000; round += 1) {
    const found = innermost.exec(result);
    if (!found) break;
    const parts = (found[1] ?? "").split("|");
    const part = parts[Math.floor(random() * parts.length)] ?? "";
    result = result.slice(0, found.index) + part + result.slice(found.index + found[0].length);
  }
  return result.replace(/\\([{}|])/g, "$1");
}

/** Fills `%date:yyyy-MM-dd%` and `%Node title.input%`; anything else between percent signs is left to the server. */
export function fillPrefix(text: string, prompt: Prompt, now: Date): string {
  return text.replace(/%([^%]+)%/g, (whole, inside: string) => {
    if (inside.startsWith("date:")) return formatDate(inside.slice("date:".length), now);
    const dot = inside.lastIndexOf(".");
    if (dot < 0) return whole;
    const [title, input] = [inside.slice(0, dot), inside.slice(dot + 1)];
    const node = Object.values(prompt).find((candidate) => candidate._meta?.title === title || candidate.class_type === title);
    const value = node?.inputs[input];
    return value === undefined || value === null || typeof value === "object" ? whole : safeInName(String(value));
  });
}

/** The document after a run was queued: seeds move on as their controls say. */
export function afterQueueing(document: WorkflowDocument, objectInfo: ObjectInfo, random: Random = Math.random): WorkflowDocument {
  const prompt = { ...document.prompt };
  for (const [id, controls] of Object.entries(document.controls)) {
    const node = prompt[id];
    const info = node && objectInfo[node.class_type];
    if (!info) continue;
    const inputs = { ...node.inputs };
    for (const spec of inputSpecs(info)) {
      const mode = controls[spec.name];
      const value = inputs[spec.name];
      if (mode && value !== undefined && !asLink(value)) inputs[spec.name] = nextValue(spec, value, mode, random);
    }
    prompt[id] = { ...node, inputs };
  }
  return { ...document, prompt };
}

/** A random value for a seed: at most 2^53 - 1, so that every program reads it back exactly. */
export function randomSeed(spec: { min?: number | bigint; max?: number | bigint }, random: Random = Math.random): number {
  const low = Math.max(0, Number(spec.min ?? 0));
  const high = Math.min(Number(spec.max ?? Number.MAX_SAFE_INTEGER), Number.MAX_SAFE_INTEGER);
  return low + Math.floor(random() * (high - low));
}

function nextValue(spec: InputSpec, value: Json, mode: ControlMode, random: Random): Json {
  if (mode === "fixed") return value;
  if (spec.kind === "combo") return nextChoice(spec.choices, value, mode, random);
  if (spec.kind !== "int" && spec.kind !== "float") return value;
  if (mode === "randomize") return spec.kind === "int" ? randomSeed(spec, random) : value;
  if (typeof value !== "number" && typeof value !== "bigint") return value;
  const step = BigInt(mode === "increment" ? 1 : -1);
  const next = typeof value === "bigint" ? value + step : value + Number(step) * (spec.kind === "int" ? 1 : (spec.step ?? 1));
  const tooLow = spec.min !== undefined && next < spec.min;
  const tooHigh = spec.max !== undefined && next > spec.max;
  return tooLow || tooHigh ? value : next;
}

function nextChoice(choices: Json[], value: Json, mode: ControlMode, random: Random): Json {
  if (choices.length === 0) return value;
  const at = choices.indexOf(value);
  const target = mode === "randomize" ? Math.floor(random() * choices.length) : at + (mode === "increment" ? 1 : -1);
  return choices[Math.max(0, Math.min(choices.length - 1, target))] ?? value;
}

function formatDate(format: string, now: Date): string {
  const pad = (value: number) => String(value).padStart(2, "0");
  const year = String(now.getFullYear());
  const parts: Record<string, string> = {
    yyyy: year,
    yy: year.slice(-2),
    MM: pad(now.getMonth() + 1),
    M: String(now.getMonth() + 1),
    dd: pad(now.getDate()),
    d: String(now.getDate()),
    hh: pad(now.getHours()),
    h: String(now.getHours()),
    mm: pad(now.getMinutes()),
    m: String(now.getMinutes()),
    ss: pad(now.getSeconds()),
    s: String(now.getSeconds()),
  };
  return format.replace(/yyyy|yy|MM|M|dd|d|hh|h|mm|m|ss|s/g, (part) => parts[part] ?? part);
}

/** Characters that no file name should hold become `_`. */
function safeInName(text: string): string {
  return text.replace(/[/\\?%*:|"<>\u0000-\u001f\u007f]/g, "_");
}
