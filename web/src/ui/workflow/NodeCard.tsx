import { ArrowRight, Check, CircleAlert, Unplug } from "lucide-react";
import { memo } from "react";
import { viewUrl } from "../../api/client";
import type { ControlMode } from "../../lib/convert/widgets";
import { problemsOf } from "../../lib/error-words";
import type { NodeProblems } from "../../lib/error-words";
import { asLink, inputSpecs, isWidget, outputName } from "../../lib/object-info";
import type { InputSpec } from "../../lib/object-info";
import { filesOf, textsOf } from "../../lib/run";
import type { NodeState } from "../../lib/run";
import type { Consumer } from "../../lib/topo";
import type { Json, Link, NodeInfo, PromptNode } from "../../lib/types";
import { useStore } from "../../state/store";
import { Badge, classes, ProgressBar } from "../bits";
import { Field } from "./Field";

interface Props {
  id: string;
  node: PromptNode;
  position: number;
  users: Consumer[] | undefined;
  controls: Record<string, ControlMode> | undefined;
}

export const NodeCard = memo(function NodeCard({ id, node, position, users, controls }: Props) {
  const info = useStore((app) => app.objectInfo?.[node.class_type]);
  const state = useStore((app) => (app.shownRun ? app.runs[app.shownRun]?.nodes[id] : undefined));
  const problems = useProblems(id);
  const title = node._meta?.title || info?.display_name || node.class_type;
  const bad = problems.node.length > 0 || Object.keys(problems.fields).length > 0 || state?.state === "error";
  return (
    <li className={classes("node", state && `node-${state.state}`, bad && "node-bad")} id={`node-${id}`} tabIndex={-1}>
      <span className="node-mark" aria-hidden="true">
        <Mark state={state} bad={bad} position={position} />
      </span>
      <section className="node-card" aria-labelledby={`title-${id}`}>
        <header className="node-header">
          <h2 id={`title-${id}`}>{title}</h2>
          <span className="node-class">
            {node.class_type} <span className="node-id">#{id}</span>
          </span>
          <StateBadge state={state} />
          {info?.output_node && <Badge>Result</Badge>}
        </header>
        {state?.state === "running" && <ProgressBar hideLabel label={`Progress of ${title}`} value={state.max > 1 || state.value > 0 ? state.value / state.max : null} />}
        {!info && <p className="field-error">This server has no node class &ldquo;{node.class_type}&rdquo;. Install a pack that brings it.</p>}
        {problems.node.map((sentence) => (
          <p key={sentence} className="field-error" role="alert">
            {sentence}
          </p>
        ))}
        <Inputs id={id} node={node} info={info} problems={problems} controls={controls} />
        <Results id={id} title={title} />
        <Users info={info} users={users} />
      </section>
    </li>
  );
});

function useProblems(id: string): NodeProblems {
  const refused = useStore((app) => app.refusal?.nodeErrors[id]);
  const partial = useStore((app) => app.partialErrors[id]);
  return problemsOf(id, refused ? { [id]: refused } : {}, partial ? { [id]: partial } : {});
}

function Mark({ state, bad, position }: { state: NodeState | undefined; bad: boolean; position: number }) {
  if (bad) return <CircleAlert size={16} />;
  if (state?.state === "finished" || state?.state === "cached") return <Check size={16} strokeWidth={3} />;
  return position;
}

function StateBadge({ state }: { state: NodeState | undefined }) {
  switch (state?.state) {
    case "running":
      return <Badge tone="busy">{state.max > 1 ? `Running, ${Math.round((state.value / state.max) * 100)} %` : "Running"}</Badge>;
    case "finished":
      return <Badge tone="good">Done</Badge>;
    case "cached":
      return <Badge tone="good">Unchanged, reused</Badge>;
    case "error":
      return <Badge tone="bad">Failed</Badge>;
    default:
      return null;
  }
}

interface InputsProps {
  id: string;
  node: PromptNode;
  info: NodeInfo | undefined;
  problems: NodeProblems;
  controls: Record<string, ControlMode> | undefined;
}

function Inputs({ id, node, info, problems, controls }: InputsProps) {
  const specs = info ? inputSpecs(info) : [];
  const declared = new Set(specs.map((spec) => spec.name));
  const linked = Object.entries(node.inputs).flatMap(([name, value]) => {
    const link = asLink(value);
    return link ? [{ name, link }] : [];
  });
  const isLinked = (name: string) => linked.some((entry) => entry.name === name);
  const widgets = specs.filter(isWidget).filter((spec) => !isLinked(spec.name));
  const open = specs.filter((spec) => !isWidget(spec) && !isLinked(spec.name));
  const extra = Object.entries(node.inputs).filter(([name]) => !declared.has(name) && !isLinked(name));
  return (
    <>
      {(linked.length > 0 || open.some((spec) => spec.section === "required")) && (
        <ul className="connections" aria-label="Connected inputs">
          {linked.map(({ name, link }) => (
            <Connection key={name} name={name} link={link} problems={problems.fields[name]} />
          ))}
          {open.filter((spec) => spec.section === "required").map((spec) => (
            <MissingConnection key={spec.name} spec={spec} value={node.inputs[spec.name]} problems={problems.fields[spec.name]} />
          ))}
        </ul>
      )}
      {widgets.length > 0 && (
        <div className="fields">
          {widgets.map((spec) => (
            <Field key={spec.name} node={id} spec={spec} value={node.inputs[spec.name]} problems={problems.fields[spec.name]} control={controls?.[spec.name]} />
          ))}
        </div>
      )}
      {extra.length > 0 && <ExtraValues entries={extra} known={info !== undefined} />}
    </>
  );
}

