/**
 * UI format to API format: what a graph editor does at the moment a user presses "Run".
 *
 * Nodes that exist only in the editor vanish (notes, reroutes, primitives), muted nodes vanish with their links, bypassed
 * nodes pass the first input of a fitting type through, and subgraphs are opened: node 7 inside the subgraph node 3
 * becomes `3:7`. Not handled: the editor's old group nodes, which are refused with a message.
 */
import { inputSpecs } from "../object-info";
import type { InputSpec } from "../object-info";
import type { Json, JsonObject, Link, ObjectInfo, Prompt, PromptNode } from "../types";
import { Mode, readGraph, readSubgraphs, SUBGRAPH_INPUT, SUBGRAPH_OUTPUT } from "./ui-format";
import type { UiGraph, UiNode, UiSubgraph } from "./ui-format";
import { readWidgets } from "./widgets";
import type { ControlMode, WidgetValue } from "./widgets";

/** Which value of the UI file an input of the API form came from. */
export interface Binding {
  node: string;
  input: string;
  path: (string | number)[];
}

export interface Conversion {
  prompt: Prompt;
  bindings: Binding[];
  controls: Record<string, Record<string, ControlMode>>;
  /** Sentences for the user: what may not be as in the editor. */
  warnings: string[];
}

/** The file cannot be turned into API form; the message says why and what to do. */
export class ConversionError extends Error {}

/** One graph on the way in: the file's own, or the inside of one subgraph node. */
interface Scope {
  graph: UiGraph;
  prefix: string;
  outer: { scope: Scope; instance: UiNode; definition: UiSubgraph } | null;
}

type Source =
  | { kind: "link"; link: Link }
  | { kind: "value"; widget: WidgetValue }
  | { kind: "muted" }
  | { kind: "nothing" };

const NOTHING: Source = { kind: "nothing" };
const REROUTES = new Set(["Reroute", "Reroute (rgthree)"]);
const NOTES = new Set(["Note", "MarkdownNote", "Label (rgthree)", "Fast Groups Bypasser (rgthree)", "Fast Groups Muter (rgthree)"]);
/** Reroutes and bypassed nodes in a row; more is a circle. */
const MAX_HOPS = 500;
const MAX_DEPTH = 32;
/** As many as the server takes in one prompt. Nested subgraphs can multiply to any number. */
const MAX_NODES = 100_000;

export function convertUiToApi(workflow: JsonObject, objectInfo: ObjectInfo): Conversion {
  return new Converter(workflow, objectInfo).run();
}

class Converter {
  private readonly subgraphs: Map<string, UiSubgraph>;
  private readonly root: Scope;
  private nodeCount = 0;
  private readonly result: Conversion = { prompt: {}, bindings: [], controls: {}, warnings: [] };

  constructor(
    workflow: JsonObject,
    private readonly objectInfo: ObjectInfo,
  ) {
    this.subgraphs = readSubgraphs(workflow);
    this.root = { graph: readGraph(workflow, []), prefix: "", outer: null };
  }

  run(): Conversion {
    this.addScope(this.root, 0);
    return this.result;
  }

  private addScope(scope: Scope, depth: number): void {
    if (depth > MAX_DEPTH) {
      throw new ConversionError(`Subgraphs are nested more than ${MAX_DEPTH} deep, or one contains itself.`);
    }
    for (const node of scope.graph.nodes.values()) {
      if (node.mode === Mode.muted || node.mode === Mode.bypassed || isEditorOnly(node)) continue;
      const inside = this.inside(scope, node);
      if (inside) this.addScope(inside, depth + 1);
      else this.addNode(scope, node);
    }
  }

  private inside(scope: Scope, instance: UiNode): Scope | null {
    const definition = this.subgraphs.get(instance.type);
    if (!definition) return null;
    return { graph: definition, prefix: `${scope.prefix}${instance.id}:`, outer: { scope, instance, definition } };
  }

  private addNode(scope: Scope, node: UiNode): void {
    const id = scope.prefix + node.id;
    this.nodeCount += 1;
    if (this.nodeCount > MAX_NODES) throw new ConversionError(`With its subgraphs opened, this workflow has more than ${MAX_NODES} nodes.`);
    const info = this.objectInfo[node.type];
    this.refuseGroupNode(node, info !== undefined);
    const specs = info ? inputSpecs(info) : null;
    const widgets = readWidgets(node, specs);
    this.warnAbout(id, node, specs, widgets.leftOver);
    const names = [...(specs ?? []).map((spec) => spec.name), ...node.inputs.map((input) => input.name), ...widgets.values.keys()];
    const inputs: Record<string, Json> = {};
    for (const name of new Set(names)) {
      const spec = specs?.find((candidate) => candidate.name === name);
      const declared = specs === null || spec !== undefined;
      this.addInput(scope, node, inputs, name, spec, declared ? widgets.values.get(name) : undefined);
    }
    if (widgets.controls.size > 0) this.result.controls[id] = Object.fromEntries(widgets.controls);
    const title = node.title ?? info?.display_name ?? node.type;
    const converted: PromptNode = { class_type: node.type, inputs, _meta: { title } };
    this.result.prompt[id] = converted;
  }

