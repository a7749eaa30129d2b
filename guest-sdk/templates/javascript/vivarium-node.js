// @ts-check
// What the nodes of this pack are written against: from objects in JavaScript to the interface in `wit/`.
//
// Tensors live in the host; their operations mean what PyTorch's of the same name mean. Every call runs in a fresh instance:
// nothing that is kept in a variable survives it.

import { Tensor } from "vivarium:node/tensors@1.0.0";
import { Object as HostObject } from "vivarium:node/values@1.0.0";

/**
 * One input: its type, `optional` or `hidden`, its choices; everything else is an option of ComfyUI.
 * @typedef {{type: string, optional?: boolean, hidden?: boolean, choices?: any[], [option: string]: any}} Input
 * @typedef {{type: string, name?: string, isList?: boolean}} Output
 * @typedef {{
 *   classType: string, displayName?: string, description?: string, category: string,
 *   inputs: Record<string, Input>, outputs: Output[], outputNode?: boolean, inputIsList?: boolean,
 *   run: (inputs: Record<string, any>) => any,
 *   validate?: (inputs: Record<string, any>, types: Record<string, string>) => {input?: string, message: string}[],
 *   fingerprint?: (inputs: Record<string, any>) => any,
 *   neededInputs?: (inputs: Record<string, any>) => string[],
 * }} Node
 */

/** Stops a node; the user reads the message. */
export class NodeError extends Error {
  /** @param {string} message @param {string} kind one of the kinds in wit/deps/vivarium-node/types.wit */
  constructor(message, kind = "failed") {
    super(message);
    this.kind = kind;
  }
}

/** Put into an output, it stops every node behind it; with a message, the user is told. */
export class Blocked {
  /** @param {string | null} message */
  constructor(message = null) {
    this.message = message;
  }
}

/** In the outputs of an expansion: the output of a new node. */
export class Link {
  /** @param {string} node @param {number} slot */
  constructor(node, slot = 0) {
    this.node = node;
    this.slot = slot;
  }
}

/** Outputs, and what user interfaces show beside the node: every entry is a list. */
export class Ui {
  /** @param {Record<string, any[]>} ui @param {any[]} outputs */
  constructor(ui, outputs = []) {
    this.ui = ui;
    this.outputs = outputs;
  }
}

/** New nodes in ComfyUI's prompt format, and where the outputs come from. */
export class Expansion {
  /** @param {Record<string, any>} graph @param {any[]} outputs */
  constructor(graph, outputs) {
    this.graph = graph;
    this.outputs = outputs;
  }
}

/** tensor · other, where other is a number or a tensor. */
export function multiply(tensor, other) {
  return tensor.binary("mul", other instanceof Tensor ? { tag: "tensor", val: other } : { tag: "scalar", val: other });
}

/** Lends something to other packs; `objects` in `pack` says who answers its methods. */
export function createObject(typeName, state) {
  return HostObject.create(typeName, toWit(state));
}

/** Calls a method of an object, whichever pack made it. */
export function callObject(object, method, args) {
  return fromWit(object.call(method, toWit(args)));
}

/**
 * The export of the component: `export const nodes = pack({…})` in app.js.
 * @param {{name: string, version: string, publisher: string, description: string, license?: string,
 *   permissions?: {permission: string, reason: string}[], nodes: Node[],
 *   objects?: Record<string, (state: any, method: string, args: any) => any>}} parts
 */
