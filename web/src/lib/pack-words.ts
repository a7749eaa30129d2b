/** Says in plain words what a pack may do. */
import type { Pack } from "./types";

/** What the interfaces of the sandbox let a pack do. All of them are safe by themselves: no files, no network, no clock to spy with. */
const INTERFACES: Record<string, string> = {
  tensors: "Calculate with images, masks and other tensors that the workflow hands to it",
  image: "Open image files that the workflow names in this node's own fields, and save new images to the output and temp folders",
  weights: "Read model files, but only from model folders listed as granted below",
  progress: "Show progress and live previews while it works",
  log: "Write lines to the server's log",
  "node-context": "See which node of which run it is, and the workflow around it when it asks for that",
};

/** Interfaces that carry no ability, only shapes. */
const SILENT = new Set(["types", "values", "nodes"]);

/** Sentences for what the pack's imports allow; unknown interfaces are named, never hidden. */
export function abilities(pack: Pack): string[] {
  const names = [...new Set(pack.imports.map(interfaceName))];
  return names.filter((name) => !SILENT.has(name)).map((name) => INTERFACES[name] ?? wasiWords(name) ?? `Use the interface "${name}", which this page does not know`);
}

/** What a permission means. */
export function permissionWords(permission: string): string {
  const [kind, ...rest] = permission.split("/");
  const target = rest.join("/");
  if (kind === "models" && target !== "") return `Read the model files in the folder "${target}"`;
  if (kind === "network" && target !== "") return `Talk to ${target} over the network`;
  if (kind === "files" && target !== "") return `Use files in "${target}"`;
  return permission;
}

/** `vivarium:node/tensors@1.0.0` is `tensors`. */
function interfaceName(full: string): string {
  const name = full.replace(/@.*$/, "");
  return name.startsWith("wasi:") ? name : (name.split("/").pop() ?? name);
}

function wasiWords(name: string): string | null {
  const [group] = name.replace("wasi:", "").split("/");
  if (!name.startsWith("wasi:")) return null;
  switch (group) {
    case "clocks":
      return "Ask for the time (a coarse clock)";
    case "random":
      return "Draw random numbers";
    case "io":
    case "cli":
      return "Use the standard streams of its language, which lead nowhere or to the log";
    case "filesystem":
      return "Link against the file interface; the sandbox shows it no files";
    case "sockets":
      return "Link against the network interface; the sandbox connects it to nothing";
    default:
      return `Use the interface "${name}"`;
  }
}
