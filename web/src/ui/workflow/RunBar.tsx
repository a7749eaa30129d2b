import { Play, Square } from "lucide-react";
import { useEffect, useState } from "react";
import { countErrors, errorWords } from "../../lib/error-words";
import { humanName, plural } from "../../lib/format";
import { isOver, overallProgress } from "../../lib/run";
import type { ApiError, NodeErrors } from "../../lib/types";
import { getState, useStore } from "../../state/store";
import { cancel, run } from "../../state/workflow-actions";
import { Button, Notice, ProgressBar } from "../bits";
import { JumpLink, jumpTo } from "./NodeCard";

const MOST_RUNS = 100;

export function RunBar() {
  const [count, setCount] = useState("1");
  const [front, setFront] = useState(false);
  const submitting = useStore((app) => app.submitting);
  const offline = useStore((app) => app.connection === "down");
  const start = () => void run(wholeCount(count), front);
  useShortcut(start);
  return (
    <>
      <div className="runbar" role="group" aria-label="Run the workflow">
        <ThinProgress />
        <Button variant="primary" className="run-button" icon={<Play size={18} fill="currentColor" aria-hidden="true" />} disabled={submitting || offline} onClick={start} title="Ctrl+Enter">
          {submitting ? "Queueing…" : "Run"}
        </Button>
        <StopButton />
        <label className="run-count">
          <span>times</span>
          <input type="text" inputMode="numeric" value={count} aria-label="Number of runs" onChange={(event) => setCount(event.target.value.replace(/\D/g, ""))} onBlur={() => setCount(String(wholeCount(count)))} />
        </label>
        <label className="check" title="Before everything that waits">
          <input type="checkbox" checked={front} onChange={(event) => setFront(event.target.checked)} />
          <span>next in line</span>
        </label>
      </div>
      <Refusal />
    </>
  );
}

function wholeCount(text: string): number {
  return Math.min(MOST_RUNS, Math.max(1, Number(text) || 1));
}

function useShortcut(start: () => void): void {
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      start();
    };
    window.addEventListener("keydown", pressed);
    return () => window.removeEventListener("keydown", pressed);
  });
}

/** On a phone the stage may be out of sight; this line is not. */
function ThinProgress() {
  const shown = useStore((app) => (app.shownRun ? app.runs[app.shownRun] : undefined));
  if (shown?.status !== "running") return null;
  return (
    <div className="runbar-progress" aria-hidden="true">
      <ProgressBar hideLabel label="Progress of the run" value={overallProgress(shown)} />
    </div>
  );
}

function StopButton() {
  const shown = useStore((app) => (app.shownRun ? app.runs[app.shownRun] : undefined));
  if (!shown || isOver(shown)) return null;
  return (
    <Button variant="danger" className="stop-button" icon={<Square size={14} fill="currentColor" aria-hidden="true" />} onClick={() => void cancel(shown.id)}>
      {shown.status === "queued" ? "Cancel" : "Stop"}
    </Button>
  );
}

function Refusal() {
  const refusal = useStore((app) => app.refusal);
  const error = refusal?.error;
  useEffect(() => {
    if (error) showProblem(getState().refusal?.nodeErrors ?? {});
  }, [error]);
  const partial = useStore((app) => app.partialErrors);
  if (refusal) {
    return (
      <Notice tone="bad" title={headline(refusal.error, refusal.nodeErrors)}>
        <ErrorPlaces errors={refusal.nodeErrors} />
        {Object.keys(refusal.nodeErrors).length === 0 && <p className="pre">{refusal.error.details}</p>}
      </Notice>
    );
  }
  if (Object.keys(partial).length === 0 || countErrors(partial) === 0) return null;
  return (
    <Notice tone="warn" title="Queued, but some results were left out because of errors">
      <ErrorPlaces errors={partial} />
    </Notice>
  );
}

/** Goes to the first node with a problem in the order of the page, else to the notice itself. */
function showProblem(errors: NodeErrors): void {
  const cards = Array.from(document.querySelectorAll(".node"), (card) => card.id.replace(/^node-/, ""));
  const first = cards.find((id) => (errors[id]?.errors.length ?? 0) > 0);
  if (first !== undefined) jumpTo(first);
  else document.querySelector(".workflow-stage .notice")?.scrollIntoView({ block: "center" });
}

function headline(error: ApiError, nodeErrors: NodeErrors): string {
  const count = countErrors(nodeErrors);
  if (count > 0) return `Not queued: ${plural(count, "value")} need${count === 1 ? "s" : ""} a change`;
  if (Object.keys(nodeErrors).length > 0) return "Ready to try again";
  return `Not queued: ${error.message}`;
}

function placeAndWords(error: ApiError): string {
  const input = error.extra_info?.["input_name"];
  return typeof input === "string" ? `${humanName(input)}: ${errorWords(error)}` : errorWords(error);
}

function ErrorPlaces({ errors }: { errors: NodeErrors }) {
  const nodes = Object.entries(errors).filter(([, report]) => report.errors.length > 0);
  if (nodes.length === 0) return null;
  return (
    <ul className="error-places">
      {nodes.map(([id, report]) => (
        <li key={id}>
          <JumpLink id={id}>
            {report.class_type} #{id}
          </JumpLink>
          {report.errors.map((error) => (
            <p key={`${error.type} ${error.details}`}>{placeAndWords(error)}</p>
          ))}
        </li>
      ))}
    </ul>
  );
}
