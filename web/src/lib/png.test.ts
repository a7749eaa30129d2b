import { deflateSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { isPng, readPngText } from "./png";
import { OBJECT_INFO } from "./testing/fixtures";
import { workflowFromPng } from "./workflow";

const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);

function chunk(type: string, data: Buffer): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(data.length);
  return Buffer.concat([length, Buffer.from(type), data, Buffer.alloc(4)]);
}

const text = (keyword: string, value: string) => chunk("tEXt", Buffer.from(`${keyword}\0${value}`, "latin1"));
const png = (...chunks: Buffer[]) => new Uint8Array(Buffer.concat([SIGNATURE, chunk("IHDR", Buffer.alloc(13)), ...chunks, chunk("IEND", Buffer.alloc(0))]));

describe("readPngText", () => {
  it("reads tEXt", async () => {
    expect(await readPngText(png(text("prompt", "{}"), text("workflow", "é")))).toEqual(new Map([["prompt", "{}"], ["workflow", "é"]]));
  });

  it("reads zTXt and iTXt, compressed or not", async () => {
    const zipped = chunk("zTXt", Buffer.concat([Buffer.from("a\0\0"), deflateSync("long ".repeat(9000))]));
    const plain = chunk("iTXt", Buffer.from("b\0\0\0en\0\0grün"));
    const packed = chunk("iTXt", Buffer.concat([Buffer.from("c\0\x01\0\0\0"), deflateSync(Buffer.from("日本"))]));
    const texts = await readPngText(png(zipped, plain, packed));
    expect(texts.get("a")).toHaveLength(45_000);
    expect(texts.get("b")).toBe("grün");
    expect(texts.get("c")).toBe("日本");
  });

  it("gives what stands before a cut", async () => {
    const whole = png(text("prompt", "{}"), text("later", "x".repeat(100)));
    expect([...(await readPngText(whole.subarray(0, whole.length - 60))).keys()]).toEqual(["prompt"]);
  });

  it("skips broken compressed text", async () => {
    expect(await readPngText(png(chunk("zTXt", Buffer.from("a\0\0nonsense")), text("b", "ok")))).toEqual(new Map([["b", "ok"]]));
  });

  it("refuses what is no PNG", async () => {
    const bytes = new TextEncoder().encode("hello");
    expect(isPng(bytes)).toBe(false);
    await expect(readPngText(bytes)).rejects.toThrow("not a PNG");
  });
});

describe("workflowFromPng", () => {
  const prompt = JSON.stringify({ "1": { class_type: "SaveImage", inputs: { filename_prefix: "x" } } });

  it("opens the prompt inside", async () => {
    const opened = await workflowFromPng(png(text("prompt", prompt)), "pic", OBJECT_INFO);
    expect(opened.prompt["1"]?.inputs).toEqual({ filename_prefix: "x" });
  });

  it("takes values from the prompt and keeps the editor's file", async () => {
    const ui = JSON.stringify({ nodes: [{ id: 1, type: "SaveImage", widgets_values: ["old"] }], links: [] });
    const opened = await workflowFromPng(png(text("prompt", prompt), text("workflow", ui)), "pic", OBJECT_INFO);
    expect(opened.prompt["1"]?.inputs["filename_prefix"]).toBe("x");
    expect(opened.ui).not.toBeNull();
  });

  it("says so when there is none", async () => {
    await expect(workflowFromPng(png(), "pic", OBJECT_INFO)).rejects.toThrow("without a workflow");
  });
});
