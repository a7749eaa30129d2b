/** Shows the run that matters now: its progress, its live preview, and what came out of it. */
import { ImageIcon } from "lucide-react";
import { useState } from "react";
import { formatDuration, plural } from "../../lib/format";
import { filesOf, isOver, overallProgress } from "../../lib/run";
import type { Run, RunStatus } from "../../lib/run";
import { useStore } from "../../state/store";
import { Badge, Notice, ProgressBar } from "../bits";
import type { Tone } from "../bits";
import { Lightbox } from "../gallery/Lightbox";
import { MediaThumb } from "../gallery/Media";
import type { MediaItem } from "../gallery/media-items";
import { useNow } from "../hooks";
import { JumpLink } from "./NodeCard";

export function Stage() {
  const run = useStore((app) => (app.shownRun ? app.runs[app.shownRun] : undefined));
  const preview = useStore((app) => app.preview);
  if (!run) return <NothingYet />;
  const url = preview?.runId === run.id ? preview.url : null;
  return (
    <div className="stage" data-status={run.status}>
      <StageHeader run={run} />
      {run.error && <Failure run={run} />}
      {url && !isOver(run) && (
        <figure className="stage-preview">
          <img src={url} alt="Live preview" />
          <figcaption>Live preview</figcaption>
        </figure>
      )}
      <StageResults run={run} />
      <WaitingRuns shown={run.id} />
    </div>
  );
}

function NothingYet() {
  return (
    <div className="stage stage-nothing">
      <ImageIcon size={32} aria-hidden="true" strokeWidth={1.4} />
      <p>Results appear here</p>
      <p className="muted small">
        Press Run, or <kbd>Ctrl</kbd>+<kbd>Enter</kbd> anywhere
      </p>
    </div>
  );
}

const STATUS: Record<RunStatus, { word: string; tone: Tone }> = {
  queued: { word: "Waiting", tone: "neutral" },
  running: { word: "Running", tone: "busy" },
  done: { word: "Done", tone: "good" },
  failed: { word: "Failed", tone: "bad" },
  cancelled: { word: "Cancelled", tone: "warn" },
};

export function StatusBadge({ status }: { status: RunStatus }) {
  const { word, tone } = STATUS[status];
  return <Badge tone={tone}>{word}</Badge>;
}

function StageHeader({ run }: { run: Run }) {
  const now = useNow(run.status === "running");
  const current = useStore((app) => (run.current ? app.document?.prompt[run.current] : undefined));
  const info = useStore((app) => (current ? app.objectInfo?.[current.class_type] : undefined));
  const done = Object.values(run.nodes).filter((node) => node.state === "finished" || node.state === "cached").length;
  const total = Object.keys(run.prompt).length;
  const doing = current?._meta?.title || info?.display_name || current?.class_type;
  const elapsed = run.startedAt === null ? null : (run.finishedAt ?? now) - run.startedAt;
  return (
    <div className="stage-header">
      <div className="row between">
        <span role="status">
          <StatusBadge status={run.status} />
        </span>
        <span className="muted small">
          {!isOver(run) && `${done} of ${plural(total, "node")}`}
          {elapsed !== null && elapsed >= 0 && ` ${timeWord(run.status)} ${formatDuration(elapsed)}`}
        </span>
      </div>
      {!isOver(run) && <ProgressBar label={run.status === "queued" ? "In the queue" : (doing ?? "Working")} value={run.status === "queued" ? null : overallProgress(run)} />}
    </div>
  );
}

function timeWord(status: RunStatus): string {
  if (status === "running" || status === "queued") return "·";
  return status === "done" ? "in" : "after";
}

function Failure({ run }: { run: Run }) {
  const error = run.error;
  if (!error) return null;
  return (
    <Notice tone="bad" title={error.nodeType ? `${error.nodeType} failed` : "The run failed"}>
      <p className="pre">{error.message}</p>
      {error.nodeId && (
        <p>
          <JumpLink id={error.nodeId}>Go to node #{error.nodeId}</JumpLink>
        </p>
      )}
      {error.traceback.length > 0 && (
        <details>
          <summary>Technical details</summary>
          <pre>
            {error.type}
            {"\n"}
            {error.traceback.join("")}
          </pre>
        </details>
      )}
    </Notice>
  );
}

function StageResults({ run }: { run: Run }) {
  const [open, setOpen] = useState<number | null>(null);
  const items: MediaItem[] = Object.entries(run.outputs).flatMap(([node, output]) =>
    filesOf(output).map((file) => ({ file, promptId: run.id, node, when: run.finishedAt })),
  );
  if (items.length === 0) {
    return run.status === "done" ? <p className="muted stage-note">This run gave no files.</p> : null;
  }
  return (
    <>
      <ul className={items.length === 1 ? "stage-results stage-single" : "stage-results"} aria-label="Results of this run">
        {items.map((item, index) => (
          <li key={item.file.type + item.file.subfolder + item.file.filename}>
            <MediaThumb item={item} large={items.length === 1} onOpen={() => setOpen(index)} />
          </li>
        ))}
      </ul>
      <Lightbox items={items} index={open} onChange={setOpen} />
    </>
  );
}

function WaitingRuns({ shown }: { shown: string }) {
  const count = useStore((app) => Object.values(app.runs).filter((run) => !isOver(run) && run.id !== shown).length);
  if (count === 0) return null;
  return (
    <p className="muted small stage-note">
      {plural(count, "more run")} of yours in the queue. <a href="#/activity">See all</a>
    </p>
  );
}
