/** One field of a node's form. Which control it is comes from the input's declaration. */
import { Switch } from "@base-ui/react/switch";
import { Dices } from "lucide-react";
import { useState } from "react";
import type { ControlMode } from "../../lib/convert/widgets";
import { humanName } from "../../lib/format";
import { asLink } from "../../lib/object-info";
import type { WidgetSpec } from "../../lib/object-info";
import { randomSeed } from "../../lib/prepare";
import type { Json } from "../../lib/types";
import { unwrapped } from "../../lib/workflow";
import { setControl, setInput } from "../../state/workflow-actions";
import { classes, IconButton } from "../bits";
import { ChoiceField } from "./ChoiceField";
import { NumberField } from "./NumberField";

interface Props {
  node: string;
  spec: WidgetSpec;
  value: Json | undefined;
  problems: string[] | undefined;
  control: ControlMode | undefined;
}

/** What every control needs to be labelled and to say what is wrong. */
export interface Labelled {
  id: string;
  "aria-describedby": string | undefined;
  "aria-invalid": boolean | undefined;
}

export function Field({ node, spec, value, problems, control }: Props) {
  const [localProblem, setLocalProblem] = useState<string | null>(null);
  const id = `field-${node}-${spec.name}`;
  const plain = value === undefined || asLink(value) ? undefined : unwrapped(value);
  const sentences = [...(localProblem ? [localProblem] : []), ...(problems ?? [])];
  const hint = hintOf(spec, plain);
  const described = [hint && `${id}-hint`, spec.tooltip && `${id}-help`, sentences.length > 0 && `${id}-error`].filter(Boolean).join(" ");
  const labelled: Labelled = { id, "aria-describedby": described || undefined, "aria-invalid": sentences.length > 0 || undefined };
  const wide = (spec.kind === "string" && spec.multiline) || (spec.kind === "combo" && spec.upload !== undefined);
  return (
    <div className={classes("field", wide && "field-wide", sentences.length > 0 && "field-bad")}>
      <div className="field-top">
        <label htmlFor={id} id={`${id}-label`}>
          {humanName(spec.name)}
        </label>
        {hint && (
          <span className="field-hint" id={`${id}-hint`}>
            {hint}
          </span>
        )}
      </div>
      <Control node={node} spec={spec} value={plain} labelled={labelled} control={control} onProblem={setLocalProblem} />
      {spec.tooltip && (
        <p className="field-help" id={`${id}-help`}>
          {spec.tooltip}
        </p>
      )}
      {sentences.length > 0 && (
        <div id={`${id}-error`} role="alert">
          {sentences.map((sentence) => (
            <p key={sentence} className="field-error">
              {sentence}
            </p>
          ))}
        </div>
      )}
    </div>
  );
}

interface ControlProps {
  node: string;
  spec: WidgetSpec;
  value: Json | undefined;
  labelled: Labelled;
  control: ControlMode | undefined;
  onProblem: (problem: string | null) => void;
}

function Control({ node, spec, value, labelled, control, onProblem }: ControlProps) {
  const change = (next: Json | undefined) => setInput(node, spec.name, next);
  switch (spec.kind) {
    case "int":
    case "float":
      return (
        <>
          <div className="row tight">
            <NumberField spec={spec} value={value} labelled={labelled} onChange={change} onProblem={onProblem} />
            {spec.seed && <IconButton label={`New random ${humanName(spec.name).toLowerCase()}`} icon={<Dices size={18} aria-hidden="true" />} onClick={() => change(randomSeed(spec))} />}
          </div>
          {spec.seed && <SeedControl node={node} name={spec.name} mode={control ?? "fixed"} id={labelled.id} />}
        </>
      );
    case "string":
      return <TextField spec={spec} value={value} labelled={labelled} onChange={change} />;
    case "boolean":
      return <BooleanField spec={spec} value={value} labelled={labelled} onChange={change} />;
    case "combo":
      return <ChoiceField node={node} spec={spec} value={value} labelled={labelled} onChange={change} />;
  }
}

function SeedControl({ node, name, mode, id }: { node: string; name: string; mode: ControlMode; id: string }) {
  return (
    <div className="seed-control">
      <label htmlFor={`${id}-control`}>After each run</label>
      <select id={`${id}-control`} value={mode} onChange={(event) => setControl(node, name, event.target.value as ControlMode)}>
        <option value="fixed">keep it</option>
        <option value="randomize">draw a new one</option>
        <option value="increment">add 1</option>
        <option value="decrement">subtract 1</option>
      </select>
    </div>
  );
}

interface TypedProps<Kind> {
  spec: Extract<WidgetSpec, { kind: Kind }>;
  value: Json | undefined;
  labelled: Labelled;
  onChange: (value: Json | undefined) => void;
}

function TextField({ spec, value, labelled, onChange }: TypedProps<"string">) {
  const text = value === undefined || value === null ? "" : String(value);
  const shared = { ...labelled, value: text, placeholder: spec.placeholder, spellCheck: spec.multiline };
  if (spec.multiline) return <textarea {...shared} rows={4} onChange={(event) => onChange(event.target.value)} />;
  return <input type="text" {...shared} autoComplete="off" onChange={(event) => onChange(event.target.value)} />;
}

function BooleanField({ spec, value, labelled, onChange }: TypedProps<"boolean">) {
  const on = value === undefined ? spec.default : Boolean(value);
  const { id, ...rest } = labelled;
  return (
    <div className="row tight">
      <Switch.Root id={id} className="switch" checked={on} onCheckedChange={onChange} aria-labelledby={`${id}-label`} {...rest}>
        <Switch.Thumb className="switch-thumb" />
      </Switch.Root>
      <span className="muted">{on ? spec.labelOn : spec.labelOff}</span>
    </div>
  );
}

function hintOf(spec: WidgetSpec, value: Json | undefined): string | null {
  if (value === undefined) return spec.section === "optional" ? "optional, not set" : "not set";
  if (spec.kind !== "int" && spec.kind !== "float") return null;
  if (spec.seed || spec.options["display"] === "color") return null;
  if (spec.min !== undefined && spec.max !== undefined && isReadable(spec.max)) return `${spec.min} to ${spec.max}`;
  if (spec.min !== undefined && isReadable(spec.min)) return `at least ${spec.min}`;
  return null;
}

/** Limits such as 2^64 - 1 say nothing to a reader. */
function isReadable(limit: number | bigint): boolean {
  return Math.abs(Number(limit)) <= 1_000_000;
}
