import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { Json, JsonObject } from "../types";
import { OBJECT_INFO } from "../testing/fixtures";
import { ConversionError, convertUiToApi } from "./ui-to-api";

interface NodeParts {
  inputs?: [name: string, type: string, link: number | null, widget?: string][];
  outputs?: string[];
  values?: Json;
  mode?: number;
  title?: string;
  properties?: JsonObject;
}

function node(id: number, type: string, parts: NodeParts = {}): JsonObject {
  return {
    id,
    type,
    mode: parts.mode ?? 0,
    inputs: (parts.inputs ?? []).map(([name, kind, link, widget]) => ({ name, type: kind, link, ...(widget ? { widget: { name: widget } } : {}) })),
    outputs: (parts.outputs ?? []).map((kind) => ({ name: kind, type: kind })),
    properties: parts.properties ?? {},
    ...(parts.values === undefined ? {} : { widgets_values: parts.values }),
    ...(parts.title ? { title: parts.title } : {}),
  };
}

const convert = (nodes: JsonObject[], links: Json[], more: JsonObject = {}) => convertUiToApi({ nodes, links, version: 0.4, ...more }, OBJECT_INFO);

const photo = (id: number) => node(id, "LoadImage", { outputs: ["IMAGE", "MASK"], values: ["a.png", "image"] });
const save = (id: number, link: number) => node(id, "SaveImage", { inputs: [["images", "IMAGE", link]], values: ["out"] });
const blur = (id: number, link: number, mode = 0) =>
  node(id, "ImageBlur", { inputs: [["image", "IMAGE", link]], outputs: ["IMAGE"], values: [3, 1.5], mode });

describe("plain graphs", () => {
  it("turns links and widget values into inputs", () => {
    const { prompt, warnings } = convert([photo(1), blur(2, 1), save(3, 2)], [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]]);
    expect(prompt).toEqual({
      "1": { class_type: "LoadImage", inputs: { image: "a.png" }, _meta: { title: "LoadImage" } },
      "2": { class_type: "ImageBlur", inputs: { image: ["1", 0], blur_radius: 3, sigma: 1.5 }, _meta: { title: "ImageBlur" } },
      "3": { class_type: "SaveImage", inputs: { images: ["2", 0], filename_prefix: "out" }, _meta: { title: "SaveImage" } },
    });
    expect(warnings).toEqual([]);
  });

  it("reads links written as objects", () => {
    const { prompt } = convert([photo(1), save(3, 7)], [{ id: 7, origin_id: 1, origin_slot: 0, target_id: 3, target_slot: 0, type: "IMAGE" }]);
    expect(prompt["3"]?.inputs["images"]).toEqual(["1", 0]);
  });

  it("keeps a node's own title", () => {
    const { prompt } = convert([node(4, "SaveImage", { title: "My result", values: ["x"] })], []);
    expect(prompt["4"]?._meta?.title).toBe("My result");
  });

  it("fills in defaults for values that an older file does not have", () => {
    const { prompt } = convert([node(2, "ImageBlur", { values: [9] })], []);
    expect(prompt["2"]?.inputs).toEqual({ blur_radius: 9, sigma: 1 });
  });

  it("wraps lists, which would otherwise look like links", () => {
    const { prompt } = convert([node(2, "SaveImage", { values: [["a", 1]] })], []);
    expect(prompt["2"]?.inputs["filename_prefix"]).toEqual({ __value__: ["a", 1] });
  });

  it("reads widget values written by name", () => {
    const { prompt } = convert([node(2, "ImageBlur", { values: { sigma: 4, blur_radius: 2 } })], []);
    expect(prompt["2"]?.inputs).toEqual({ blur_radius: 2, sigma: 4 });
  });

  it("warns about a class that the server does not have, and keeps its links", () => {
    const { prompt, warnings } = convert([photo(1), node(2, "Stranger", { inputs: [["pic", "IMAGE", 1], ["size", "INT", null, "size"]], values: [8] })], [[1, 1, 0, 2, 0, "IMAGE"]]);
    expect(prompt["2"]?.inputs).toEqual({ pic: ["1", 0], size: 8 });
    expect(warnings.join()).toContain("Stranger");
  });
});

