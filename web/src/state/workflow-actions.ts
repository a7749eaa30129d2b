/** What a person does with a workflow: open it, change it, run it, stop it. */
import * as api from "../api/client";
import type { ControlMode } from "../lib/convert/widgets";
import { afterQueueing, preparePrompt } from "../lib/prepare";
import { newRun } from "../lib/run";
import type { FileRef, HistoryEntry, Json, JsonObject, ObjectInfo } from "../lib/types";
import { uiWithValues, workflowFromFile, workflowFromPng, workflowFromText } from "../lib/workflow";
import type { WorkflowDocument } from "../lib/workflow";
import { isObject, stringifyJson } from "../lib/json";
import { clientId, promptId, rememberDocument } from "./memory";
import { addRun, doAndRefresh, noteFailure, refreshSoon, removeRun, updateRun } from "./server-actions";
import { getState, setState } from "./store";
import { tell, tellError } from "./toasts";

export async function openFile(file: File): Promise<boolean> {
  return open(() => workflowFromFile(file, definitions()));
}

export async function openText(text: string, name: string): Promise<boolean> {
  return open(async () => workflowFromText(text, name, definitions()));
}

export async function openExample(): Promise<boolean> {
  return open(async () => {
    const text = await api.getExampleWorkflow();
    if (text === null) throw new Error("This server ships no example workflow.");
    return workflowFromText(text, "Example", definitions());
  });
}

/** Opens the workflow that made an image. */
export async function openImageWorkflow(file: FileRef): Promise<boolean> {
  return open(async () => {
    const response = await fetch(api.viewUrl(file));
    if (!response.ok) throw new Error(`The server answered ${response.status} for ${file.filename}.`);
    const bytes = new Uint8Array(await response.arrayBuffer());
    return workflowFromPng(bytes, file.filename.replace(/\.png$/i, ""), definitions());
  });
}

export async function openHistoryEntry(entry: HistoryEntry): Promise<boolean> {
  const [, id, prompt, extra] = entry.prompt;
  const info = isObject(extra["extra_pnginfo"]) ? extra["extra_pnginfo"] : {};
  return openText(stringifyJson({ prompt, workflow: info["workflow"] ?? null }), `Run ${id.slice(0, 8)}`);
}

export function closeDocument(): void {
  show(null);
}

/** Sets one input; `undefined` takes it away. */
export function setInput(node: string, input: string, value: Json | undefined): void {
  edit((document) => {
    const old = document.prompt[node];
    if (!old) return document;
    const inputs = { ...old.inputs };
    if (value === undefined) delete inputs[input];
    else inputs[input] = Array.isArray(value) ? { __value__: value } : value;
    return { ...document, prompt: { ...document.prompt, [node]: { ...old, inputs } } };
  });
  forgetErrors(node, input);
}

export function setControl(node: string, input: string, mode: ControlMode): void {
  edit((document) => ({
    ...document,
    controls: { ...document.controls, [node]: { ...document.controls[node], [input]: mode } },
  }));
}

/** Queues the open workflow `count` times; seeds move on between the runs. */
export async function run(count: number, front: boolean): Promise<void> {
  if (getState().submitting) return;
  setState({ submitting: true, refusal: null, partialErrors: {} });
  try {
    for (let index = 0; index < count; index += 1) {
      if (!(await submitOnce(front))) break;
    }
  } finally {
    setState({ submitting: false });
    refreshSoon();
  }
}

/** Stops a running prompt, or takes a waiting one out of the queue. */
export async function cancel(id: string): Promise<void> {
  const running = getState().queue?.queue_running.some((item) => item[1] === id) || getState().runs[id]?.status === "running";
  await doAndRefresh("The run could not be cancelled", async () => {
    if (running) await api.interrupt(id);
    else {
      await api.changeQueue({ delete: [id] });
      // It may have started in between.
      await api.interrupt(id);
      updateRun(id, (run) => (run.status === "queued" ? { ...run, status: "cancelled" } : run));
    }
  });
}

export async function clearQueue(): Promise<void> {
  const waiting = getState().queue?.queue_pending ?? [];
  await doAndRefresh("The queue could not be cleared", async () => {
    await api.changeQueue({ clear: true });
    for (const [, id] of waiting) updateRun(id, (run) => ({ ...run, status: "cancelled" }));
  });
}

