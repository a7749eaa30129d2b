import { describe, expect, it } from "vitest";
import { applyEvent, applyHistory, filesOf, newRun, overallProgress } from "./run";
import type { Run } from "./run";
import type { HistoryEntry, JsonObject } from "./types";

const PROMPT = { "1": { class_type: "A", inputs: {} }, "2": { class_type: "B", inputs: {} } };
const play = (...events: [string, JsonObject][]): Run => events.reduce((run, [type, data]) => applyEvent(run, { type, data }), newRun("p", PROMPT));

describe("a run", () => {
  it("counts parts of running nodes", () => {
    const run = play(
      ["execution_start", { timestamp: 1 }],
      ["progress_state", { nodes: { "1": { value: 1, max: 1, state: "finished", node_id: "1", prompt_id: "p" }, "2": { value: 5, max: 10, state: "running", node_id: "2", prompt_id: "p" } } }],
    );
    expect(run.status).toBe("running");
    expect(overallProgress(run)).toBe(0.75);
  });

  it("keeps nodes that were reused apart from those that worked", () => {
    const run = play(["execution_cached", { nodes: ["1"] }], ["execution_success", { timestamp: 5 }]);
    expect(run.nodes["1"]?.state).toBe("cached");
    expect(run).toMatchObject({ status: "done", finishedAt: 5 });
  });

  it("shows an expansion's inner node on the node that users see", () => {
    const run = play(["progress_state", { nodes: { "2.0.1": { value: 0, max: 1, state: "running", node_id: "2.0.1", display_node_id: "2", prompt_id: "p" } } }]);
    expect(Object.keys(run.nodes)).toEqual(["2"]);
  });

  it("names the node that failed", () => {
    const run = play(["execution_error", { node_id: "2", node_type: "B", exception_type: "ValueError", exception_message: "no\n", traceback: ["x"] }]);
    expect(run).toMatchObject({ status: "failed", error: { nodeId: "2", message: "no" } });
    expect(run.nodes["2"]?.state).toBe("error");
  });

  it("shows no node at work after it was cancelled", () => {
    expect(play(["executing", { node: "1" }], ["execution_interrupted", {}]).nodes).toEqual({});
  });

  it("stays cancelled when a late progress event arrives", () => {
    expect(play(["execution_interrupted", {}], ["progress", { node: "1", value: 1, max: 2 }]).status).toBe("cancelled");
  });

  it("takes its end from the history after a reconnect", () => {
    const entry = {
      prompt: [0, "p", PROMPT, {}, []],
      outputs: { "2": { images: [{ filename: "a.png", subfolder: "", type: "output" }], animated: [false] } },
      status: { status_str: "error", completed: false, messages: [["execution_interrupted", { timestamp: 9 }]] },
    } as unknown as HistoryEntry;
    const run = applyHistory(play(["execution_start", { timestamp: 1 }]), entry);
    expect(run).toMatchObject({ status: "cancelled", finishedAt: 9 });
    expect(filesOf(run.outputs["2"] ?? {})).toEqual([{ filename: "a.png", subfolder: "", type: "output" }]);
  });
});
