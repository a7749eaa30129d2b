/** A workflow as this page holds it, and how it is read from files, pasted text and images. */
import { ConversionError, convertUiToApi } from "./convert/ui-to-api";
import type { Binding } from "./convert/ui-to-api";
import type { ControlMode } from "./convert/widgets";
import { cloneJson, isObject, parseJson } from "./json";
import { asLink } from "./object-info";
import { isPng, readPngText } from "./png";
import type { Json, JsonObject, ObjectInfo, Prompt } from "./types";

export interface WorkflowDocument {
  name: string;
  prompt: Prompt;
  /** The graph editor's file, if there was one: it goes into saved images, so that an editor can open them again. */
  ui: JsonObject | null;
  bindings: Binding[];
  /** What happens to a seed after each run: node id, then input name. */
  controls: Record<string, Record<string, ControlMode>>;
  warnings: string[];
}

/** The text or file holds no workflow; the message is for the user. */
export class WorkflowError extends Error {}

export async function workflowFromFile(file: File, objectInfo: ObjectInfo): Promise<WorkflowDocument> {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const name = file.name.replace(/\.(json|png)$/i, "");
  if (isPng(bytes)) return workflowFromPng(bytes, name, objectInfo);
  if (file.type.startsWith("image/")) {
    throw new WorkflowError(`"${file.name}" is an image but not a PNG. Only PNG images carry a workflow that this page can read.`);
  }
  return workflowFromText(new TextDecoder().decode(bytes), name, objectInfo);
}

export async function workflowFromPng(bytes: Uint8Array, name: string, objectInfo: ObjectInfo): Promise<WorkflowDocument> {
  const texts = await readPngText(bytes);
  const prompt = texts.get("prompt");
  const ui = texts.get("workflow");
  if (prompt === undefined && ui === undefined) {
    throw new WorkflowError(`"${name}" is a PNG without a workflow inside. Images keep theirs only when they were saved by a workflow run and not edited since.`);
  }
  return workflowFromParts(parsed(prompt, name), parsed(ui, name), name, objectInfo);
}

/** Reads API form, UI form, or an object with both under `prompt` and `workflow`. */
export function workflowFromText(text: string, name: string, objectInfo: ObjectInfo): WorkflowDocument {
  const value = parsed(text, name) ?? null;
  if (!isObject(value)) throw notAWorkflow(name);
  if (isUiFormat(value)) return workflowFromParts(null, value, name, objectInfo);
  if (isApiFormat(value)) return workflowFromParts(value, null, name, objectInfo);
  const prompt = isObject(value["prompt"]) ? value["prompt"] : null;
  const inner = isObject(value["workflow"]) ? value["workflow"] : pngInfoWorkflow(value);
  if (prompt || inner) return workflowFromParts(prompt, inner, name, objectInfo);
  throw notAWorkflow(name);
}

/** The UI file with the form's present values written into it, for saved images. */
export function uiWithValues(document: WorkflowDocument): JsonObject | null {
  if (!document.ui) return null;
  const ui = cloneJson(document.ui);
  for (const { node, input, path } of document.bindings) {
    const value = document.prompt[node]?.inputs[input];
    if (value !== undefined && !asLink(value)) setAt(ui, path, unwrapped(value));
  }
  return ui;
}

export function isApiFormat(value: JsonObject): boolean {
  const nodes = Object.values(value);
  return nodes.length > 0 && nodes.every((node) => isObject(node) && typeof node["class_type"] === "string");
}

export function isUiFormat(value: JsonObject): boolean {
  return Array.isArray(value["nodes"]);
}

/** A list as a widget's value is wrapped in API form, since a bare list of two would be a link. */
export function unwrapped(value: Json): Json {
  return isObject(value) && "__value__" in value ? (value["__value__"] ?? null) : value;
}

function workflowFromParts(prompt: Json | undefined | null, ui: Json | undefined | null, name: string, objectInfo: ObjectInfo): WorkflowDocument {
  const uiFile = isObject(ui) && isUiFormat(ui) ? ui : null;
  const apiForm = isObject(prompt) && isApiFormat(prompt) ? readPrompt(prompt) : null;
  if (!uiFile) {
    if (!apiForm) throw notAWorkflow(name);
    return { name, prompt: apiForm, ui: null, bindings: [], controls: {}, warnings: [] };
  }
  // With both at hand the API form has the values of the run, and the UI file has titles and what happens to seeds.
  try {
    const converted = convertUiToApi(uiFile, objectInfo);
    if (Object.keys(apiForm ?? converted.prompt).length === 0) throw new WorkflowError(`"${name}" has no nodes that would run.`);
    return { name, ui: uiFile, ...converted, ...(apiForm ? { prompt: apiForm, warnings: [] } : {}) };
  } catch (error) {
    if (!apiForm || !(error instanceof ConversionError)) throw error;
    return { name, prompt: apiForm, ui: uiFile, bindings: [], controls: {}, warnings: [] };
  }
}

function readPrompt(value: JsonObject): Prompt {
  const prompt: Prompt = {};
  for (const [id, node] of Object.entries(value)) {
    if (!isObject(node)) continue;
    prompt[id] = { ...node, class_type: String(node["class_type"]), inputs: isObject(node["inputs"]) ? node["inputs"] : {} };
  }
  return prompt;
}

function parsed(text: string | undefined, name: string): Json | undefined {
  if (text === undefined) return undefined;
  try {
    return parseJson(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new WorkflowError(`"${name}" is not valid JSON: ${reason}`);
  }
}

function pngInfoWorkflow(value: JsonObject): JsonObject | null {
  const extra = isObject(value["extra_data"]) ? value["extra_data"]["extra_pnginfo"] : null;
  return isObject(extra) && isObject(extra["workflow"]) ? extra["workflow"] : null;
}

function notAWorkflow(name: string): WorkflowError {
  return new WorkflowError(
    `"${name}" is JSON but not a workflow. Expected the API form (node ids with class_type and inputs) or the form that a graph editor saves (nodes and links).`,
  );
}

function setAt(root: JsonObject, path: (string | number)[], value: Json): void {
  let at: Json = root;
  for (const key of path.slice(0, -1)) {
    at = (at as Record<string | number, Json>)[key] ?? null;
    if (typeof at !== "object" || at === null) return;
  }
  const last = path[path.length - 1];
  if (last !== undefined) (at as Record<string | number, Json>)[last] = value;
}
