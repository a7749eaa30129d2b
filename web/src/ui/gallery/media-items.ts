import { filesOf, readHistory } from "../../lib/run";
import type { FileRef, HistoryEntry } from "../../lib/types";

/** A file that a run made, and where it came from. */
export interface MediaItem {
  file: FileRef;
  promptId: string;
  node: string;
  when: number | null;
}

export type MediaKind = "image" | "video" | "audio" | "other";

export function mediaKind({ filename }: FileRef): MediaKind {
  if (/\.(png|jpe?g|webp|gif|avif|bmp)$/i.test(filename)) return "image";
  if (/\.(mp4|webm|mov|mkv)$/i.test(filename)) return "video";
  if (/\.(mp3|wav|flac|ogg|opus|m4a)$/i.test(filename)) return "audio";
  return "other";
}

/** Files of all runs, newest run first; a file that several runs name is listed once. */
export function mediaOf(history: HistoryEntry[]): MediaItem[] {
  const seen = new Set<string>();
  const items: MediaItem[] = [];
  for (const entry of history) {
    const when = readHistory(entry).finishedAt;
    for (const [node, output] of Object.entries(entry.outputs)) {
      for (const file of filesOf(output)) {
        const key = `${file.type}/${file.subfolder}/${file.filename}`;
        if (seen.has(key)) continue;
        seen.add(key);
        items.push({ file, promptId: entry.prompt[1], node, when });
      }
    }
  }
  return items;
}
