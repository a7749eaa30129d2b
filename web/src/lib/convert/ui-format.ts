/** The UI format: what a graph editor saves. Read defensively, since files come from anywhere. */
import { isObject } from "../json";
import type { Json, JsonObject } from "../types";

export interface UiSlot {
  name: string;
  type: string;
  link: string | null;
  /** Set when this socket stands for a widget. */
  widget: string | null;
}

export interface UiNode {
  id: string;
  type: string;
  title: string | null;
  mode: number;
  inputs: UiSlot[];
  outputs: { name: string; type: string }[];
  values: Json[] | JsonObject | null;
  /** `[inner node id, widget name]` of widgets shown on a subgraph's node. */
  proxies: [string, string][];
  /** Where the node stands in the file: keys from the root. */
  path: (string | number)[];
}

export interface UiLink {
  id: string;
  from: string;
  fromSlot: number;
  to: string;
  toSlot: number;
}

export interface UiGraph {
  nodes: Map<string, UiNode>;
  links: Map<string, UiLink>;
}

export interface UiSubgraph extends UiGraph {
  id: string;
  name: string;
  inputs: { name: string; type: string }[];
  outputs: { name: string; type: string }[];
}

export const Mode = { muted: 2, bypassed: 4 } as const;
/** Pseudo nodes inside a subgraph that stand for its outer sockets. */
export const SUBGRAPH_INPUT = "-10";
export const SUBGRAPH_OUTPUT = "-20";

export function readGraph(value: JsonObject, path: (string | number)[]): UiGraph {
  const nodes = new Map<string, UiNode>();
  array(value["nodes"]).forEach((entry, index) => {
    const node = isObject(entry) ? readNode(entry, [...path, "nodes", index]) : null;
    if (node) nodes.set(node.id, node);
  });
  const links = new Map<string, UiLink>();
  for (const entry of array(value["links"])) {
    const link = readLink(entry);
    if (link) links.set(link.id, link);
  }
  return { nodes, links };
}

export function readSubgraphs(value: JsonObject): Map<string, UiSubgraph> {
  const result = new Map<string, UiSubgraph>();
  const definitions = value["definitions"];
  const list = isObject(definitions) ? array(definitions["subgraphs"]) : [];
  list.forEach((entry, index) => {
    if (!isObject(entry) || typeof entry["id"] !== "string") return;
    const graph = readGraph(entry, ["definitions", "subgraphs", index]);
    result.set(entry["id"], {
      ...graph,
      id: entry["id"],
      name: string(entry["name"]) ?? entry["id"],
      inputs: array(entry["inputs"]).map(readSocket),
      outputs: array(entry["outputs"]).map(readSocket),
    });
  });
  return result;
}

function readNode(entry: JsonObject, path: (string | number)[]): UiNode | null {
  const id = identifier(entry["id"]);
  const type = string(entry["type"]);
  if (id === null || type === null) return null;
  const values = entry["widgets_values"];
  const properties = isObject(entry["properties"]) ? entry["properties"] : {};
  return {
    id,
    type,
    title: string(entry["title"]),
    mode: typeof entry["mode"] === "number" ? entry["mode"] : 0,
    inputs: array(entry["inputs"]).filter(isObject).map(readInput),
    outputs: array(entry["outputs"]).map(readSocket),
    values: Array.isArray(values) || isObject(values) ? values : null,
    proxies: array(properties["proxyWidgets"]).flatMap(readProxy),
    path,
  };
}

function readInput(entry: JsonObject): UiSlot {
  const widget = entry["widget"];
  return {
    name: string(entry["name"]) ?? "",
    type: socketType(entry["type"]),
    link: identifier(entry["link"]),
    widget: isObject(widget) ? (string(widget["name"]) ?? string(entry["name"])) : null,
  };
}

function readProxy(entry: Json): [string, string][] {
  if (!Array.isArray(entry)) return [];
  const id = identifier(entry[0]);
  const name = string(entry[1]);
  return id === null || name === null ? [] : [[id, name]];
}

function readSocket(entry: Json): { name: string; type: string } {
  const socket = isObject(entry) ? entry : {};
  return { name: string(socket["name"]) ?? "", type: socketType(socket["type"]) };
}

/** Links are `[id, from, slot, to, slot, type]`, or objects in newer files and inside subgraphs. */
function readLink(entry: Json): UiLink | null {
  const [id, from, fromSlot, to, toSlot] = Array.isArray(entry)
    ? entry
    : isObject(entry)
      ? [entry["id"], entry["origin_id"], entry["origin_slot"], entry["target_id"], entry["target_slot"]]
      : [];
  const ids = [identifier(id), identifier(from), identifier(to)] as const;
  if (ids[0] === null || ids[1] === null || ids[2] === null) return null;
  return { id: ids[0], from: ids[1], fromSlot: Number(fromSlot), to: ids[2], toSlot: Number(toSlot) };
}

function identifier(value: Json | undefined): string | null {
  return typeof value === "string" || typeof value === "number" ? String(value) : null;
}

function socketType(value: Json | undefined): string {
  if (Array.isArray(value)) return "COMBO";
  return typeof value === "string" ? value : "*";
}

function string(value: Json | undefined): string | null {
  return typeof value === "string" ? value : null;
}

function array(value: Json | undefined): Json[] {
  return Array.isArray(value) ? value : [];
}
