import { Toast } from "@base-ui/react/toast";
import { CSPProvider } from "@base-ui/react/csp-provider";
import { Upload, X } from "lucide-react";
import { useEffect, useState } from "react";
import { toastManager } from "../state/toasts";
import { openFile, openText } from "../state/workflow-actions";
import { ActivityView } from "./activity/ActivityView";
import { DownBanner, Header } from "./Header";
import { GalleryView } from "./gallery/GalleryView";
import { useView } from "./hooks";
import type { View } from "./hooks";
import { PacksView } from "./packs/PacksView";
import { ServerView } from "./server/ServerView";
import { WorkflowView } from "./workflow/WorkflowView";

const TITLES: Record<View, string> = { workflow: "Workflow", gallery: "Gallery", activity: "Activity", packs: "Packs", server: "Server" };

export function App() {
  const view = useView();
  useEffect(() => {
    document.title = `${TITLES[view]} · Vivarium`;
  }, [view]);
  return (
    <CSPProvider disableStyleElements>
      <Toast.Provider toastManager={toastManager} limit={4}>
        <a className="skip-link" href="#main" onClick={focusMain}>
          Skip to content
        </a>
        <Header view={view} />
        <DownBanner />
        <main id="main" tabIndex={-1} className={`main main-${view}`}>
          {view === "workflow" && <WorkflowView />}
          {view === "gallery" && <GalleryView />}
          {view === "activity" && <ActivityView />}
          {view === "packs" && <PacksView />}
          {view === "server" && <ServerView />}
        </main>
        <DropAnywhere />
        <Toast.Portal>
          <Toast.Viewport className="toasts">
            <ToastList />
          </Toast.Viewport>
        </Toast.Portal>
      </Toast.Provider>
    </CSPProvider>
  );
}

/** The address bar holds the view, so the link must not change it. */
function focusMain(event: React.MouseEvent): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}

function ToastList() {
  const { toasts } = Toast.useToastManager();
  return toasts.map((toast) => (
    <Toast.Root key={toast.id} toast={toast} className="toast">
      <div className="toast-body">
        <Toast.Title className="toast-title" />
        <Toast.Description className="toast-text" />
      </div>
      <Toast.Close className="icon-button" aria-label="Close message">
        <X size={16} aria-hidden="true" />
      </Toast.Close>
    </Toast.Root>
  ));
}

/** A workflow can be dropped anywhere on the page, or pasted while no field has the focus. */
function DropAnywhere() {
  const [over, setOver] = useState(false);
  useEffect(() => {
    const dragOver = (event: DragEvent) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      setOver(true);
    };
    const leave = (event: DragEvent) => {
      if (event.relatedTarget === null) setOver(false);
    };
    const drop = (event: DragEvent) => {
      setOver(false);
      if (event.defaultPrevented) return;
      event.preventDefault();
      const file = event.dataTransfer?.files[0];
      if (file) void openFile(file);
    };
    const paste = (event: ClipboardEvent) => {
      if (isEditable(event.target)) return;
      const file = event.clipboardData?.files[0];
      const text = event.clipboardData?.getData("text/plain") ?? "";
      if (file) void openFile(file);
      else if (text.trim().startsWith("{")) void openText(text, "Pasted workflow");
    };
    window.addEventListener("dragover", dragOver);
    window.addEventListener("dragleave", leave);
    window.addEventListener("drop", drop);
    window.addEventListener("paste", paste);
    return () => {
      window.removeEventListener("dragover", dragOver);
      window.removeEventListener("dragleave", leave);
      window.removeEventListener("drop", drop);
      window.removeEventListener("paste", paste);
    };
  }, []);
  if (!over) return null;
  return (
    <div className="drop-overlay" aria-hidden="true">
      <Upload size={40} />
      <p>Drop a workflow: JSON, or an image that was made with one</p>
    </div>
  );
}

function isEditable(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}
