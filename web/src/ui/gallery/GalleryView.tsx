import { Images } from "lucide-react";
import { useMemo, useState } from "react";
import { formatAgo, plural } from "../../lib/format";
import { loadMoreHistory, refresh } from "../../state/server-actions";
import { useStore } from "../../state/store";
import { Button, Empty, Notice, Skeleton } from "../bits";
import { Lightbox } from "./Lightbox";
import { mediaOf } from "./media-items";
import { MediaThumb } from "./Media";

export function GalleryView() {
  const history = useStore((app) => app.history);
  const error = useStore((app) => app.historyError);
  const [temporary, setTemporary] = useState(false);
  const [open, setOpen] = useState<number | null>(null);
  const all = useMemo(() => mediaOf(history ?? []), [history]);
  const items = temporary ? all : all.filter((item) => item.file.type !== "temp");
  const hidden = all.length - items.length;
  return (
    <>
      <div className="view-heading">
        <h1>Gallery</h1>
        {all.some((item) => item.file.type === "temp") && (
          <label className="check">
            <input type="checkbox" checked={temporary} onChange={(event) => setTemporary(event.target.checked)} />
            <span>Show temporary previews{hidden > 0 && ` (${hidden})`}</span>
          </label>
        )}
      </div>
      {error && (
        <Notice tone="bad" title="The history could not be loaded" actions={<Button onClick={() => void refresh()}>Try again</Button>}>
          <p>{error}</p>
        </Notice>
      )}
      {history === null && !error && <Skeleton />}
      {history !== null && items.length === 0 && (
        <Empty icon={<Images size={36} strokeWidth={1.4} />} title="No images yet">
          <p className="muted">What your workflows save shows up here.{hidden > 0 && ` ${plural(hidden, "temporary preview")} hidden.`}</p>
          <a className="button button-primary" href="#/workflow">
            Go to the workflow
          </a>
        </Empty>
      )}
      <ul className="gallery" aria-label="Results">
        {items.map((item, index) => (
          <li key={`${item.file.type}/${item.file.subfolder}/${item.file.filename}`}>
            <MediaThumb item={item} onOpen={() => setOpen(index)} />
            <p className="gallery-caption">
              <span>{item.file.filename}</span>
              {item.when !== null && <span className="muted">{formatAgo(item.when)}</span>}
            </p>
          </li>
        ))}
      </ul>
      <MoreButton />
      <Lightbox items={items} index={open} onChange={setOpen} />
    </>
  );
}

/** Shown while the server may have older runs than the ones loaded. */
export function MoreButton() {
  const more = useStore((app) => app.history !== null && app.history.length >= app.historyCount);
  if (!more) return null;
  return (
    <div className="row center">
      <Button onClick={() => void loadMoreHistory()}>Show older</Button>
    </div>
  );
}
