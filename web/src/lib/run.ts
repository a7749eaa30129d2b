/** What is known of one queued prompt, and how the server's events change it. Pure: no timers, no requests. */
import { isObject } from "./json";
import type { FileRef, HistoryEntry, Json, JsonObject, NodeProgress, Prompt, UiOutput } from "./types";

export type RunStatus = "queued" | "running" | "done" | "failed" | "cancelled";

export interface NodeState {
  state: "running" | "finished" | "error" | "cached";
  value: number;
  max: number;
}

export interface RunError {
  nodeId: string | null;
  nodeType: string | null;
  type: string;
  message: string;
  traceback: string[];
}

export interface Run {
  id: string;
  prompt: Prompt;
  status: RunStatus;
  nodes: Record<string, NodeState>;
  current: string | null;
  outputs: Record<string, UiOutput>;
  texts: Record<string, string>;
  error: RunError | null;
  startedAt: number | null;
  finishedAt: number | null;
}

export interface ServerEvent {
  type: string;
  data: JsonObject;
}

export function newRun(id: string, prompt: Prompt): Run {
  return {
    id,
    prompt,
    status: "queued",
    nodes: {},
    current: null,
    outputs: {},
    texts: {},
    error: null,
    startedAt: null,
    finishedAt: null,
  };
}

export function isOver(run: Run): boolean {
  return run.status === "done" || run.status === "failed" || run.status === "cancelled";
}

/** The run after an event of its own; unknown events change nothing. */
export function applyEvent(run: Run, event: ServerEvent): Run {
  const { data } = event;
  switch (event.type) {
    case "execution_start":
      return { ...run, status: "running", startedAt: number(data["timestamp"]) ?? Date.now() };
    case "execution_cached":
      return { ...run, nodes: { ...run.nodes, ...cachedNodes(data["nodes"]) } };
    case "progress_state":
      return { ...run, status: live(run), nodes: { ...run.nodes, ...progressNodes(run, data["nodes"]) } };
    case "progress":
      return withProgress(run, data);
    case "executing":
      return withExecuting(run, data);
    case "executed":
      return withOutput(run, data);
    case "execution_success":
      return { ...run, status: "done", current: null, finishedAt: number(data["timestamp"]) ?? Date.now(), nodes: allFinished(run) };
    case "execution_error":
      return withError(run, data);
    case "execution_interrupted":
      return { ...run, status: "cancelled", current: null, finishedAt: number(data["timestamp"]) ?? Date.now(), nodes: withoutRunning(run.nodes) };
    default:
      return run;
  }
}

/** The run as history tells it: used after a reconnect, and for what events did not carry. */
export function applyHistory(run: Run, entry: HistoryEntry): Run {
  const { status, error, startedAt, finishedAt } = readHistory(entry);
  const nodes = status === "done" ? allFinished(run) : failedNodes(run, error);
  return { ...run, status, error, nodes, startedAt: startedAt ?? run.startedAt, finishedAt, current: null, outputs: entry.outputs };
}

export interface HistoryFacts {
  status: "done" | "failed" | "cancelled";
  error: RunError | null;
  startedAt: number | null;
  finishedAt: number | null;
}

export function readHistory(entry: HistoryEntry): HistoryFacts {
  const messages = entry.status?.messages ?? [];
  const find = (name: string) => messages.find(([event]) => event === name)?.[1];
  const stamp = (name: string) => number(find(name)?.["timestamp"]);
  const failure = find("execution_error");
  const interrupted = find("execution_interrupted");
  const good = entry.status?.status_str !== "error";
  return {
    status: good ? "done" : interrupted ? "cancelled" : "failed",
    error: failure ? readError(failure) : null,
    startedAt: stamp("execution_start"),
    finishedAt: stamp("execution_success") ?? stamp("execution_error") ?? stamp("execution_interrupted"),
  };
}

/** Share of the prompt's nodes that are done, 0 to 1, counting parts of running ones. */
export function overallProgress(run: Run): number {
  const ids = Object.keys(run.prompt);
  if (run.status === "done") return 1;
  if (ids.length === 0) return 0;
  const sum = ids.reduce((total, id) => total + nodeShare(run.nodes[id]), 0);
  return Math.min(1, sum / ids.length);
}

/** Files in a node's output, e.g. its images. */
export function filesOf(output: UiOutput): FileRef[] {
  return Object.values(output).flatMap((list) => (Array.isArray(list) ? list.flatMap(fileRef) : []));
}