  private addInput(
    scope: Scope,
    node: UiNode,
    inputs: Record<string, Json>,
    name: string,
    spec: InputSpec | undefined,
    own: WidgetValue | undefined,
  ): void {
    const socket = node.inputs.find((input) => input.name === name || input.widget === name);
    const source = socket && socket.link !== null ? this.throughLink(scope, socket.link, 0) : NOTHING;
    if (source.kind === "muted") return;
    if (source.kind === "link") {
      inputs[name] = source.link;
      return;
    }
    const widget = source.kind === "value" ? source.widget : own;
    const value = widget?.value ?? defaultOf(spec);
    if (value === undefined) return;
    inputs[name] = Array.isArray(value) ? { __value__: value } : value;
    if (widget && widget.path.length > 0) {
      this.result.bindings.push({ node: scope.prefix + node.id, input: name, path: widget.path });
    }
  }

  /** What arrives over a link, seen from its target. */
  private throughLink(scope: Scope, linkId: string, hops: number): Source {
    const link = scope.graph.links.get(linkId);
    if (!link || hops > MAX_HOPS) return NOTHING;
    if (link.from === SUBGRAPH_INPUT && scope.outer) return this.fromOutside(scope.outer, link.fromSlot, hops);
    return this.fromOutput(scope, link.from, link.fromSlot, hops + 1);
  }

  /** A subgraph's input: the outer link, else the value of the widget shown on the subgraph's node. */
  private fromOutside(outer: NonNullable<Scope["outer"]>, slot: number, hops: number): Source {
    const { scope, instance, definition } = outer;
    const name = definition.inputs[slot]?.name;
    const socket = instance.inputs.find((input) => input.name === name) ?? instance.inputs[slot];
    if (!socket) return NOTHING;
    if (socket.link !== null) return this.throughLink(scope, socket.link, hops + 1);
    const widget = promotedValue(instance, socket.name);
    return widget ? { kind: "value", widget } : NOTHING;
  }

  private fromOutput(scope: Scope, nodeId: string, slot: number, hops: number): Source {
    const node = scope.graph.nodes.get(nodeId);
    if (!node) return NOTHING;
    if (node.mode === Mode.muted) return { kind: "muted" };
    if (REROUTES.has(node.type)) return this.follow(scope, node.inputs[0]?.link, hops);
    if (node.mode === Mode.bypassed) return this.follow(scope, bypassInput(node, slot)?.link, hops);
    if (node.type === "PrimitiveNode") return primitiveValue(node);
    const inside = this.inside(scope, node);
    if (inside) return this.fromInside(inside, slot, hops);
    return { kind: "link", link: [scope.prefix + nodeId, slot] };
  }

  private fromInside(inside: Scope, slot: number, hops: number): Source {
    for (const link of inside.graph.links.values()) {
      if (link.to === SUBGRAPH_OUTPUT && link.toSlot === slot) return this.throughLink(inside, link.id, hops + 1);
    }
    return NOTHING;
  }

  private follow(scope: Scope, link: string | null | undefined, hops: number): Source {
    return link ? this.throughLink(scope, link, hops + 1) : NOTHING;
  }

  private refuseGroupNode(node: UiNode, known: boolean): void {
    if (known || !/^workflow[>/]/.test(node.type)) return;
    throw new ConversionError(
      `Node #${node.id} is a group node ("${node.type}"), a form that graph editors have given up. ` +
        `Open the file in ComfyUI, turn the group node into a subgraph or ordinary nodes, and save it again; or export it in API form.`,
    );
  }

  private warnAbout(id: string, node: UiNode, specs: InputSpec[] | null, leftOver: number): void {
    const name = node.title ?? node.type;
    if (!specs) {
      this.result.warnings.push(`Node #${id} "${name}" uses the class ${node.type}, which this server does not have. Install a pack that brings it.`);
    } else if (leftOver > 0) {
      this.result.warnings.push(
        `Node #${id} "${name}" holds ${leftOver} more value${leftOver === 1 ? "" : "s"} than this server's ${node.type} has fields. Check its values before you run.`,
      );
    }
  }
}

function isEditorOnly(node: UiNode): boolean {
  return REROUTES.has(node.type) || NOTES.has(node.type) || node.type === "PrimitiveNode";
}

/** Which input a bypassed node passes to its output: the one beside it if the types fit, else the first that fits. */
function bypassInput(node: UiNode, slot: number): UiNode["inputs"][number] | undefined {
  const type = node.outputs[slot]?.type ?? "*";
  const beside = node.inputs[slot];
  const exact = (input: { type: string }) => input.type === type;
  const loose = (input: { type: string }) => input.type === "*" || type === "*";
  if (beside && beside.link !== null && (exact(beside) || loose(beside))) return beside;
  const linked = node.inputs.filter((input) => input.link !== null);
  return linked.find(exact) ?? linked.find(loose);
}

function primitiveValue(node: UiNode): Source {
  if (!Array.isArray(node.values) || node.values.length === 0) return NOTHING;
  return { kind: "value", widget: { value: node.values[0] ?? null, path: [...node.path, "widgets_values", 0] } };
}

/** The value that a subgraph's node holds for one of its widgets, when it holds any. */
function promotedValue(instance: UiNode, name: string): WidgetValue | null {
  if (!Array.isArray(instance.values)) return null;
  const shown = instance.proxies.length > 0 ? instance.proxies.map(([, widget]) => widget) : instance.inputs.flatMap((input) => input.widget ?? []);
  const index = shown.indexOf(name);
  if (index < 0 || index >= instance.values.length || instance.values.length !== shown.length) return null;
  return { value: instance.values[index] ?? null, path: [...instance.path, "widgets_values", index] };
}

function defaultOf(spec: InputSpec | undefined): Json | undefined {
  if (!spec || spec.kind === "socket") return undefined;
  return spec.section === "required" ? spec.default : undefined;
}
