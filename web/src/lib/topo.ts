/** The order in which a form lists nodes: every node after the nodes it takes values from. */
import { asLink } from "./object-info";
import type { Prompt } from "./types";

export interface Order {
  /** All node ids, sources first; ties keep the prompt's own order. */
  ids: string[];
  /** Nodes that wait for each other in a circle; they stand at the end of `ids`. */
  cyclic: string[];
}

export interface Consumer {
  node: string;
  input: string;
  slot: number;
}

export function topologicalOrder(prompt: Prompt): Order {
  const waiting = new Map<string, number>();
  const dependents = new Map<string, string[]>();
  const all = Object.keys(prompt);
  for (const id of all) {
    const sources = sourcesOf(prompt, id);
    waiting.set(id, sources.length);
    for (const source of sources) append(dependents, source, id);
  }
  const ids: string[] = [];
  let ready = all.filter((id) => waiting.get(id) === 0);
  while (ready.length > 0) {
    const next: string[] = [];
    for (const id of ready) {
      ids.push(id);
      for (const dependent of dependents.get(id) ?? []) {
        const left = (waiting.get(dependent) ?? 0) - 1;
        waiting.set(dependent, left);
        if (left === 0) next.push(dependent);
      }
    }
    ready = next;
  }
  const placed = new Set(ids);
  const cyclic = all.filter((id) => !placed.has(id));
  return { ids: [...ids, ...cyclic], cyclic };
}

/** Who takes values from each node. */
export function consumers(prompt: Prompt): Map<string, Consumer[]> {
  const result = new Map<string, Consumer[]>();
  for (const [node, { inputs }] of Object.entries(prompt)) {
    for (const [input, value] of Object.entries(inputs)) {
      const link = asLink(value);
      if (link) append(result, link[0], { node, input, slot: link[1] });
    }
  }
  return result;
}

/** Equal for two prompts exactly when their nodes and links are the same. */
export function linkSignature(prompt: Prompt): string {
  const nodes = Object.entries(prompt).map(([id, { inputs }]) => {
    const links = Object.entries(inputs).flatMap(([name, value]) => {
      const link = asLink(value);
      return link ? [[name, ...link]] : [];
    });
    return [id, links];
  });
  return JSON.stringify(nodes);
}

/** Distinct existing nodes that a node takes values from. */
function sourcesOf(prompt: Prompt, id: string): string[] {
  const links = Object.values(prompt[id]?.inputs ?? {}).map(asLink);
  const sources = links.filter((link) => link !== null).map((link) => link[0]);
  return [...new Set(sources)].filter((source) => source in prompt);
}

function append<T>(map: Map<string, T[]>, key: string, item: T): void {
  const list = map.get(key);
  if (list) list.push(item);
  else map.set(key, [item]);
}