/** Texts in a node's output. */
export function textsOf(output: UiOutput): string[] {
  const list = output["text"];
  if (typeof list === "string") return [list];
  return Array.isArray(list) ? list.filter((item): item is string => typeof item === "string") : [];
}

function fileRef(item: Json): FileRef[] {
  if (!isObject(item) || typeof item["filename"] !== "string") return [];
  const text = (name: string, fallback: string) => (typeof item[name] === "string" ? (item[name] as string) : fallback);
  return [{ filename: item["filename"], subfolder: text("subfolder", ""), type: text("type", "output") }];
}

function nodeShare(node: NodeState | undefined): number {
  if (!node) return 0;
  if (node.state !== "running") return 1;
  return node.max > 0 ? Math.min(1, node.value / node.max) : 0;
}

function cachedNodes(ids: Json | undefined): Record<string, NodeState> {
  const list = Array.isArray(ids) ? ids : [];
  return Object.fromEntries(list.map((id) => [String(id), { state: "cached", value: 1, max: 1 } as NodeState]));
}

function progressNodes(run: Run, nodes: Json | undefined): Record<string, NodeState> {
  if (!isObject(nodes)) return {};
  const result: Record<string, NodeState> = {};
  for (const entry of Object.values(nodes) as unknown as NodeProgress[]) {
    const id = entry.display_node_id ?? entry.node_id;
    if (run.nodes[id]?.state === "cached" && entry.state === "finished") continue;
    const state = entry.state === "finished" || entry.state === "error" ? entry.state : "running";
    const next: NodeState = { state, value: entry.value, max: entry.max };
    // Several nodes of an expansion share one shown node: it is running as long as one of them is.
    if (result[id]?.state !== "running" || state === "running") result[id] = next;
  }
  return result;
}

function withProgress(run: Run, data: JsonObject): Run {
  const node = data["node"];
  if (typeof node !== "string" || run.nodes[node]?.state === "finished") return run;
  const state: NodeState = { state: "running", value: number(data["value"]) ?? 0, max: number(data["max"]) ?? 1 };
  return { ...run, status: live(run), nodes: { ...run.nodes, [node]: state } };
}

function withExecuting(run: Run, data: JsonObject): Run {
  const node = data["display_node"] ?? data["node"];
  if (typeof node !== "string") return { ...run, current: null };
  const known = run.nodes[node];
  const state: NodeState = known?.state === "running" ? known : { state: "running", value: 0, max: 1 };
  return { ...run, status: live(run), current: node, nodes: { ...run.nodes, [node]: state } };
}

function withOutput(run: Run, data: JsonObject): Run {
  const node = data["display_node"] ?? data["node"];
  const output = data["output"];
  if (typeof node !== "string" || !isObject(output)) return run;
  return { ...run, outputs: { ...run.outputs, [node]: output } };
}

function withError(run: Run, data: JsonObject): Run {
  const error = readError(data);
  return { ...run, status: "failed", current: null, error, nodes: failedNodes(run, error), finishedAt: number(data["timestamp"]) ?? Date.now() };
}

function readError(data: JsonObject): RunError {
  const text = (name: string) => (typeof data[name] === "string" ? (data[name] as string) : null);
  const traceback = data["traceback"];
  return {
    nodeId: text("node_id"),
    nodeType: text("node_type"),
    type: text("exception_type") ?? "Error",
    message: (text("exception_message") ?? "The server gave no reason.").trim(),
    traceback: Array.isArray(traceback) ? traceback.map(String) : [],
  };
}

function allFinished(run: Run): Record<string, NodeState> {
  const finished = (node: NodeState | undefined): NodeState => (node?.state === "cached" ? node : { state: "finished", value: 1, max: 1 });
  return Object.fromEntries(Object.keys(run.nodes).map((id) => [id, finished(run.nodes[id])]));
}

function failedNodes(run: Run, error: RunError | null): Record<string, NodeState> {
  const nodes = withoutRunning(run.nodes);
  return error?.nodeId ? { ...nodes, [error.nodeId]: { state: "error", value: 0, max: 1 } } : nodes;
}

/** After a run ended early nothing is at work any more, although nobody says so node by node. */
function withoutRunning(nodes: Record<string, NodeState>): Record<string, NodeState> {
  return Object.fromEntries(Object.entries(nodes).filter(([, node]) => node.state !== "running"));
}

function live(run: Run): RunStatus {
  return isOver(run) ? run.status : "running";
}

function number(value: Json | undefined): number | null {
  return typeof value === "number" ? value : null;
}
