import { File, ImageOff, Music, Play } from "lucide-react";
import { useState } from "react";
import { viewUrl } from "../../api/client";
import { classes } from "../bits";
import { mediaKind } from "./media-items";
import type { MediaItem } from "./media-items";

/** A small picture of a result; opens it when pressed. */
export function MediaThumb({ item, large = false, onOpen }: { item: MediaItem; large?: boolean; onOpen: () => void }) {
  return (
    <button type="button" className={classes("thumb", large && "thumb-large")} onClick={onOpen} aria-label={`Open ${item.file.filename}`}>
      <ThumbPicture item={item} />
      {item.file.type === "temp" && <span className="thumb-tag">temporary</span>}
    </button>
  );
}

function ThumbPicture({ item }: { item: MediaItem }) {
  const [failed, setFailed] = useState(false);
  const url = viewUrl(item.file);
  const kind = mediaKind(item.file);
  if (failed) {
    return (
      <span className="thumb-icon">
        <ImageOff size={24} aria-hidden="true" />
        <span className="small">no longer on the server</span>
      </span>
    );
  }
  if (kind === "image") return <img src={url} alt="" loading="lazy" decoding="async" onError={() => setFailed(true)} />;
  const Icon = kind === "video" ? Play : kind === "audio" ? Music : File;
  return (
    <span className="thumb-icon">
      <Icon size={28} aria-hidden="true" />
      <span className="small">{item.file.filename}</span>
    </span>
  );
}

export function MediaFull({ item }: { item: MediaItem }) {
  const url = viewUrl(item.file);
  const [actual, setActual] = useState(false);
  const [failed, setFailed] = useState(false);
  if (failed) return <p className="lightbox-missing">{item.file.filename} is no longer on the server.</p>;
  switch (mediaKind(item.file)) {
    case "image":
      return (
        <button type="button" className={classes("lightbox-image", actual && "lightbox-actual")} onClick={() => setActual(!actual)} aria-label={actual ? "Fit to window" : "Show at full size"}>
          <img src={url} alt={item.file.filename} onError={() => setFailed(true)} />
        </button>
      );
    case "video":
      return <video src={url} controls loop onError={() => setFailed(true)} />;
    case "audio":
      return <audio src={url} controls onError={() => setFailed(true)} />;
    case "other":
      return <p className="lightbox-missing">This kind of file cannot be shown here; download it instead.</p>;
  }
}
