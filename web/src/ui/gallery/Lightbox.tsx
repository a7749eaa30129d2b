import { Dialog } from "@base-ui/react/dialog";
import { ChevronLeft, ChevronRight, Download, Workflow, X } from "lucide-react";
import { useState } from "react";
import { viewUrl } from "../../api/client";
import { formatAgo } from "../../lib/format";
import { openImageWorkflow } from "../../state/workflow-actions";
import { IconButton } from "../bits";
import { MediaFull } from "./Media";
import type { MediaItem } from "./media-items";

interface Props {
  items: MediaItem[];
  /** Null when closed. */
  index: number | null;
  onChange: (index: number | null) => void;
}

/** One result at a time, as large as the window. Arrow keys step, Escape closes. */
export function Lightbox({ items, index, onChange }: Props) {
  const item = index === null ? undefined : items[index];
  const step = (by: number) => {
    if (index !== null && items[index + by]) onChange(index + by);
  };
  const keys = (event: React.KeyboardEvent) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  };
  return (
    <Dialog.Root open={item !== undefined} onOpenChange={(open) => !open && onChange(null)}>
      <Dialog.Portal>
        <Dialog.Backdrop className="dialog-backdrop lightbox-backdrop" />
        <Dialog.Popup className="lightbox" onKeyDown={keys}>
          {item && index !== null && (
            <>
              <div className="lightbox-bar">
                <div className="lightbox-title">
                  <Dialog.Title>{item.file.filename}</Dialog.Title>
                  <Dialog.Description>
                    {index + 1} of {items.length}
                    {item.when !== null && ` · ${formatAgo(item.when)}`}
                  </Dialog.Description>
                </div>
                <LoadWorkflow item={item} onLoaded={() => onChange(null)} />
                <a className="icon-button" href={viewUrl(item.file)} download={item.file.filename} aria-label="Download" title="Download">
                  <Download size={18} aria-hidden="true" />
                </a>
                <Dialog.Close className="icon-button" aria-label="Close" title="Close (Escape)">
                  <X size={20} aria-hidden="true" />
                </Dialog.Close>
              </div>
              <div className="lightbox-body">
                <IconButton className="lightbox-step" label="Previous" icon={<ChevronLeft size={24} aria-hidden="true" />} disabled={index === 0} onClick={() => step(-1)} />
                <div className="lightbox-media">
                  <MediaFull key={viewUrl(item.file)} item={item} />
                </div>
                <IconButton className="lightbox-step" label="Next" icon={<ChevronRight size={24} aria-hidden="true" />} disabled={index === items.length - 1} onClick={() => step(1)} />
              </div>
            </>
          )}
        </Dialog.Popup>
      </Dialog.Portal>
    </Dialog.Root>
  );
}

function LoadWorkflow({ item, onLoaded }: { item: MediaItem; onLoaded: () => void }) {
  const [busy, setBusy] = useState(false);
  if (!/\.png$/i.test(item.file.filename)) return null;
  const load = () => {
    setBusy(true);
    void openImageWorkflow(item.file)
      .then((opened) => opened && onLoaded())
      .finally(() => setBusy(false));
  };
  return (
    <button type="button" className="button button-plain" onClick={load} disabled={busy}>
      <Workflow size={16} aria-hidden="true" />
      <span>Open its workflow</span>
    </button>
  );
}
