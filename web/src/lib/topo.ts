/** The order in which a form lists nodes: every node after the nodes it takes values from. */
import { asLink } from "./object-info";
import type { Prompt } from "./types";

export interface Order {
  /** All node ids, each behind its sources; otherwise in the prompt's own order. */
  ids: string[];
  /** Nodes that wait for each other in a circle, and those behind them; they stand at the end of `ids`. */
  cyclic: string[];
}

export interface Consumer {
  node: string;
  input: string;
  slot: number;
}

export function topologicalOrder(prompt: Prompt): Order {
  const all = Object.keys(prompt);
  const sources = new Map(all.map((id) => [id, sourcesOf(prompt, id)]));
  const cyclic = cyclicNodes(sources);
  const placed = new Set(cyclic);
  const ids: string[] = [];
  for (const id of all) placeWithSources(id, sources, placed, ids);
  return { ids: [...ids, ...cyclic], cyclic };
}

/** Puts a node behind all that it needs. Chains stay together, and a prompt that is in order stays as it is. */
function placeWithSources(id: string, sources: Map<string, string[]>, placed: Set<string>, ids: string[]): void {
  const stack = [id];
  while (stack.length > 0) {
    const top = stack[stack.length - 1] as string;
    const missing = (sources.get(top) ?? []).filter((source) => !placed.has(source));
    if (missing.length > 0 && !placed.has(top)) {
      stack.push(...missing.reverse());
      continue;
    }
    stack.pop();
    if (!placed.has(top)) {
      placed.add(top);
      ids.push(top);
    }
  }
}

/** Nodes that stand in a circle or behind one: what is left when nodes without open sources are taken away again and again. */
function cyclicNodes(sources: Map<string, string[]>): string[] {
  const dependents = new Map<string, string[]>();
  const waiting = new Map<string, number>();
  for (const [id, list] of sources) {
    waiting.set(id, list.length);
    for (const source of list) append(dependents, source, id);
  }
  const free = [...sources.keys()].filter((id) => waiting.get(id) === 0);
  for (let id = free.pop(); id !== undefined; id = free.pop()) {
    for (const dependent of dependents.get(id) ?? []) {
      const left = (waiting.get(dependent) ?? 0) - 1;
      waiting.set(dependent, left);
      if (left === 0) free.push(dependent);
    }
  }
  return [...sources.keys()].filter((id) => (waiting.get(id) ?? 0) > 0);
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
