import { Download, FileJson, FolderOpen, Sparkles, X } from "lucide-react";
import { useMemo, useRef } from "react";
import { plural } from "../../lib/format";
import { consumers, linkSignature, topologicalOrder } from "../../lib/topo";
import { retry } from "../../state/server-actions";
import { useStore } from "../../state/store";
import { closeDocument, downloadDocument, openExample, openFile } from "../../state/workflow-actions";
import type { WorkflowDocument } from "../../lib/workflow";
import { Button, IconButton, Notice, Skeleton } from "../bits";
import { NodeCard } from "./NodeCard";
import { RunBar } from "./RunBar";
import { Stage } from "./Stage";

export function WorkflowView() {
  const workflow = useStore((app) => app.document);
  return workflow ? <OpenWorkflow workflow={workflow} /> : <NoWorkflow />;
}

function OpenWorkflow({ workflow }: { workflow: WorkflowDocument }) {
  return (
    <div className="workflow">
      <div className="workflow-form">
        <Heading workflow={workflow} />
        <Warnings workflow={workflow} />
        <Nodes workflow={workflow} />
      </div>
      <aside className="workflow-stage" aria-label="Run and result">
        <RunBar />
        <Stage />
      </aside>
    </div>
  );
}

function Heading({ workflow }: { workflow: WorkflowDocument }) {
  const count = Object.keys(workflow.prompt).length;
  return (
    <div className="workflow-heading">
      <div>
        <h1>{workflow.name}</h1>
        <p className="muted">
          {plural(count, "node")}, listed in the order of the work
        </p>
      </div>
      <div className="row">
        <OpenButton compact />
        <ExampleButton compact />
        <IconButton label="Download as JSON (API form)" icon={<Download size={18} aria-hidden="true" />} onClick={downloadDocument} />
        <IconButton label="Close this workflow" icon={<X size={18} aria-hidden="true" />} onClick={closeDocument} />
      </div>
    </div>
  );
}

function Warnings({ workflow }: { workflow: WorkflowDocument }) {
  const objectInfoError = useStore((app) => app.objectInfoError);
  return (
    <>
      {workflow.warnings.length > 0 && (
        <Notice tone="warn" title="Please check before you run">
          <ul>
            {workflow.warnings.map((warning) => (
              <li key={warning}>{warning}</li>
            ))}
          </ul>
        </Notice>
      )}
      {objectInfoError && (
        <Notice tone="bad" title="The node definitions could not be loaded, so fields cannot be shown" actions={<Button onClick={() => void retry()}>Try again</Button>}>
          <p>{objectInfoError}</p>
        </Notice>
      )}
    </>
  );
}

function Nodes({ workflow }: { workflow: WorkflowDocument }) {
  const loaded = useStore((app) => app.objectInfo !== null);
  const failed = useStore((app) => app.objectInfoError !== null);
  // Values change on every keystroke, links only with the document as a whole.
  const links = linkSignature(workflow.prompt);
  const order = useMemo(() => topologicalOrder(workflow.prompt), [links]);
  const users = useMemo(() => consumers(workflow.prompt), [links]);
  if (!loaded) return failed ? null : <Skeleton lines={6} />;
  return (
    <>
      {order.cyclic.length > 0 && (
        <Notice tone="bad" title="These nodes wait for each other in a circle">
          <p>{order.cyclic.map((id) => `#${id}`).join(", ")}. The server will refuse this workflow.</p>
        </Notice>
      )}
      <ol className="nodes">
        {order.ids.map((id, index) => (
          <NodeCard key={id} id={id} node={workflow.prompt[id]!} position={index + 1} users={users.get(id)} controls={workflow.controls[id]} />
        ))}
      </ol>
    </>
  );
}

function NoWorkflow() {
  const objectInfo = useStore((app) => app.objectInfo);
  const count = objectInfo ? Object.keys(objectInfo).length : null;
  return (
    <div className="welcome">
      <h1>Run an image workflow</h1>
      <p className="welcome-lead">
        Every node runs in its own sandbox on this server. Open a workflow, set its values, press Run.
      </p>
      <div className="welcome-drop">
        <FileJson size={44} aria-hidden="true" strokeWidth={1.4} />
        <p>
          Drop a workflow here, or paste one with <kbd>Ctrl</kbd>+<kbd>V</kbd>
        </p>
        <div className="row center">
          <OpenButton />
          <ExampleButton />
        </div>
        <p className="muted small">
          JSON in ComfyUI&rsquo;s API form or as its graph editor saves it, or a PNG that a workflow made.
        </p>
      </div>
      <ServerLine count={count} />
    </div>
  );
}

function ServerLine({ count }: { count: number | null }) {
  const error = useStore((app) => app.objectInfoError);
  if (count === 0) {
    return (
      <Notice tone="warn" title="This server has no nodes yet">
        <p>Put node packs into its packs folder and start it again; see Packs for what is installed.</p>
      </Notice>
    );
  }
  if (count !== null) return <p className="muted small">{plural(count, "kind")} of nodes ready on this server.</p>;
  return error ? <p className="muted small">The server&rsquo;s nodes could not be listed: {error}</p> : null;
}

function OpenButton({ compact = false }: { compact?: boolean }) {
  const input = useRef<HTMLInputElement>(null);
  const choose = (files: FileList | null) => {
    const file = files?.[0];
    if (file) void openFile(file);
    if (input.current) input.current.value = "";
  };
  return (
    <>
      <Button variant={compact ? "quiet" : "primary"} icon={<FolderOpen size={18} aria-hidden="true" />} onClick={() => input.current?.click()}>
        Open{compact ? "" : " a workflow"}
      </Button>
      <input
        ref={input}
        type="file"
        className="visually-hidden"
        accept=".json,.png,application/json,image/png"
        aria-label="Workflow file"
        tabIndex={-1}
        onChange={(event) => choose(event.target.files)}
      />
    </>
  );
}

function ExampleButton({ compact = false }: { compact?: boolean }) {
  const offered = useStore((app) => app.hasExample);
  if (!offered) return null;
  return (
    <Button variant={compact ? "quiet" : "plain"} icon={<Sparkles size={18} aria-hidden="true" />} onClick={() => void openExample()}>
      {compact ? "Example" : "Open example"}
    </Button>
  );
}