/** Uploads an image and puts its name into a field. */
export async function uploadInto(node: string, input: string, file: File): Promise<void> {
  try {
    const saved = await api.uploadImage(file);
    const name = saved.subfolder ? `${saved.subfolder}/${saved.name}` : saved.name;
    addChoice(node, input, name);
    setInput(node, input, name);
    tell("Image uploaded", name);
  } catch (error) {
    noteFailure(error);
    tellError(`"${file.name}" could not be uploaded`, error);
  }
}

export function downloadDocument(): void {
  const { document: workflow } = getState();
  if (!workflow) return;
  const url = URL.createObjectURL(new Blob([stringifyJson(workflow.prompt, 2)], { type: "application/json" }));
  const link = window.document.createElement("a");
  link.href = url;
  link.download = `${workflow.name.replace(/[^\w.-]+/g, "_") || "workflow"}.json`;
  link.click();
  window.setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

async function submitOnce(front: boolean): Promise<boolean> {
  const { document, objectInfo } = getState();
  if (!document) return false;
  const ui = uiWithValues(document);
  const extra: JsonObject = ui ? { extra_pnginfo: { workflow: ui } } : {};
  const prompt = preparePrompt(document.prompt, objectInfo ?? {});
  // The id is ours, and the run is known before the request: events may overtake the answer.
  const id = promptId();
  addRun(newRun(id, prompt));
  try {
    const answer = await api.postPrompt({ prompt, prompt_id: id, client_id: clientId(), front, extra_data: extra });
    const { shownRun: shown, runs } = getState();
    const busy = shown !== null && runs[shown]?.status === "running";
    if (!busy) setState({ shownRun: id });
    setState({ partialErrors: answer.node_errors ?? {} });
    edit((present) => afterQueueing(present, objectInfo ?? {}));
    return true;
  } catch (error) {
    removeRun(id);
    noteFailure(error);
    if (error instanceof api.PromptRefused) setState({ refusal: { error: error.error, nodeErrors: error.nodeErrors } });
    else tellError("The workflow was not queued", error);
    return false;
  }
}

async function open(read: () => Promise<WorkflowDocument>): Promise<boolean> {
  try {
    show(await read());
    location.hash = "#/workflow";
    return true;
  } catch (error) {
    noteFailure(error);
    tellError("This workflow could not be opened", error);
    return false;
  }
}

function show(document: WorkflowDocument | null, keepErrors = false): void {
  setState(keepErrors ? { document } : { document, refusal: null, partialErrors: {} });
  rememberDocument(document);
}

function edit(change: (document: WorkflowDocument) => WorkflowDocument): void {
  const { document } = getState();
  if (document) show(change(document), true);
}

/** A changed field no longer shows what was wrong with its old value. */
function forgetErrors(node: string, input: string): void {
  const without = (report: { errors: { extra_info: JsonObject }[] }) => report.errors.filter((error) => error.extra_info?.["input_name"] !== input);
  const { refusal, partialErrors } = getState();
  const report = refusal?.nodeErrors[node];
  if (refusal && report) {
    const nodeErrors = { ...refusal.nodeErrors, [node]: { ...report, errors: without(report) as typeof report.errors } };
    setState({ refusal: { ...refusal, nodeErrors } });
  }
  const partial = partialErrors[node];
  if (partial) setState({ partialErrors: { ...partialErrors, [node]: { ...partial, errors: without(partial) as typeof partial.errors } } });
}

function definitions(): ObjectInfo {
  const { objectInfo } = getState();
  if (!objectInfo) throw new Error("The server's node definitions are not loaded yet. Wait until the server is reachable and try again.");
  return objectInfo;
}

/** The server lists a new file only when its definitions are asked for again; until then the choice is added here. */
function addChoice(node: string, input: string, name: string): void {
  const { objectInfo, document } = getState();
  const type = document?.prompt[node]?.class_type;
  const info = type ? objectInfo?.[type] : undefined;
  if (!objectInfo || !info || !type) return;
  const copy = structuredClone(info);
  for (const section of [copy.input.required, copy.input.optional]) {
    const declared = section?.[input];
    const choices = Array.isArray(declared) ? declared[0] : null;
    if (Array.isArray(choices) && !choices.includes(name)) choices.push(name);
  }
  setState({ objectInfo: { ...objectInfo, [type]: copy } });
}
