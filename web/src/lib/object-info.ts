/** Reads `/object_info`: which inputs a class has, which of them are widgets, and what their limits are. */
import { isObject } from "./json";
import type { Json, JsonObject, Link, NodeInfo } from "./types";

export type UploadKind = "image" | "video" | "audio";

interface SpecBase {
  name: string;
  section: "required" | "optional";
  /** `INT`, `IMAGE`, `COMBO`, … */
  type: string;
  options: JsonObject;
  tooltip?: string;
}

export type InputSpec =
  | (SpecBase & { kind: "int" | "float"; min?: number | bigint; max?: number | bigint; step?: number; default: number | bigint; seed: boolean })
  | (SpecBase & { kind: "string"; multiline: boolean; placeholder?: string; default: string })
  | (SpecBase & { kind: "boolean"; default: boolean; labelOn: string; labelOff: string })
  | (SpecBase & { kind: "combo"; choices: Json[]; default: Json; upload?: UploadKind; multiselect: boolean; controlled: boolean })
  | (SpecBase & { kind: "socket" });

export type WidgetSpec = Exclude<InputSpec, { kind: "socket" }>;

/** The declared inputs of a class in the order in which UIs list them; hidden ones are left out. */
export function inputSpecs(info: NodeInfo): InputSpec[] {
  const specs: InputSpec[] = [];
  for (const section of ["required", "optional"] as const) {
    const declared = info.input[section] ?? {};
    for (const name of orderedNames(declared, info.input_order?.[section])) {
      specs.push(inputSpec(name, section, declared[name] ?? null));
    }
  }
  return specs;
}

/** True when the input is edited in a form, not only linked. */
export function isWidget(spec: InputSpec): spec is WidgetSpec {
  return spec.kind !== "socket";
}

/** `value` as a link, if it is one. */
export function asLink(value: Json | undefined): Link | null {
  if (!Array.isArray(value) || value.length !== 2) return null;
  const [node, slot] = value;
  const isId = typeof node === "string" || typeof node === "number";
  return isId && typeof slot === "number" ? [String(node), slot] : null;
}

/** The name of an output slot, for people. */
export function outputName(info: NodeInfo | undefined, slot: number): string {
  const name = info?.output_name?.[slot] ?? info?.output[slot];
  return typeof name === "string" ? name : `output ${slot + 1}`;
}

function orderedNames(declared: Record<string, Json>, order: string[] | undefined): string[] {
  const all = Object.keys(declared);
  if (!order) return all;
  const known = order.filter((name) => name in declared);
  return [...known, ...all.filter((name) => !known.includes(name))];
}

function inputSpec(name: string, section: "required" | "optional", declared: Json): InputSpec {
  const parts = Array.isArray(declared) ? declared : [declared];
  const options = isObject(parts[1]) ? parts[1] : {};
  const first = parts[0] ?? null;
  const type = Array.isArray(first) ? "COMBO" : String(first);
  const tooltip = text(options["tooltip"]);
  const base: SpecBase = { name, section, type, options, ...(tooltip === undefined ? {} : { tooltip }) };
  if (options["forceInput"] === true) return { ...base, kind: "socket" };
  switch (type) {
    case "INT":
    case "FLOAT":
      return numberSpec(base, type === "INT" ? "int" : "float");
    case "STRING":
      return stringSpec(base);
    case "BOOLEAN":
      return {
        ...base,
        kind: "boolean",
        default: options["default"] === true,
        labelOn: text(options["label_on"]) ?? "On",
        labelOff: text(options["label_off"]) ?? "Off",
      };
    case "COMBO":
      return comboSpec(base, Array.isArray(first) ? first : list(options["options"]));
    default:
      return { ...base, kind: "socket" };
  }
}

function numberSpec(base: SpecBase, kind: "int" | "float"): InputSpec {
  const { options } = base;
  const min = numeric(options["min"]);
  const max = numeric(options["max"]);
  const step = numeric(options["step"]);
  const control = options["control_after_generate"];
  const namedSeed = base.name === "seed" || base.name === "noise_seed";
  return {
    ...base,
    kind,
    ...(min === undefined ? {} : { min }),
    ...(max === undefined ? {} : { max }),
    ...(step === undefined ? {} : { step: Number(step) }),
    default: numeric(options["default"]) ?? (min !== undefined && min > 0 ? min : 0),
    seed: kind === "int" && (Boolean(control) || (namedSeed && control !== false)),
  };
}

function stringSpec(base: SpecBase): InputSpec {
  const placeholder = text(base.options["placeholder"]);
  return {
    ...base,
    kind: "string",
    multiline: base.options["multiline"] === true,
    ...(placeholder === undefined ? {} : { placeholder }),
    default: text(base.options["default"]) ?? "",
  };
}

function comboSpec(base: SpecBase, choices: Json[]): InputSpec {
  const { options } = base;
  const upload = uploadKind(options);
  return {
    ...base,
    kind: "combo",
    choices,
    default: options["default"] ?? choices[0] ?? "",
    ...(upload ? { upload } : {}),
    multiselect: Boolean(options["multiselect"]),
    controlled: Boolean(options["control_after_generate"]),
  };
}

function uploadKind(options: JsonObject): UploadKind | undefined {
  if (options["image_upload"] === true || options["animated_image_upload"] === true) return "image";
  if (options["video_upload"] === true) return "video";
  if (options["audio_upload"] === true) return "audio";
  return undefined;
}

function numeric(value: Json | undefined): number | bigint | undefined {
  return typeof value === "number" || typeof value === "bigint" ? value : undefined;
}

function text(value: Json | undefined): string | undefined {
  return typeof value === "string" ? value : undefined;
}

function list(value: Json | undefined): Json[] {
  return Array.isArray(value) ? value : [];
}
