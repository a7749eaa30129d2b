import { describe, expect, it } from "vitest";
import { formatAgo, formatAmount, formatDuration, formatShare, humanName } from "./format";

describe("amounts", () => {
  it.each([
    [formatAmount(268_435_456, "bytes"), "256 MiB"],
    [formatAmount(1536, "bytes"), "1.5 KiB"],
    [formatAmount(10_000, "count"), "10,000"],
    [formatAmount(600_000, "ms"), "10 min"],
    [formatAmount(2_500, "ms"), "2.5 s"],
    [formatAmount(3, "prompts"), "3 prompts"],
    [formatShare(1_073_741_824, 4_294_967_296, "bytes"), "1.0 GiB of 4.0 GiB"],
    [formatShare(3, 10_000, "prompts"), "3 of 10,000 prompts"],
    [formatDuration(7_380_000), "2 h 3 min"],
    [formatDuration(12), "12 ms"],
  ])("%s", (text, expected) => {
    expect(text).toBe(expected);
  });

  it("tells times near now in words", () => {
    expect([formatAgo(0, 10_000), formatAgo(0, 61_000), formatAgo(0, 7_200_000)]).toEqual(["just now", "1 minute ago", "2 hours ago"]);
  });

  it("turns names from code into words", () => {
    expect([humanName("filename_prefix"), humanName("controlNet"), humanName("x")]).toEqual(["Filename prefix", "Control Net", "X"]);
  });
});
