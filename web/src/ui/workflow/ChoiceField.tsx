import { ImageOff, Upload } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { inputFileRef, viewUrl } from "../../api/client";
import { humanName } from "../../lib/format";
import type { WidgetSpec } from "../../lib/object-info";
import type { Json } from "../../lib/types";
import { uploadInto } from "../../state/workflow-actions";
import { Button, classes } from "../bits";
import type { Labelled } from "./Field";

type ChoiceSpec = Extract<WidgetSpec, { kind: "combo" }>;

interface Props {
  node: string;
  spec: ChoiceSpec;
  value: Json | undefined;
  labelled: Labelled;
  onChange: (value: Json | undefined) => void;
}

export function ChoiceField({ node, spec, value, labelled, onChange }: Props) {
  const select = spec.multiselect ? (
    <MultiSelect spec={spec} value={value} labelled={labelled} onChange={onChange} />
  ) : (
    <SingleSelect spec={spec} value={value} labelled={labelled} onChange={onChange} />
  );
  if (spec.upload === undefined) return select;
  return (
    <UploadField node={node} spec={spec} value={value}>
      {select}
    </UploadField>
  );
}

type SelectProps = Omit<Props, "node">;

/** The browser's own list: it is the best one on a phone, and works with any keyboard. Choices may be numbers, so options carry positions. */
function SingleSelect({ spec, value, labelled, onChange }: SelectProps) {
  const at = spec.choices.findIndex((choice) => choice === value);
  const unknown = at < 0;
  const choose = (position: string) => {
    const choice = spec.choices[Number(position)];
    if (position !== "other" && choice !== undefined) onChange(choice);
  };
  return (
    <select {...labelled} value={unknown ? "other" : String(at)} onChange={(event) => choose(event.target.value)}>
      {unknown && <option value="other">{value === undefined || value === null || value === "" ? "Choose…" : spec.upload ? String(value) : `${String(value)} (not on this server)`}</option>}
      {spec.choices.map((choice, index) => (
        <option key={index} value={index}>
          {String(choice)}
        </option>
      ))}
    </select>
  );
}

function MultiSelect({ spec, value, labelled, onChange }: SelectProps) {
  const chosen = Array.isArray(value) ? value : value === undefined ? [] : [value];
  const positions = spec.choices.flatMap((choice, index) => (chosen.includes(choice) ? [String(index)] : []));
  return (
    <select
      {...labelled}
      multiple
      value={positions}
      onChange={(event) => onChange(Array.from(event.target.selectedOptions, (option) => spec.choices[Number(option.value)] ?? null))}
    >
      {spec.choices.map((choice, index) => (
        <option key={index} value={index}>
          {String(choice)}
        </option>
      ))}
    </select>
  );
}

const ACCEPT = { image: "image/*", video: "video/*", audio: "audio/*" } as const;

function UploadField({ node, spec, value, children }: { node: string; spec: ChoiceSpec; value: Json | undefined; children: React.ReactNode }) {
  const input = useRef<HTMLInputElement>(null);
  const [busy, setBusy] = useState(false);
  const [over, setOver] = useState(false);
  const upload = (files: FileList | null | undefined) => {
    const file = files?.[0];
    if (!file) return;
    setBusy(true);
    void uploadInto(node, spec.name, file).finally(() => setBusy(false));
    if (input.current) input.current.value = "";
  };
  const name = humanName(spec.name).toLowerCase();
  return (
    <div
      className={classes("upload", over && "upload-over")}
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        // Dropped on the field: it is meant for the field, not a workflow to open.
        event.preventDefault();
        setOver(false);
        upload(event.dataTransfer.files);
      }}
    >
      {spec.upload === "image" && <Preview value={value} />}
      <div className="upload-side">
        {children}
        <Button icon={<Upload size={16} aria-hidden="true" />} disabled={busy} onClick={() => input.current?.click()}>
          {busy ? "Uploading…" : `Upload ${spec.upload === "audio" ? "audio" : `a${spec.upload === "image" ? "n image" : " video"}`}`}
        </Button>
        <p className="muted small">or drop it here</p>
        <input
          ref={input}
          type="file"
          className="visually-hidden"
          accept={ACCEPT[spec.upload ?? "image"]}
          aria-label={`File for ${name} of node ${node}`}
          tabIndex={-1}
          onChange={(event) => upload(event.target.files)}
        />
      </div>
    </div>
  );
}

function Preview({ value }: { value: Json | undefined }) {
  const [failed, setFailed] = useState(false);
  useEffect(() => setFailed(false), [value]);
  const name = typeof value === "string" && value !== "" ? value : null;
  if (name === null || failed) {
    return (
      <div className="upload-preview upload-nothing">
        <ImageOff size={24} aria-hidden="true" />
        <span className="small">{name === null ? "No image chosen" : "Not on this server: upload it, or choose another"}</span>
      </div>
    );
  }
  return <img className="upload-preview" src={viewUrl(inputFileRef(name))} alt={`Chosen image: ${name}`} onError={() => setFailed(true)} />;
}
