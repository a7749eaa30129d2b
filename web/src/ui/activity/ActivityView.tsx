import { Clock, RotateCcw, Square, Trash2, Workflow, X } from "lucide-react";
import { changeHistory } from "../../api/client";
import { formatAgo, formatDuration, plural } from "../../lib/format";
import { filesOf, overallProgress, readHistory } from "../../lib/run";
import type { HistoryEntry, Prompt, QueueItem } from "../../lib/types";
import { doAndRefresh, refresh } from "../../state/server-actions";
import { useStore } from "../../state/store";
import { cancel, clearQueue, openHistoryEntry } from "../../state/workflow-actions";
import { Button, Confirm, Empty, IconButton, Notice, ProgressBar, Skeleton } from "../bits";
import { MoreButton } from "../gallery/GalleryView";
import { mediaKind } from "../gallery/media-items";
import { viewUrl } from "../../api/client";
import { StatusBadge } from "../workflow/Stage";

export function ActivityView() {
  return (
    <>
      <h1 className="view-title">Activity</h1>
      <QueueSection />
      <HistorySection />
    </>
  );
}

function QueueSection() {
  const queue = useStore((app) => app.queue);
  const running = queue?.queue_running ?? [];
  const pending = [...(queue?.queue_pending ?? [])].sort((a, b) => a[0] - b[0]);
  return (
    <section aria-labelledby="queue-title">
      <div className="view-heading">
        <h2 id="queue-title">Queue</h2>
        {pending.length > 1 && (
          <Confirm
            trigger={`Cancel all ${pending.length} waiting`}
            title="Cancel all waiting runs?"
            text={`${plural(pending.length, "run")} will leave the queue. The one that is running goes on.`}
            confirm="Cancel them"
            onConfirm={() => void clearQueue()}
          />
        )}
      </div>
      {queue === null && <Skeleton lines={2} />}
      {queue !== null && running.length + pending.length === 0 && <p className="muted quiet-line">Nothing is running or waiting.</p>}
      <ul className="rows">
        {running.map((item) => (
          <RunningRow key={item[1]} item={item} />
        ))}
        {pending.map((item, index) => (
          <PendingRow key={item[1]} item={item} place={index + 1} />
        ))}
      </ul>
    </section>
  );
}

function RunningRow({ item }: { item: QueueItem }) {
  const run = useStore((app) => app.runs[item[1]]);
  return (
    <li className="row-card">
      <div className="row-main">
        <p className="row-title">
          <StatusBadge status="running" /> {nameOf(item[2])} <code className="short-id">{item[1].slice(0, 8)}</code>
        </p>
        <ProgressBar hideLabel label="Progress" value={run ? overallProgress(run) : null} />
      </div>
      <Button variant="danger" icon={<Square size={14} fill="currentColor" aria-hidden="true" />} onClick={() => void cancel(item[1])}>
        Stop
      </Button>
    </li>
  );
}

function PendingRow({ item, place }: { item: QueueItem; place: number }) {
  return (
    <li className="row-card">
      <div className="row-main">
        <p className="row-title">
          <StatusBadge status="queued" /> {nameOf(item[2])} <code className="short-id">{item[1].slice(0, 8)}</code>
        </p>
        <p className="muted small">Place {place} in line</p>
      </div>
      <IconButton label={`Cancel run ${item[1].slice(0, 8)}`} icon={<X size={18} aria-hidden="true" />} onClick={() => void cancel(item[1])} />
    </li>
  );
}

function HistorySection() {
  const history = useStore((app) => app.history);
  const error = useStore((app) => app.historyError);
  const clear = () => void doAndRefresh("The history could not be cleared", () => changeHistory({ clear: true }));
  return (
    <section aria-labelledby="history-title">
      <div className="view-heading">
        <h2 id="history-title">History</h2>
        {history !== null && history.length > 0 && (
          <Confirm trigger="Clear history" title="Clear the whole history?" text="Saved images stay in the output folder, but this page no longer lists them." confirm="Clear it" onConfirm={clear} />
        )}
      </div>
      {error && (
        <Notice tone="bad" title="The history could not be loaded" actions={<Button onClick={() => void refresh()}>Try again</Button>}>
          <p>{error}</p>
        </Notice>
      )}
      {history === null && !error && <Skeleton />}
      {history?.length === 0 && (
        <Empty icon={<Clock size={36} strokeWidth={1.4} />} title="No runs yet">
          <p className="muted">Finished runs are listed here, and survive a restart of the server.</p>
        </Empty>
      )}
      <ul className="rows">
        {(history ?? []).map((entry) => (
          <HistoryRow key={entry.prompt[1]} entry={entry} />
        ))}
      </ul>
      <MoreButton />
    </section>
  );
}

function HistoryRow({ entry }: { entry: HistoryEntry }) {
  const id = entry.prompt[1];
  const facts = readHistory(entry);
  const duration = facts.startedAt !== null && facts.finishedAt !== null ? facts.finishedAt - facts.startedAt : null;
  const images = Object.values(entry.outputs).flatMap(filesOf).filter((file) => mediaKind(file) === "image");
  const remove = () => void doAndRefresh("The entry could not be deleted", () => changeHistory({ delete: [id] }));
  return (
    <li className="row-card">
      <div className="row-thumbs" aria-hidden="true">
        {images.slice(0, 3).map((file) => (
          <img key={file.type + file.subfolder + file.filename} src={viewUrl(file)} alt="" loading="lazy" />
        ))}
      </div>
      <div className="row-main">
        <p className="row-title">
          <StatusBadge status={facts.status} /> {nameOf(entry.prompt[2])} <code className="short-id">{id.slice(0, 8)}</code>
        </p>
        <p className="muted small">
          {[facts.finishedAt !== null && formatAgo(facts.finishedAt), duration !== null && formatDuration(duration), images.length > 0 && plural(images.length, "image")].filter(Boolean).join(" · ")}
        </p>
        {facts.error && (
          <details className="row-error">
            <summary>
              {facts.error.nodeType ?? "Error"}: {facts.error.message.split("\n")[0]}
            </summary>
            <pre>
              {facts.error.type}: {facts.error.message}
              {"\n"}
              {facts.error.traceback.join("")}
            </pre>
          </details>
        )}
      </div>
      <div className="row tight">
        <IconButton label={`Open the workflow of run ${id.slice(0, 8)}`} icon={facts.status === "done" ? <Workflow size={18} aria-hidden="true" /> : <RotateCcw size={18} aria-hidden="true" />} onClick={() => void openHistoryEntry(entry)} />
        <Confirm
          triggerClass="icon-button"
          trigger={
            <>
              <Trash2 size={18} aria-hidden="true" />
              <span className="visually-hidden">Delete run {id.slice(0, 8)} from the history</span>
            </>
          }
          title="Delete this entry?"
          text="Saved images stay in the output folder, but this page no longer lists them."
          confirm="Delete it"
          onConfirm={remove}
        />
      </div>
    </li>
  );
}

/** What a run is about: the titles of the nodes that end it would need definitions, so its size and last class must do. */
function nameOf(prompt: Prompt): string {
  const nodes = Object.values(prompt);
  const last = nodes.at(-1);
  return `${plural(nodes.length, "node")}${last ? `, ${last._meta?.title || last.class_type}` : ""}`;
}