export function pack({ nodes, objects = {}, ...about }) {
  const node = (classType) => {
    const found = nodes.find((one) => one.classType === classType);
    if (!found) throw new NodeError(`this pack has no node class ${classType}`, "not-found");
    return found;
  };
  return {
    describe: () => JSON.stringify({ ...about, nodes: nodes.map(definition) }),
    validate: (classType, inputs, types) =>
      told(() => node(classType).validate?.(fromWit(inputs), JSON.parse(types)) ?? []),
    fingerprint: (classType, inputs) =>
      told(() => {
        const value = node(classType).fingerprint?.(fromWit(inputs));
        return Number.isNaN(value) ? "NaN" : JSON.stringify(value ?? null);
      }),
    neededInputs: (classType, inputs) => told(() => node(classType).neededInputs?.(fromWit(inputs)) ?? []),
    execute: (classType, inputs) => told(() => outcome(node(classType).run(fromWit(inputs)))),
    call: (typeName, method, state, args) =>
      told(() => {
        if (!(typeName in objects)) throw new NodeError(`this pack makes no objects of type ${typeName}`, "not-found");
        return toWit(objects[typeName](fromWit(state), method, fromWit(args)));
      }),
  };
}

/** @param {Node} node */
function definition(node) {
  const inputs = Object.entries(node.inputs).map(([name, { type, optional, hidden, choices = [], ...options }]) => ({
    name,
    type,
    section: hidden ? "hidden" : optional ? "optional" : "required",
    choices,
    options,
  }));
  return {
    class_type: node.classType,
    display_name: node.displayName ?? node.classType,
    description: node.description ?? "",
    category: node.category,
    inputs,
    outputs: node.outputs.map(({ type, name = type, isList = false }) => ({ type, name, is_list: isList })),
    output_node: node.outputNode ?? false,
    input_is_list: node.inputIsList ?? false,
    has_fingerprint: Boolean(node.fingerprint),
    has_needed_inputs: Boolean(node.neededInputs),
    ...(node.validate && { validator: { all_inputs: true } }),
  };
}

/** Errors of the host go on as they are; what else is thrown becomes a sentence. */
function told(run) {
  try {
    return run();
  } catch (error) {
    if (error instanceof NodeError) throw { kind: error.kind, message: error.message };
    const refused = error?.payload ?? error;
    if (refused?.kind && refused?.message) throw { kind: refused.kind, message: refused.message };
    throw { kind: "failed", message: String(error) };
  }
}

function outcome(answer) {
  if (answer instanceof Blocked) return { tag: "blocked", val: answer.message ?? undefined };
  if (answer instanceof Expansion) {
    return { tag: "expansion", val: toWit({ graph: answer.graph, slots: answer.outputs }) };
  }
  let ui;
  if (answer instanceof Ui) {
    ui = JSON.stringify(answer.ui);
    answer = answer.outputs;
  }
  const outputs = Array.isArray(answer) ? answer : answer === undefined ? [] : [answer];
  return { tag: "outputs", val: { slots: toWit(outputs), ui } };
}

function toWit(value) {
  const handles = [];
  const handle = (tag, val) => ({ $: handles.push({ tag, val }) - 1 });
  const plain = (value) => {
    if (value === null || typeof value !== "object") return value;
    if (value instanceof Tensor) return handle("tensor", value);
    if (value instanceof HostObject) return handle("object", value);
    if (value instanceof Blocked) return { $blocked: value.message };
    if (value instanceof Link) return { $link: [value.node, value.slot] };
    if (Array.isArray(value)) return value.map(plain);
    const entries = Object.entries(value).map(([key, one]) => [key.startsWith("$") ? `$${key}` : key, plain(one)]);
    return Object.fromEntries(entries);
  };
  return { json: JSON.stringify(plain(value)), handles };
}

function fromWit({ json, handles }) {
  const rich = (value) => {
    if (value === null || typeof value !== "object") return value;
    if (Array.isArray(value)) return value.map(rich);
    const keys = Object.keys(value);
    if (keys.length === 1 && keys[0] === "$") return handles[value.$].val;
    if (keys.length === 1 && keys[0] === "$blocked") return new Blocked(value.$blocked);
    return Object.fromEntries(keys.map((key) => [key.startsWith("$") ? key.slice(1) : key, rich(value[key])]));
  };
  return rich(JSON.parse(json));
}
