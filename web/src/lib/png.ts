/** Reads the text that image tools keep inside a PNG: `tEXt`, `zTXt` and `iTXt` chunks. Pixels are never decoded. */

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
/** Far above any real workflow; keeps a crafted file from filling memory. */
const MAX_TEXT_BYTES = 64 * 1024 * 1024;

export function isPng(bytes: Uint8Array): boolean {
  return SIGNATURE.every((byte, index) => bytes[index] === byte);
}

/** Keyword to text; the first chunk of a keyword wins. Throws when `bytes` is not a PNG; a cut-off file gives what stood before the cut. */
export async function readPngText(bytes: Uint8Array): Promise<Map<string, string>> {
  if (!isPng(bytes)) throw new Error("This file is not a PNG image.");
  const texts = new Map<string, string>();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = SIGNATURE.length;
  while (at + 12 <= bytes.length) {
    const length = view.getUint32(at);
    const type = latin1(bytes.subarray(at + 4, at + 8));
    const end = at + 8 + length;
    if (end > bytes.length || type === "IEND") break;
    const entry = await textChunk(type, bytes.subarray(at + 8, end));
    if (entry && !texts.has(entry[0])) texts.set(entry[0], entry[1]);
    at = end + 4;
  }
  return texts;
}

async function textChunk(type: string, data: Uint8Array): Promise<[string, string] | null> {
  if (type !== "tEXt" && type !== "zTXt" && type !== "iTXt") return null;
  const zero = data.indexOf(0);
  if (zero < 0) return null;
  const keyword = latin1(data.subarray(0, zero));
  const rest = data.subarray(zero + 1);
  if (type === "tEXt") return [keyword, latin1(rest)];
  if (type === "zTXt") {
    const plain = await inflate(rest.subarray(1));
    return plain && [keyword, latin1(plain)];
  }
  return internationalText(keyword, rest);
}

/** After the keyword: compression flag, method, language NUL, translated keyword NUL, UTF-8 text. */
async function internationalText(keyword: string, rest: Uint8Array): Promise<[string, string] | null> {
  const languageEnd = rest.indexOf(0, 2);
  const translatedEnd = languageEnd < 0 ? -1 : rest.indexOf(0, languageEnd + 1);
  if (translatedEnd < 0) return null;
  const body = rest.subarray(translatedEnd + 1);
  const plain = rest[0] === 1 ? await inflate(body) : body;
  return plain && [keyword, new TextDecoder().decode(plain)];
}

async function inflate(data: Uint8Array): Promise<Uint8Array | null> {
  const stream = new Blob([data as BlobPart]).stream().pipeThrough(new DecompressionStream("deflate"));
  const reader = stream.getReader();
  const parts: Uint8Array[] = [];
  let total = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      total += value.length;
      if (total > MAX_TEXT_BYTES) {
        await reader.cancel();
        return null;
      }
      parts.push(value);
    }
  } catch {
    return null;
  }
  const joined = new Uint8Array(total);
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

function latin1(bytes: Uint8Array): string {
  let text = "";
  const step = 8192;
  for (let at = 0; at < bytes.length; at += step) {
    text += String.fromCharCode(...bytes.subarray(at, at + step));
  }
  return text;
}
