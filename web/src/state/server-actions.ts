/** Keeps the store in step with the server: live events, queue, history, definitions. */
import * as api from "../api/client";
import { LiveSocket } from "../api/socket";
import type { Frame } from "../lib/frames";
import { applyEvent, applyHistory, isOver, newRun } from "../lib/run";
import type { Run, ServerEvent } from "../lib/run";
import type { HistoryEntry, JsonObject } from "../lib/types";
import { clientId } from "./memory";
import { getState, HISTORY_PAGE, setState } from "./store";
import { tellError } from "./toasts";

const REFRESH_DELAY_MS = 200;
/** Events are applied together, at most this long after they came. */
const EVENT_DELAY_MS = 40;
/** Runs that are over are in the history; a few stay here for what only events tell. */
const KEPT_RUNS = 20;

let socket: LiveSocket | null = null;
let refreshTimer: number | undefined;
let packsTimer: number | undefined;
let wasConnected = false;
let waitingEvents: ServerEvent[] = [];

export function start(): void {
  socket = new LiveSocket(clientId(), {
    onOpen: () => void synchronise(),
    onClosed: () => void checkServer(),
    onEvent: receiveEvent,
    onFrame: receiveFrame,
  });
  socket.connect();
  void loadObjectInfo();
  void lookForExample();
}

/** Tries everything again at once: what the "Retry" button does. */
export async function retry(): Promise<void> {
  socket?.retryNow();
  await checkServer();
  if (getState().connection !== "down") await Promise.all([loadObjectInfo(), lookForExample()]);
}

export async function loadObjectInfo(): Promise<void> {
  try {
    setState({ objectInfo: await api.getObjectInfo(), objectInfoError: null });
  } catch (error) {
    noteFailure(error);
    setState({ objectInfoError: messageOf(error) });
  }
}

/** Definitions again, soon, and whatever else shows packs. */
function refreshPacksSoon(): void {
  packsTimer ??= window.setTimeout(() => {
    packsTimer = undefined;
    setState({ packsVersion: getState().packsVersion + 1 });
    void loadObjectInfo();
  }, REFRESH_DELAY_MS);
}

/** Queue and history again, soon: many events in a row cause one request. */
export function refreshSoon(): void {
  refreshTimer ??= window.setTimeout(() => {
    refreshTimer = undefined;
    void refresh();
  }, REFRESH_DELAY_MS);
}

export async function refresh(): Promise<void> {
  await Promise.all([refreshQueue(), refreshHistory()]);
}

export async function loadMoreHistory(): Promise<void> {
  setState({ historyCount: getState().historyCount + HISTORY_PAGE });
  await refreshHistory();
}

/** Does something to the server and refreshes; a failure becomes a message that starts with `what`. */
export async function doAndRefresh(what: string, action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    noteFailure(error);
    tellError(what, error);
  }
  refreshSoon();
}

export function updateRun(id: string, change: (run: Run) => Run): void {
  const run = getState().runs[id];
  if (run) setState({ runs: { ...getState().runs, [id]: change(run) } });
}

export function addRun(run: Run): void {
  const kept = Object.values(getState().runs).filter((old) => !isOver(old) || old.id === getState().shownRun);
  const over = Object.values(getState().runs).filter((old) => !kept.includes(old)).slice(-KEPT_RUNS);
  setState({ runs: Object.fromEntries([...over, ...kept, run].map((known) => [known.id, known])) });
}

export function removeRun(id: string): void {
  const runs = { ...getState().runs };
  delete runs[id];
  setState({ runs });
}

/** Marks the server as down if that is what the failure means. */
export function noteFailure(error: unknown): void {
  if (error instanceof api.UnreachableError) setState({ connection: "down" });
  if (wantsToken(error)) setState({ signedOut: true });
}

