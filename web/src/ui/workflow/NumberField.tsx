import { Minus, Plus } from "lucide-react";
import { useState } from "react";
import { humanName } from "../../lib/format";
import type { WidgetSpec } from "../../lib/object-info";
import type { Json } from "../../lib/types";
import { IconButton } from "../bits";
import type { Labelled } from "./Field";

type NumberSpec = Extract<WidgetSpec, { kind: "int" | "float" }>;

interface Props {
  spec: NumberSpec;
  value: Json | undefined;
  labelled: Labelled;
  onChange: (value: Json | undefined) => void;
  onProblem: (problem: string | null) => void;
}

/** A slider is shown when the range is small enough to hit a value with a finger. */
const LARGEST_SLIDER_RANGE = 2048;

export function NumberField({ spec, value, labelled, onChange, onProblem }: Props) {
  // What is being typed may not be a number yet ("-", "1e"), so the text is kept until it is.
  const [draft, setDraft] = useState<string | null>(null);
  const text = draft ?? (value === undefined || value === null ? "" : String(value));
  const commit = (typed: string) => {
    setDraft(typed);
    const number = readNumber(typed, spec.kind);
    onProblem(number === null ? (spec.kind === "int" ? "Enter a whole number." : "Enter a number.") : rangeProblem(number, spec));
    if (number !== null) onChange(number);
  };
  const set = (number: number | bigint) => {
    setDraft(null);
    onProblem(null);
    onChange(number);
  };
  const leave = () => {
    if (draft !== null && readNumber(draft, spec.kind) === null) onProblem(null);
    setDraft(null);
  };
  const present = typeof value === "number" || typeof value === "bigint" ? value : Number(value ?? spec.default);
  const name = humanName(spec.name);
  return (
    <div className="number">
      {isColour(spec) && (
        <input
          type="color"
          aria-label={`${name}, picker`}
          value={`#${Number(present).toString(16).padStart(6, "0").slice(-6)}`}
          onChange={(event) => set(parseInt(event.target.value.slice(1), 16))}
        />
      )}
      {hasSlider(spec) && (
        <input
          type="range"
          aria-label={`${name}, slider`}
          min={Number(spec.min)}
          max={Number(spec.max)}
          step={spec.step ?? (spec.kind === "int" ? 1 : "any")}
          value={Number(present)}
          onChange={(event) => set(Number(event.target.value))}
        />
      )}
      <div className="number-box">
        <IconButton className="step" label={`${name}: less`} tabIndex={-1} icon={<Minus size={14} aria-hidden="true" />} onClick={() => set(stepped(present, -1, spec))} />
        <input
          type="text"
          role="spinbutton"
          inputMode={spec.kind === "int" ? "numeric" : "decimal"}
          autoComplete="off"
          {...labelled}
          value={text}
          aria-valuenow={Number(present)}
          aria-valuemin={spec.min === undefined ? undefined : Number(spec.min)}
          aria-valuemax={spec.max === undefined ? undefined : Number(spec.max)}
          onChange={(event) => commit(event.target.value)}
          onBlur={leave}
          onKeyDown={(event) => {
            const direction = event.key === "ArrowUp" ? 1 : event.key === "ArrowDown" ? -1 : 0;
            if (direction === 0) return;
            event.preventDefault();
            set(stepped(present, event.shiftKey ? direction * 10 : direction, spec));
          }}
        />
        <IconButton className="step" label={`${name}: more`} tabIndex={-1} icon={<Plus size={14} aria-hidden="true" />} onClick={() => set(stepped(present, 1, spec))} />
      </div>
    </div>
  );
}

/** The typed text as a number; null when it is none. Whole numbers beyond 2^53 stay exact. */
export function readNumber(text: string, kind: "int" | "float"): number | bigint | null {
  const trimmed = text.trim().replace(",", ".");
  if (kind === "int") {
    if (!/^[+-]?\d+$/.test(trimmed)) return null;
    const number = Number(trimmed);
    return Number.isSafeInteger(number) ? number : BigInt(trimmed.replace("+", ""));
  }
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(trimmed)) return null;
  const number = Number(trimmed);
  return Number.isFinite(number) ? number : null;
}

function rangeProblem(value: number | bigint, { min, max }: NumberSpec): string | null {
  if (min !== undefined && value < min) return `The smallest value is ${min}.`;
  if (max !== undefined && value > max) return `The largest value is ${max}.`;
  return null;
}

function stepped(value: number | bigint, steps: number, spec: NumberSpec): number | bigint {
  if (typeof value === "bigint") return clamp(value + BigInt(steps), spec);
  const step = spec.step ?? (spec.kind === "int" ? 1 : 0.1);
  const next = value + steps * step;
  // 0.1 + 0.2 should read 0.3.
  return clamp(spec.kind === "int" ? Math.round(next) : Number(next.toPrecision(12)), spec);
}

function clamp(value: number | bigint, { min, max }: NumberSpec): number | bigint {
  if (min !== undefined && value < min) return min;
  if (max !== undefined && value > max) return max;
  return value;
}

function isColour({ kind, options }: NumberSpec): boolean {
  return kind === "int" && options["display"] === "color";
}

function hasSlider({ min, max, step, kind, seed }: NumberSpec): boolean {
  if (seed || min === undefined || max === undefined) return false;
  const range = Number(max) - Number(min);
  const positions = range / (step ?? (kind === "int" ? 1 : 0.01));
  return range > 0 && positions >= 2 && positions <= LARGEST_SLIDER_RANGE;
}
