import { describe, expect, it } from "vitest";
import { decodeFrame } from "./frames";

function frame(...parts: (number | string | Uint8Array)[]): ArrayBuffer {
  const bytes = parts.flatMap((part) => {
    if (typeof part === "number") return [part >>> 24, (part >>> 16) & 255, (part >>> 8) & 255, part & 255];
    return [...(typeof part === "string" ? new TextEncoder().encode(part) : part)];
  });
  return new Uint8Array(bytes).buffer;
}

const pixels = new Uint8Array([1, 2, 3]);

describe("decodeFrame", () => {
  it("reads a plain preview", () => {
    const decoded = decodeFrame(frame(1, 2, pixels));
    expect(decoded).toMatchObject({ kind: "preview", mime: "image/png", nodeId: null, promptId: null });
    expect(decoded?.kind === "preview" && [...decoded.image]).toEqual([1, 2, 3]);
  });

  it("takes the format 1 for JPEG", () => {
    expect(decodeFrame(frame(1, 1, pixels))).toMatchObject({ mime: "image/jpeg" });
  });

  it("reads a preview with metadata, and names the shown node", () => {
    const metadata = JSON.stringify({ node_id: "3:7", display_node_id: "3", prompt_id: "p", image_type: "image/png" });
    const decoded = decodeFrame(frame(4, metadata.length, metadata, pixels));
    expect(decoded).toMatchObject({ kind: "preview", mime: "image/png", nodeId: "3", promptId: "p" });
    expect(decoded?.kind === "preview" && [...decoded.image]).toEqual([1, 2, 3]);
  });

  it("reads text with non-ASCII characters", () => {
    expect(decodeFrame(frame(3, 2, "12", "grün"))).toEqual({ kind: "text", nodeId: "12", text: "grün" });
  });

  it.each([
    ["nothing", frame()],
    ["half a number", new Uint8Array([0, 0]).buffer],
    ["a kind from the future", frame(9, "x")],
    ["a length beyond the end", frame(4, 4_000_000_000, "{}")],
    ["metadata that is no JSON", frame(4, 2, "{{")],
    ["metadata that is no object", frame(4, 2, "42")],
    ["text cut short", frame(3, 10, "a")],
  ])("skips %s", (_name, buffer) => {
    expect(decodeFrame(buffer)).toBeNull();
  });
});
