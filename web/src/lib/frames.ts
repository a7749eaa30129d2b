/** Binary WebSocket frames: a big-endian u32 says the kind, the rest depends on it. */
import { isObject, parseJson } from "./json";

export type Frame =
  | { kind: "preview"; mime: string; image: Uint8Array; nodeId: string | null; promptId: string | null }
  | { kind: "text"; nodeId: string; text: string };

const PREVIEW_IMAGE = 1;
const TEXT = 3;
const PREVIEW_IMAGE_WITH_METADATA = 4;

/** Decodes a frame. Null for kinds this page does not know and for frames cut short: both are skipped, never fatal. */
export function decodeFrame(buffer: ArrayBuffer): Frame | null {
  const bytes = new Uint8Array(buffer);
  const kind = u32(bytes, 0);
  switch (kind) {
    case PREVIEW_IMAGE:
      return plainPreview(bytes);
    case TEXT:
      return textFrame(bytes);
    case PREVIEW_IMAGE_WITH_METADATA:
      return previewWithMetadata(bytes);
    default:
      return null;
  }
}

function plainPreview(bytes: Uint8Array): Frame | null {
  const format = u32(bytes, 4);
  if (format === null) return null;
  const mime = format === 2 ? "image/png" : "image/jpeg";
  return { kind: "preview", mime, image: bytes.subarray(8), nodeId: null, promptId: null };
}

function textFrame(bytes: Uint8Array): Frame | null {
  const length = u32(bytes, 4);
  if (length === null || 8 + length > bytes.length) return null;
  return { kind: "text", nodeId: utf8(bytes.subarray(8, 8 + length)), text: utf8(bytes.subarray(8 + length)) };
}

function previewWithMetadata(bytes: Uint8Array): Frame | null {
  const length = u32(bytes, 4);
  if (length === null || 8 + length > bytes.length) return null;
  let metadata: unknown;
  try {
    metadata = parseJson(utf8(bytes.subarray(8, 8 + length)));
  } catch {
    return null;
  }
  if (!isObject(metadata)) return null;
  const field = (name: string) => (typeof metadata[name] === "string" ? (metadata[name] as string) : null);
  return {
    kind: "preview",
    mime: field("image_type") ?? "image/jpeg",
    image: bytes.subarray(8 + length),
    nodeId: field("display_node_id") ?? field("node_id"),
    promptId: field("prompt_id"),
  };
}

function u32(bytes: Uint8Array, at: number): number | null {
  if (at + 4 > bytes.length) return null;
  return new DataView(bytes.buffer, bytes.byteOffset + at, 4).getUint32(0);
}

function utf8(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
