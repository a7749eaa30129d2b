/** The shapes that travel between this page and the server. Nothing here does anything. */

/** A JSON value. Integers outside the safe range of a double are kept as `bigint` (see `json.ts`). */
export type Json = null | boolean | number | bigint | string | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

/** `[node id, output slot]`. */
export type Link = [string, number];

export interface PromptNode {
  class_type: string;
  inputs: Record<string, Json>;
  _meta?: { title?: string } | undefined;
}

/** A workflow in API form: node id to node. */
export type Prompt = Record<string, PromptNode>;

export interface NodeInfo {
  input: Partial<Record<"required" | "optional" | "hidden", Record<string, Json>>>;
  input_order?: Partial<Record<"required" | "optional" | "hidden", string[]>>;
  output: Json[];
  output_is_list?: boolean[];
  output_name?: string[];
  name: string;
  display_name?: string;
  description?: string;
  python_module?: string;
  category?: string;
  output_node?: boolean;
  deprecated?: boolean | null;
  experimental?: boolean | null;
}

export type ObjectInfo = Record<string, NodeInfo>;

export interface ApiError {
  type: string;
  message: string;
  details: string;
  extra_info: JsonObject;
}

export interface NodeErrorReport {
  errors: ApiError[];
  dependent_outputs: string[];
  class_type: string;
}

export type NodeErrors = Record<string, NodeErrorReport>;

export interface PromptAnswer {
  prompt_id: string;
  number: number;
  node_errors: NodeErrors;
}

/** `[number, prompt id, prompt, extra data, outputs to execute]`. */
export type QueueItem = [number, string, Prompt, JsonObject, string[]];

export interface Queue {
  queue_running: QueueItem[];
  queue_pending: QueueItem[];
}

export interface FileRef {
  filename: string;
  subfolder: string;
  type: string;
}

/** What a node shows: lists by kind, e.g. `images`. */
export type UiOutput = Record<string, Json>;

export interface HistoryEntry {
  prompt: QueueItem;
  outputs: Record<string, UiOutput>;
  status?: { status_str: string; completed: boolean; messages: [string, JsonObject][] } | null;
  meta?: JsonObject;
}

export type History = Record<string, HistoryEntry>;

export interface NodeProgress {
  value: number;
  max: number;
  state: "running" | "finished" | "error" | string;
  node_id: string;
  prompt_id: string;
  display_node_id?: string | null;
  parent_node_id?: string | null;
  real_node_id?: string | null;
}

export interface Device {
  name: string;
  type: string;
  index: number | null;
  vram_total: number;
  vram_free: number;
  torch_vram_total: number;
  torch_vram_free: number;
}

export interface SystemStats {
  system: {
    os: string;
    ram_total: number;
    ram_free: number;
    comfyui_version?: string;
    vivarium_version?: string;
    python_version?: string;
    [key: string]: Json | undefined;
  };
  devices: Device[];
}

export interface PackPermission {
  permission: string;
  reason: string;
  granted: boolean;
}

export interface Pack {
  name: string;
  version: string;
  publisher: string;
  description: string;
  license: string;
  digest: string;
  file: string;
  nodes: string[];
  permissions: PackPermission[];
  imports: string[];
  status: "ready" | "failed";
  error: string | null;
}

export interface Limit {
  name: string;
  value: number;
  unit: string;
  description: string;
  used?: number | null;
}
