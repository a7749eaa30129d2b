import { describe, expect, it } from "vitest";
import { parseJson, stringifyJson } from "./json";
import { afterQueueing, drawChoices, fillPrefix, preparePrompt } from "./prepare";
import { OBJECT_INFO } from "./testing/fixtures";
import { topologicalOrder } from "./topo";
import { uiWithValues, workflowFromText } from "./workflow";

const API = { "1": { class_type: "ImageBlur", inputs: { image: ["2", 0], blur_radius: 3, sigma: 1 } }, "2": { class_type: "LoadImage", inputs: { image: "a.png" } } };
const UI = { nodes: [{ id: 2, type: "ImageBlur", inputs: [], widgets_values: [3, 1] }], links: [] };

describe("workflowFromText", () => {
  const open = (value: unknown) => workflowFromText(JSON.stringify(value), "test", OBJECT_INFO);

  it("takes API form, UI form, and both under their names", () => {
    expect(Object.keys(open(API).prompt)).toEqual(["1", "2"]);
    expect(Object.keys(open(UI).prompt)).toEqual(["2"]);
    expect(Object.keys(open({ prompt: API, workflow: UI }).prompt)).toEqual(["1", "2"]);
    expect(Object.keys(open({ prompt: API, client_id: "x", extra_data: {} }).prompt)).toEqual(["1", "2"]);
  });

  it.each([["a list", []], ["an empty object", {}], ["other JSON", { a: { b: 1 } }], ["null", null]])("refuses %s and says what it expected", (_name, value) => {
    expect(() => open(value)).toThrow(/not a workflow/);
  });

  it("says where JSON is broken", () => {
    expect(() => workflowFromText("{ nope", "test", OBJECT_INFO)).toThrow(/not valid JSON/);
  });
});

describe("uiWithValues", () => {
  it("writes the form's values into a copy of the editor's file", () => {
    const opened = workflowFromText(JSON.stringify(UI), "test", OBJECT_INFO);
    opened.prompt["2"]!.inputs["blur_radius"] = 21;
    expect((uiWithValues(opened) as typeof UI).nodes[0]?.widgets_values).toEqual([21, 1]);
    expect((opened.ui as unknown as typeof UI).nodes[0]?.widgets_values).toEqual([3, 1]);
  });
});

describe("large integers", () => {
  it("survive reading and writing where the engine can keep them", () => {
    const text = '{"seed":18446744073709551615,"small":3,"float":1e300}';
    const kept = parseJson(text);
    const rawJson = (JSON as unknown as { rawJSON?: unknown }).rawJSON;
    if (rawJson) expect(stringifyJson(kept)).toBe('{"seed":18446744073709551615,"small":3,"float":1e+300}');
    else expect(kept).toMatchObject({ small: 3 });
  });

  it("bare NaN from Python is read as null, but not inside texts", () => {
    expect(parseJson('{"a": NaN, "b": "NaN", "c": [-Infinity]}')).toEqual({ a: null, b: "NaN", c: [null] });
  });
});

describe("topologicalOrder", () => {
  it("puts sources before their users", () => {
    expect(topologicalOrder(API as never).ids).toEqual(["2", "1"]);
  });

  it("keeps an order that is right already, and chains together", () => {
    const link = (...ids: string[]) => ({ class_type: "X", inputs: Object.fromEntries(ids.map((id, index) => [`i${index}`, [id, 0]])) });
    expect(topologicalOrder({ a: link(), b: link("a"), c: link(), d: link("b", "c") } as never).ids).toEqual(["a", "b", "c", "d"]);
    expect(topologicalOrder({ z: link("y"), y: link("x"), x: link(), w: link() } as never).ids).toEqual(["x", "y", "z", "w"]);
  });

  it("copes with a very long chain", () => {
    const chain = Object.fromEntries(Array.from({ length: 20_000 }, (_, index) => [`n${index}`, { class_type: "X", inputs: { i: [`n${index + 1}`, 0] } }]));
    expect(topologicalOrder(chain as never).ids[0]).toBe("n19999");
  });

  it("puts circles at the end and names them", () => {
    const ring = { a: { class_type: "X", inputs: { i: ["b", 0] } }, b: { class_type: "X", inputs: { i: ["a", 0] } }, c: { class_type: "X", inputs: {} } };
    expect(topologicalOrder(ring as never)).toEqual({ ids: ["c", "a", "b"], cyclic: ["a", "b"] });
  });
});

describe("what happens when a workflow is queued", () => {
  it("draws choices from the inside out and keeps escaped braces", () => {
    expect(drawChoices("a {red|{dark|light} blue} \\{x\\}", () => 0.99)).toBe("a light blue {x}");
    expect(drawChoices("plain {", () => 0)).toBe("plain {");
  });

  it("fills dates and values into file name prefixes, and leaves the server's own words alone", () => {
    const prompt = { "1": { class_type: "Sampler", inputs: { seed: 7, name: "a/b" }, _meta: { title: "Main" } } };
    const now = new Date(2026, 2, 4, 5, 6, 7);
    expect(fillPrefix("%date:yyyy-MM-dd_hhmmss%/%Main.seed%-%Main.name%-%width%-%No.x%", prompt, now)).toBe("2026-03-04_050607/7-a_b-%width%-%No.x%");
  });

  it("changes only inputs that allow it", () => {
    const prompt = { "1": { class_type: "Prompt", inputs: { text: "{a|b}" } }, "2": { class_type: "SaveImage", inputs: { filename_prefix: "{a|b}" } } };
    const prepared = preparePrompt(prompt, OBJECT_INFO, new Date(), () => 0);
    expect([prepared["1"]?.inputs["text"], prepared["2"]?.inputs["filename_prefix"]]).toEqual(["a", "{a|b}"]);
  });

  it("moves seeds on afterwards as their controls say", () => {
    const document = workflowFromText(JSON.stringify({ "5": { class_type: "Sampler", inputs: { seed: 41, steps: 1, name: "euler" } } }), "t", OBJECT_INFO);
    const next = (mode: "increment" | "decrement" | "fixed" | "randomize") => afterQueueing({ ...document, controls: { "5": { seed: mode } } }, OBJECT_INFO, () => 0.5).prompt["5"]?.inputs["seed"];
    expect([next("increment"), next("decrement"), next("fixed")]).toEqual([42, 40, 41]);
    expect(next("randomize")).toBeGreaterThan(1_000_000);
  });
});
