// The types of vivarium-node.js.

export type DType =
  | "float32" | "float16" | "bfloat16" | "uint8" | "int32" | "int64" | "boolean" | "float8-e4m3" | "float8-e5m2";

export type UnaryOp =
  | "abs" | "neg" | "sign" | "exp" | "log" | "sqrt" | "rsqrt" | "reciprocal" | "square" | "sin" | "cos" | "tan" | "tanh"
  | "sigmoid" | "silu" | "relu" | "gelu" | "floor" | "ceil" | "round" | "trunc" | "logical-not";

export type BinaryOp =
  | "add" | "sub" | "mul" | "div" | "pow" | "fmod" | "remainder" | "minimum" | "maximum" | "atan2"
  | "eq" | "ne" | "lt" | "le" | "gt" | "ge" | "logical-and" | "logical-or" | "logical-xor";

export type Operand = { tag: "tensor"; val: Tensor } | { tag: "scalar"; val: number };

/** Numbers in the host: IMAGE is [batch, height, width, channels], MASK [batch, height, width]. */
export interface Tensor {
  dtype(): DType;
  /** The value of a tensor that has exactly one element. */
  item(): number;
  /** A second handle to the same tensor; copies no data. */
  share(): Tensor;
  cast(dtype: DType): Tensor;
  unary(op: UnaryOp): Tensor;
  /** `this op other`, broadcasting. */
  binary(op: BinaryOp, other: Operand): Tensor;
  clamp(min?: number, max?: number): Tensor;
  contiguous(): Tensor;
  /** Every other operation of wit/deps/vivarium-node/tensors.wit, its name in camelCase. */
  [operation: string]: (...operands: any[]) => any;
}

/** Something that a pack lends to others. */
export interface HostObject {
  readonly [Symbol.toStringTag]?: string;
}

/** One input: its type, `optional` or `hidden`, its choices; everything else is an option of ComfyUI. */
export interface Input {
  type: string;
  optional?: boolean;
  hidden?: boolean;
  choices?: unknown[];
  [option: string]: unknown;
}

export interface Output {
  type: string;
  name?: string;
  isList?: boolean;
}

export interface Finding {
  input?: string;
  message: string;
}

/** A node. Its functions may name the types of their inputs: these are what a prompt brings. */
export interface Node {
  classType: string;
  displayName?: string;
  description?: string;
  category: string;
  inputs: Record<string, Input>;
  outputs: Output[];
  outputNode?: boolean;
  inputIsList?: boolean;
  run(inputs: any): unknown;
  validate?(inputs: any, types: Record<string, string>): Finding[];
  fingerprint?(inputs: any): unknown;
  neededInputs?(inputs: any): string[];
}

export interface Pack {
  name: string;
  version: string;
  publisher: string;
  description: string;
  license?: string;
  permissions?: { permission: string; reason: string }[];
  nodes: Node[];
  objects?: Record<string, (state: any, method: string, args: any) => unknown>;
}

/** What kind of error: see wit/deps/vivarium-node/types.wit. */
export type ErrorKind =
  | "invalid-argument" | "limit-exceeded" | "interrupted" | "not-found" | "permission-denied" | "unsupported" | "failed"
  | "internal";

/** Stops a node; the user reads the message. */
export class NodeError extends Error {
  constructor(message: string, kind?: ErrorKind);
  kind: ErrorKind;
}

/** Put into an output, it stops every node behind it; with a message, the user is told. */
export class Blocked {
  constructor(message?: string | null);
  message: string | null;
}

/** In the outputs of an expansion: the output of a new node. */
export class Link {
  constructor(node: string, slot?: number);
  node: string;
  slot: number;
}

/** Outputs, and what user interfaces show beside the node: every entry is a list. */
export class Ui {
  constructor(ui: Record<string, unknown[]>, outputs?: unknown[]);
}

/** New nodes in ComfyUI's prompt format, and where the outputs come from. */
export class Expansion {
  constructor(graph: Record<string, unknown>, outputs: unknown[]);
}

/** tensor · other, where other is a number or a tensor. */
export function multiply(tensor: Tensor, other: number | Tensor): Tensor;

/** Lends something to other packs; `objects` in `pack` says who answers its methods. */
export function createObject(typeName: string, state: unknown): HostObject;

/** Calls a method of an object, whichever pack made it. */
export function callObject(object: HostObject, method: string, args: unknown): unknown;

/** The export of the component: `export const nodes = pack({…})` in app.ts. */
export function pack(parts: Pack): Record<string, (...operands: any[]) => unknown>;
