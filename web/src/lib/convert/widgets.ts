/**
 * Gives each entry of a node's `widgets_values` its input's name.
 *
 * A graph editor writes the values of a node's widgets as a bare list, and some widgets exist only in the editor: a
 * "control after generate" choice behind every seed, a filter text behind a controlled choice, an upload button at the
 * end of the required inputs. Which of them were written depends on the editor's version, so the list is aligned step by
 * step: an extra entry is skipped only when the value there looks like one.
 */
import { isObject } from "../json";
import { isWidget } from "../object-info";
import type { InputSpec } from "../object-info";
import type { Json } from "../types";
import type { UiNode } from "./ui-format";

export const CONTROL_MODES = ["fixed", "increment", "decrement", "randomize"] as const;
export type ControlMode = (typeof CONTROL_MODES)[number];

export interface WidgetValue {
  value: Json;
  /** Where the value stands in the file. */
  path: (string | number)[];
}

export interface WidgetValues {
  values: Map<string, WidgetValue>;
  controls: Map<string, ControlMode>;
  /** Entries that no input claims. */
  leftOver: number;
}

type Step = { kind: "widget"; spec: InputSpec } | { kind: "upload" };

export function isControlMode(value: Json | undefined): value is ControlMode {
  return typeof value === "string" && (CONTROL_MODES as readonly string[]).includes(value);
}

/** `specs` is null for a class that the server does not know: then the sockets that stand for widgets give the names. */
export function readWidgets(node: UiNode, specs: InputSpec[] | null): WidgetValues {
  const path = [...node.path, "widgets_values"];
  if (isObject(node.values)) return named(node.values, path);
  const list = Array.isArray(node.values) ? node.values : [];
  return specs ? align(node, specs, list, path) : bySockets(node, list, path);
}

function named(values: { [key: string]: Json }, path: (string | number)[]): WidgetValues {
  const entries = Object.entries(values).map(([name, value]) => [name, { value, path: [...path, name] }] as [string, WidgetValue]);
  return { values: new Map(entries), controls: new Map(), leftOver: 0 };
}

function bySockets(node: UiNode, list: Json[], path: (string | number)[]): WidgetValues {
  const result: WidgetValues = { values: new Map(), controls: new Map(), leftOver: 0 };
  let at = 0;
  for (const { widget } of node.inputs) {
    if (widget === null || at >= list.length) continue;
    result.values.set(widget, { value: list[at] ?? null, path: [...path, at] });
    at += 1;
    if (isControlMode(list[at])) at += 1;
  }
  result.leftOver = list.length - at;
  return result;
}

function align(node: UiNode, specs: InputSpec[], list: Json[], path: (string | number)[]): WidgetValues {
  const result: WidgetValues = { values: new Map(), controls: new Map(), leftOver: 0 };
  const steps = editorSteps(node, specs);
  let at = 0;
  steps.forEach((step, index) => {
    if (at >= list.length) return;
    const following = steps.slice(index + 1);
    const spare = () => list.length - at > following.filter((next) => next.kind === "widget").length;
    if (step.kind === "upload") {
      if (spare()) at += 1;
      return;
    }
    const { spec } = step;
    result.values.set(spec.name, { value: list[at] ?? null, path: [...path, at] });
    at += 1;
    const control = list[at];
    if (isControlMode(control) && mayBeControl(spec, following[0], control)) {
      result.controls.set(spec.name, control);
      at += 1;
      if (spec.kind === "combo" && typeof list[at] === "string" && spare()) at += 1;
    }
  });
  result.leftOver = list.slice(at).filter((value) => value !== null && value !== "" && value !== "image").length;
  return result;
}

/** The widgets of a node in the editor's order. */
function editorSteps(node: UiNode, specs: InputSpec[]): Step[] {
  const shownAsWidget = new Set(node.inputs.map((input) => input.widget));
  const hasWidget = (spec: InputSpec) =>
    isWidget(spec) || (shownAsWidget.has(spec.name) && spec.options["forceInput"] !== true);
  const steps: Step[] = [];
  const add = (section: "required" | "optional") => {
    for (const spec of specs) {
      if (spec.section === section && hasWidget(spec)) steps.push({ kind: "widget", spec });
    }
  };
  add("required");
  if (specs.some((spec) => spec.kind === "combo" && spec.upload !== undefined)) steps.push({ kind: "upload" });
  add("optional");
  return steps;
}

function mayBeControl(spec: InputSpec, next: Step | undefined, value: string): boolean {
  if (spec.kind === "combo") return spec.controlled;
  if (spec.kind !== "int" && spec.kind !== "float") return false;
  if (spec.kind === "int" && spec.seed) return true;
  const nextSpec = next?.kind === "widget" ? next.spec : undefined;
  const nextTakesIt = nextSpec?.kind === "string" || (nextSpec?.kind === "combo" && nextSpec.choices.includes(value));
  return !nextTakesIt;
}
