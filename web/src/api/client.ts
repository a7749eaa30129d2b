/** Every request this page makes. All addresses are relative to the page, so a path prefix in front of it is fine. */
import { isObject, parseJson, stringifyJson } from "../lib/json";
import type { ApiError, FileRef, History, Json, JsonObject, Limit, NodeErrors, ObjectInfo, Pack, Prompt, PromptAnswer, Queue, SystemStats } from "../lib/types";

/** The server answered, but not with success; `message` is for the user. */
export class RequestError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly body: Json,
  ) {
    super(message);
  }
}

/** The server could not be reached at all. */
export class UnreachableError extends Error {}

/** The server refused a prompt; `nodeErrors` says what is wrong with which node. */
export class PromptRefused extends Error {
  constructor(
    readonly error: ApiError,
    readonly nodeErrors: NodeErrors,
  ) {
    super(error.message);
  }
}

const GATEWAY_DOWN = new Set([502, 503, 504]);

export interface PromptSubmission {
  prompt: Prompt;
  prompt_id: string;
  client_id: string;
  front: boolean;
  extra_data: JsonObject;
}

export async function getObjectInfo(): Promise<ObjectInfo> {
  return (await getJson("api/object_info")) as unknown as ObjectInfo;
}

export async function getQueue(): Promise<Queue> {
  return (await getJson("api/queue")) as unknown as Queue;
}

/** The newest `count` entries, oldest first. */
export async function getHistory(count: number): Promise<History> {
  return (await getJson(`api/history?max_items=${count}`)) as unknown as History;
}

export async function getHistoryEntry(promptId: string): Promise<History> {
  return (await getJson(`api/history/${encodeURIComponent(promptId)}`)) as unknown as History;
}

export async function getSystemStats(): Promise<SystemStats> {
  return (await getJson("api/system_stats")) as unknown as SystemStats;
}

export async function getPacks(): Promise<Pack[]> {
  const answer = await getJson("vivarium/packs");
  return isObject(answer) && Array.isArray(answer["packs"]) ? (answer["packs"] as unknown as Pack[]) : [];
}

export async function getLimits(): Promise<Limit[]> {
  const answer = await getJson("vivarium/limits");
  return isObject(answer) && Array.isArray(answer["limits"]) ? (answer["limits"] as unknown as Limit[]) : [];
}

/** The example's text, or null when this server ships none. */
export async function getExampleWorkflow(): Promise<string | null> {
  try {
    return await (await send("vivarium/example-workflow", { method: "GET" })).text();
  } catch (error) {
    if (error instanceof RequestError && error.status === 404) return null;
    throw error;
  }
}

export async function postPrompt(submission: PromptSubmission): Promise<PromptAnswer> {
  try {
    return (await postJson("api/prompt", submission)) as unknown as PromptAnswer;
  } catch (error) {
    if (error instanceof RequestError && isObject(error.body) && isObject(error.body["error"])) {
      throw new PromptRefused(error.body["error"] as unknown as ApiError, (error.body["node_errors"] ?? {}) as unknown as NodeErrors);
    }
    throw error;
  }
}

export async function interrupt(promptId: string): Promise<void> {
  await postJson("api/interrupt", { prompt_id: promptId });
}

export async function changeQueue(change: { clear: true } | { delete: string[] }): Promise<void> {
  await postJson("api/queue", change);
}

export async function changeHistory(change: { clear: true } | { delete: string[] }): Promise<void> {
  await postJson("api/history", change);
}

export async function freeMemory(): Promise<void> {
  await postJson("api/free", { unload_models: true, free_memory: true });
}

/** Uploads into the input folder. The server may pick another name, which is in the answer. */
export async function uploadImage(file: File): Promise<{ name: string; subfolder: string; type: string }> {
  const form = new FormData();
  form.append("image", file, file.name || "pasted.png");
  form.append("type", "input");
  const answer = await readJson(await send("api/upload/image", { method: "POST", body: form }));
  return answer as unknown as { name: string; subfolder: string; type: string };
}

export function viewUrl(file: FileRef): string {
  const query = new URLSearchParams({ filename: file.filename, subfolder: file.subfolder, type: file.type });
  return address(`api/view?${query.toString()}`);
}

/** The file behind an upload field's value: `sub/name.png`, perhaps with ` [output]` at its end. */
export function inputFileRef(value: string): FileRef {
  const annotated = /^(.*) \[(input|output|temp)\]$/.exec(value);
  const path = annotated?.[1] ?? value;
  const cut = path.lastIndexOf("/");
  return { filename: path.slice(cut + 1), subfolder: cut < 0 ? "" : path.slice(0, cut), type: annotated?.[2] ?? "input" };
}

export function socketUrl(clientId: string): string {
  const url = new URL("ws", document.baseURI);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.search = new URLSearchParams({ clientId }).toString();
  return url.href;
}

async function getJson(path: string): Promise<Json> {
  return readJson(await send(path, { method: "GET" }));
}

async function postJson(path: string, body: unknown): Promise<Json> {
  return readJson(await send(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: stringifyJson(body) }));
}

async function readJson(response: Response): Promise<Json> {
  const text = await response.text();
  if (text === "") return null;
  try {
    return parseJson(text);
  } catch {
    throw new RequestError(`The server's answer from ${new URL(response.url).pathname} is not JSON.`, response.status, text.slice(0, 500));
  }
}

async function send(path: string, init: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(address(path), init);
  } catch {
    throw new UnreachableError("The server cannot be reached.");
  }
  if (GATEWAY_DOWN.has(response.status)) throw new UnreachableError(`The server is not available (HTTP ${response.status}).`);
  if (!response.ok) throw await failure(path, response);
  return response;
}

async function failure(path: string, response: Response): Promise<RequestError> {
  const text = await response.text().catch(() => "");
  let body: Json = text;
  try {
    body = parseJson(text);
  } catch {
    // Plain text is an answer too.
  }
  return new RequestError(failureMessage(path, response.status, body), response.status, body);
}

function failureMessage(path: string, status: number, body: Json): string {
  const name = path.split("?")[0];
  if (status === 401) return "This server wants a token, and this browser has shown none that counts. Sign in, then try again.";
  if (status === 403) return `The server refused the request to ${name} (403). Open the page under the address that the server printed at start.`;
  if (status === 413) return typeof body === "string" && body !== "" ? body : "The file is larger than the server accepts.";
  const error = isObject(body) ? body["error"] : null;
  const message = isObject(error) ? error["message"] : error;
  if (typeof message === "string" && message !== "") return message;
  if (typeof body === "string" && body !== "" && body.length < 300 && !body.startsWith("<")) return body;
  return `The server answered ${status} to ${name}.`;
}

function address(path: string): string {
  return new URL(path, document.baseURI).href;
}