function Connection({ name, link, problems }: { name: string; link: Link; problems: string[] | undefined }) {
  const [source, slot] = link;
  const origin = useStore((app) => app.document?.prompt[source]);
  const info = useStore((app) => (origin ? app.objectInfo?.[origin.class_type] : undefined));
  const title = origin?._meta?.title || info?.display_name || origin?.class_type;
  return (
    <li className="connection">
      <span className="connection-name">{name}</span>
      <span className="connection-from">
        {title ? (
          <>
            from <JumpLink id={source}>{title}</JumpLink>
            <span className="connection-slot">{outputName(info, slot)}</span>
          </>
        ) : (
          <span className="field-error">node #{source}, which is not in this workflow</span>
        )}
      </span>
      <Problems list={problems} />
    </li>
  );
}

function MissingConnection({ spec, value, problems }: { spec: InputSpec; value: Json | undefined; problems: string[] | undefined }) {
  return (
    <li className="connection">
      <span className="connection-name">{spec.name}</span>
      <span className="connection-from muted">
        <Unplug size={14} aria-hidden="true" /> {value === undefined ? `nothing connected (needs ${spec.type})` : `a fixed value where ${spec.type} is expected`}
      </span>
      <Problems list={problems} />
    </li>
  );
}

function Problems({ list }: { list: string[] | undefined }) {
  return (list ?? []).map((sentence) => (
    <p key={sentence} className="field-error" role="alert">
      {sentence}
    </p>
  ));
}

function ExtraValues({ entries, known }: { entries: [string, Json][]; known: boolean }) {
  return (
    <details className="extra">
      <summary>
        {entries.length} value{entries.length === 1 ? "" : "s"} {known ? "that this server's node does not know" : "kept as they are"}
      </summary>
      <dl>
        {entries.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{typeof value === "string" ? value : String(JSON.stringify(value, (_key, item: unknown) => (typeof item === "bigint" ? item.toString() : item)))}</dd>
          </div>
        ))}
      </dl>
    </details>
  );
}

function Users({ info, users }: { info: NodeInfo | undefined; users: Consumer[] | undefined }) {
  if (!users || users.length === 0) return null;
  return (
    <p className="users">
      <ArrowRight size={14} aria-hidden="true" />
      <span className="visually-hidden">Goes to </span>
      {users.map(({ node, input, slot }) => (
        <User key={`${node}.${input}`} node={node} input={input} output={outputName(info, slot)} />
      ))}
    </p>
  );
}

function User({ node, input, output }: { node: string; input: string; output: string }) {
  const target = useStore((app) => app.document?.prompt[node]);
  const info = useStore((app) => (target ? app.objectInfo?.[target.class_type] : undefined));
  return (
    <span className="user" title={`${output} goes to ${input}`}>
      <JumpLink id={node}>{target?._meta?.title || info?.display_name || target?.class_type || node}</JumpLink>
    </span>
  );
}

/** Goes to a node's card. Not an address: the address bar holds the view. */
export function JumpLink({ id, children }: { id: string; children: React.ReactNode }) {
  return (
    <button type="button" className="jump" onClick={() => jumpTo(id)}>
      {children}
    </button>
  );
}

export function jumpTo(id: string): void {
  const target = document.getElementById(`node-${id}`);
  const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  target?.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
  target?.focus({ preventScroll: true });
}

/** Small pictures of what the node gave in the shown run. */
function Results({ id, title }: { id: string; title: string }) {
  const output = useStore((app) => (app.shownRun ? app.runs[app.shownRun]?.outputs[id] : undefined));
  const text = useStore((app) => (app.shownRun ? app.runs[app.shownRun]?.texts[id] : undefined));
  const texts = [...(text ? [text] : []), ...(output ? textsOf(output) : [])];
  const images = output ? filesOf(output).filter((file) => /\.(png|jpe?g|webp|gif|avif)$/i.test(file.filename)) : [];
  if (images.length === 0 && texts.length === 0) return null;
  return (
    <div className="node-results">
      {images.slice(0, 6).map((file) => (
        <img key={file.subfolder + file.filename} src={viewUrl(file)} alt={`Result of ${title}`} loading="lazy" />
      ))}
      {texts.map((line) => (
        <pre key={line}>{line}</pre>
      ))}
    </div>
  );
}
