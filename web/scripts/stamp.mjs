/**
 * Ties `dist/` to the sources it was built from, so that a check without Node can tell when it is stale.
 *
 *   node scripts/stamp.mjs            prints the hash
 *   node scripts/stamp.mjs --write    writes it to dist/.source-sha256 (the build does this)
 *   node scripts/stamp.mjs --check    exits 1 when dist/.source-sha256 differs
 *
 * The hash, for whoever checks it in another language:
 *   1. Take all files under `src/` (recursively), except those whose name ends in `.test.ts`, and the files `index.html`,
 *      `package.json`, `package-lock.json`, `tsconfig.json` and `vite.config.ts`.
 *   2. Write each path relative to this folder (`web/`), with `/` between its parts: `src/lib/json.ts`.
 *   3. Sort the paths by their UTF-8 bytes.
 *   4. Feed one SHA-256, for each path in turn: the path in UTF-8, one NUL byte, the file's bytes, one NUL byte.
 *   5. The hash in lower-case hexadecimal and a newline are the content of `dist/.source-sha256`.
 */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const web = dirname(dirname(fileURLToPath(import.meta.url)));
const stampFile = join(web, "dist", ".source-sha256");
const single = ["index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts"];

function sourcePaths() {
  const found = readdirSync(join(web, "src"), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.name.endsWith(".test.ts"))
    .map((entry) => join(entry.parentPath, entry.name).slice(web.length + 1).replaceAll("\\", "/"));
  return [...found, ...single].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
}

function sourceHash() {
  const hash = createHash("sha256");
  const nul = Buffer.from([0]);
  for (const path of sourcePaths()) {
    hash.update(Buffer.from(path)).update(nul).update(readFileSync(join(web, path))).update(nul);
  }
  return hash.digest("hex");
}

function stamped() {
  try {
    return readFileSync(stampFile, "utf8").trim();
  } catch {
    return "missing";
  }
}

const hash = sourceHash();
if (process.argv.includes("--write")) {
  writeFileSync(stampFile, `${hash}\n`);
} else if (process.argv.includes("--check")) {
  if (stamped() !== hash) {
    console.error(`web/dist is stale: its stamp is ${stamped()}, the sources are ${hash}. Run: cd web && npm ci && npm run build`);
    process.exit(1);
  }
} else {
  console.log(hash);
}