function wantsToken(error: unknown): boolean {
  return error instanceof api.RequestError && error.status === 401;
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function refreshQueue(): Promise<void> {
  try {
    const queue = await api.getQueue();
    setState({ queue });
  } catch (error) {
    noteFailure(error);
  }
}

async function refreshHistory(): Promise<void> {
  try {
    const history = await api.getHistory(getState().historyCount);
    setState({ history: Object.values(history).reverse(), historyError: null });
  } catch (error) {
    noteFailure(error);
    setState({ historyError: messageOf(error) });
  }
}

async function lookForExample(): Promise<void> {
  try {
    setState({ hasExample: (await api.getExampleWorkflow()) !== null });
  } catch {
    setState({ hasExample: false });
  }
}

/** After a (re)connect: what happened meanwhile is in the queue and in the history. */
async function synchronise(): Promise<void> {
  setState({ connection: "live" });
  // While the connection was cut, or the server down, packs may have come and gone.
  if (wasConnected || !getState().objectInfo) refreshPacksSoon();
  wasConnected = true;
  await catchUp();
}

async function catchUp(): Promise<void> {
  await refresh();
  adoptRunning();
  adoptLatest();
  for (const run of Object.values(getState().runs)) {
    if (!isOver(run)) await settle(run);
  }
}

/** A prompt of ours that was running before the page was loaded. */
function adoptRunning(): void {
  const { queue, runs } = getState();
  for (const [, id, prompt, extra] of [...(queue?.queue_running ?? []), ...(queue?.queue_pending ?? [])]) {
    if (runs[id] || (extra as JsonObject)["client_id"] !== clientId()) continue;
    addRun({ ...newRun(id, prompt), status: queue?.queue_running.some((item) => item[1] === id) ? "running" : "queued" });
    if (getState().shownRun === null) setState({ shownRun: id });
  }
}

/** After a reload the stage shows what this tab made last. */
function adoptLatest(): void {
  const { history, shownRun } = getState();
  if (shownRun !== null) return;
  const entry = history?.find(({ prompt }) => prompt[3]["client_id"] === clientId());
  if (!entry) return;
  const [, id, prompt] = entry.prompt;
  addRun(applyHistory(newRun(id, prompt), entry));
  setState({ shownRun: id });
}

/** Brings a run to what the history says, if it has ended; a run that vanished from the queue was cancelled. */
export async function settle(run: Run): Promise<void> {
  try {
    const entry = (await api.getHistoryEntry(run.id))[run.id];
    if (entry) {
      finish(run.id, entry);
      return;
    }
    const { queue } = getState();
    const waiting = [...(queue?.queue_running ?? []), ...(queue?.queue_pending ?? [])].some((item) => item[1] === run.id);
    if (!waiting) updateRun(run.id, (present) => (isOver(present) ? present : { ...present, status: "cancelled", current: null }));
  } catch (error) {
    noteFailure(error);
  }
}

function finish(id: string, entry: HistoryEntry): void {
  updateRun(id, (run) => applyHistory(run, entry));
  dropPreview(id);
}

/** Tells a server that is gone from a live connection that is cut; in the second case asking takes the place of hearing. */
async function checkServer(): Promise<void> {
  try {
    const queue = await api.getQueue();
    setState({ queue, signedOut: false, connection: socket?.isOpen ? "live" : "reconnecting" });
  } catch (error) {
    // A server that asks who this is does answer.
    setState(wantsToken(error) ? { signedOut: true, connection: "reconnecting" } : { connection: "down" });
    return;
  }
  await catchUp();
}

/** A fast server sends thousands of events a second; drawing after each would fall behind. */
function receiveEvent(event: ServerEvent): void {
  if (event.type === "status") {
    refreshSoon();
    return;
  }
  if (event.type === "packs_changed") {
    refreshPacksSoon();
    return;
  }
  if (waitingEvents.length === 0) window.setTimeout(applyWaitingEvents, EVENT_DELAY_MS);
  waitingEvents.push(event);
}

function applyWaitingEvents(): void {
  const events = waitingEvents;
  waitingEvents = [];
  const runs = { ...getState().runs };
  let { shownRun } = getState();
  const ended = new Set<string>();
  for (const event of events) {
    const id = event.data["prompt_id"];
    const run = typeof id === "string" ? runs[id] : undefined;
    if (!run) continue;
    runs[run.id] = applyEvent(run, event);
    if (event.type === "execution_start") shownRun = run.id;
    if (endsRun(event)) ended.add(run.id);
  }
  setState({ runs, shownRun });
  for (const id of ended) void settleFinished(id);
}

function endsRun({ type, data }: ServerEvent): boolean {
  return type === "execution_interrupted" || type === "execution_error" || (type === "executing" && data["node"] === null);
}

/** The history has outputs of cached nodes and exact times that events did not carry. */
async function settleFinished(id: string): Promise<void> {
  refreshSoon();
  try {
    const entry = (await api.getHistoryEntry(id))[id];
    if (entry) finish(id, entry);
  } catch (error) {
    noteFailure(error);
  }
}

function receiveFrame(frame: Frame): void {
  const { shownRun, runs, preview } = getState();
  if (frame.kind === "text") {
    if (shownRun) updateRun(shownRun, (run) => ({ ...run, texts: { ...run.texts, [frame.nodeId]: frame.text } }));
    return;
  }
  const runId = frame.promptId ?? shownRun;
  const run = runId ? runs[runId] : undefined;
  if (!runId || !run || isOver(run)) return;
  if (preview) URL.revokeObjectURL(preview.url);
  const url = URL.createObjectURL(new Blob([frame.image as BlobPart], { type: frame.mime }));
  setState({ preview: { url, nodeId: frame.nodeId ?? run.current, runId } });
}

function dropPreview(runId: string): void {
  const { preview } = getState();
  if (preview?.runId !== runId) return;
  URL.revokeObjectURL(preview.url);
  setState({ preview: null });
}
