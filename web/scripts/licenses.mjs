/** Writes dist/licenses.txt: the licence texts of everything that may be inside the bundle. Fails on a licence that we do not ship. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const web = dirname(dirname(fileURLToPath(import.meta.url)));
const ALLOWED = new Set(["MIT", "Apache-2.0", "ISC", "BSD-2-Clause", "BSD-3-Clause", "0BSD"]);

const { packages } = JSON.parse(readFileSync(join(web, "package-lock.json"), "utf8"));
const shipped = Object.entries(packages).filter(([path, entry]) => path !== "" && !entry.dev && !entry.optional && existsSync(join(web, path)));

const texts = shipped.map(([path, entry]) => {
  const name = path.replace(/^.*node_modules\//, "");
  if (!ALLOWED.has(entry.license)) throw new Error(`${name} has the licence ${entry.license}, which may not be shipped.`);
  const file = readdirSync(join(web, path)).find((candidate) => /^licen[cs]e/i.test(candidate));
  const text = file ? readFileSync(join(web, path, file), "utf8").trim() : `Licence: ${entry.license}`;
  return `${name} ${entry.version} (${entry.license})\n\n${text}`;
});

writeFileSync(join(web, "dist", "licenses.txt"), `${texts.join(`\n\n${"-".repeat(80)}\n\n`)}\n`);
console.log(`licenses.txt: ${shipped.map(([path, { license }]) => `${path.replace(/^.*node_modules\//, "")} (${license})`).join(", ")}`);