describe("the repository's example", () => {
  const read = (name: string) => JSON.parse(readFileSync(new URL(`../../../../tests/workflows/photo-postcard/${name}`, import.meta.url), "utf8")) as JsonObject;

  it("gives the same prompt from either form", () => {
    const { prompt, warnings } = convertUiToApi(read("workflow.ui.json"), OBJECT_INFO);
    const plain = (value: unknown) => JSON.parse(JSON.stringify(value, (key, item: unknown) => (key === "_meta" ? undefined : item))) as unknown;
    expect(plain(prompt)).toEqual(plain(read("workflow.json")));
    expect(warnings).toEqual([]);
  });
});

describe("widgets that exist only in the editor", () => {
  it("skips the control value behind a seed and remembers it", () => {
    const { prompt, controls } = convert([node(5, "Sampler", { values: [42, "randomize", 20, "euler", "hi"] })], []);
    expect(prompt["5"]?.inputs).toEqual({ seed: 42, steps: 20, name: "euler", note: "hi" });
    expect(controls).toEqual({ "5": { seed: "randomize" } });
  });

  it("copes with a file without the control value", () => {
    const { prompt } = convert([node(5, "Sampler", { values: [42, 20, "euler", "hi"] })], []);
    expect(prompt["5"]?.inputs).toEqual({ seed: 42, steps: 20, name: "euler", note: "hi" });
  });

  it("does not take a choice named like a control value for one", () => {
    const { prompt } = convert([node(5, "Sampler", { values: [42, "fixed", 20, "fixed", ""] })], []);
    expect(prompt["5"]?.inputs).toMatchObject({ steps: 20, name: "fixed" });
  });

  it("skips the upload button at the end of the required inputs", () => {
    const { prompt, warnings } = convert([node(6, "LoadImageMask", { values: ["a.png", "red", "image"] })], []);
    expect(prompt["6"]?.inputs).toEqual({ image: "a.png", channel: "red" });
    expect(warnings).toEqual([]);
  });

  it("warns when values are left over", () => {
    expect(convert([node(2, "ImageBlur", { values: [3, 1, "extra"] })], []).warnings).toHaveLength(1);
  });
});

describe("converted inputs and primitives", () => {
  it("a link wins over the value that the widget kept, and values behind it stay in place", () => {
    const sampler = node(5, "Sampler", { inputs: [["steps", "INT", 3, "steps"]], values: [1, "fixed", 20, "euler", ""] });
    const { prompt } = convert([node(4, "ImageBlur", { outputs: ["INT"], values: [1, 1] }), sampler], [[3, 4, 0, 5, 0, "INT"]]);
    expect(prompt["5"]?.inputs).toMatchObject({ seed: 1, steps: ["4", 0], name: "euler" });
  });

  it("a primitive's value is written into its target", () => {
    const sampler = node(5, "Sampler", { inputs: [["steps", "INT", 3, "steps"]], values: [1, "fixed", 20, "euler", ""] });
    const { prompt } = convert([node(9, "PrimitiveNode", { outputs: ["INT"], values: [77, "fixed"] }), sampler], [[3, 9, 0, 5, 0, "INT"]]);
    expect(prompt["5"]?.inputs["steps"]).toBe(77);
    expect(prompt["9"]).toBeUndefined();
  });
});

describe("reroutes, muting and bypassing", () => {
  const reroute = (id: number, link: number) => node(id, "Reroute", { inputs: [["", "*", link]], outputs: ["*"] });

  it("follows a chain of reroutes", () => {
    const { prompt } = convert([photo(1), reroute(2, 1), reroute(3, 2), save(4, 3)], [[1, 1, 0, 2, 0, "*"], [2, 2, 0, 3, 0, "*"], [3, 3, 0, 4, 0, "IMAGE"]]);
    expect(prompt["4"]?.inputs["images"]).toEqual(["1", 0]);
    expect(Object.keys(prompt)).toEqual(["1", "4"]);
  });

  it("passes a bypassed node's input of the same type through", () => {
    const { prompt } = convert([photo(1), blur(2, 1, 4), save(3, 2)], [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]]);
    expect(prompt["3"]?.inputs["images"]).toEqual(["1", 0]);
    expect(prompt["2"]).toBeUndefined();
  });

  it("drops links from muted nodes", () => {
    const { prompt } = convert([photo(1), blur(2, 1, 2), save(3, 2)], [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]]);
    expect(prompt["3"]?.inputs).toEqual({ filename_prefix: "out" });
  });

  it("leaves notes out", () => {
    expect(convert([node(1, "Note", { values: ["hello"] }), node(2, "MarkdownNote", { values: ["# hi"] })], []).prompt).toEqual({});
  });

  it("ends on reroutes that feed each other", () => {
    const { prompt } = convert([reroute(2, 2), reroute(3, 1), save(4, 2)], [[1, 2, 0, 3, 0, "*"], [2, 3, 0, 2, 0, "*"]]);
    expect(prompt["4"]?.inputs).toEqual({ filename_prefix: "out" });
  });
});

describe("subgraphs", () => {
  const definition: JsonObject = {
    id: "sub-1",
    name: "Soften",
    inputs: [{ name: "picture", type: "IMAGE" }, { name: "radius", type: "INT" }],
    outputs: [{ name: "IMAGE", type: "IMAGE" }],
    nodes: [node(7, "ImageBlur", { inputs: [["image", "IMAGE", 1], ["blur_radius", "INT", 2, "blur_radius"]], outputs: ["IMAGE"], values: [5, 2] })],
    links: [
      { id: 1, origin_id: -10, origin_slot: 0, target_id: 7, target_slot: 0, type: "IMAGE" },
      { id: 2, origin_id: -10, origin_slot: 1, target_id: 7, target_slot: 1, type: "INT" },
      { id: 3, origin_id: 7, origin_slot: 0, target_id: -20, target_slot: 0, type: "IMAGE" },
    ],
  };
  const instance = (values: Json) => node(3, "sub-1", { inputs: [["picture", "IMAGE", 1], ["radius", "INT", null, "radius"]], outputs: ["IMAGE"], values });
  const links: Json[] = [[1, 1, 0, 3, 0, "IMAGE"], [2, 3, 0, 4, 0, "IMAGE"]];
  const definitions = { definitions: { subgraphs: [definition] } };

  it("opens them, with ids that say where a node lies", () => {
    const { prompt } = convert([photo(1), instance([]), save(4, 2)], links, definitions);
    expect(Object.keys(prompt).sort()).toEqual(["1", "3:7", "4"]);
    expect(prompt["3:7"]?.inputs).toEqual({ image: ["1", 0], blur_radius: 5, sigma: 2 });
    expect(prompt["4"]?.inputs["images"]).toEqual(["3:7", 0]);
  });

  it("a value on the subgraph's node wins over the one inside", () => {
    expect(convert([photo(1), instance([12]), save(4, 2)], links, definitions).prompt["3:7"]?.inputs["blur_radius"]).toBe(12);
  });

  it("refuses one that contains itself", () => {
    const loop = { ...definition, nodes: [node(7, "sub-1")] };
    expect(() => convert([instance([])], [], { definitions: { subgraphs: [loop] } })).toThrow(ConversionError);
  });

  it("refuses group nodes with a way out", () => {
    expect(() => convert([node(1, "workflow>My group")], [])).toThrow(/subgraph/);
  });
});
