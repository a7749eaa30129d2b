/**
 * The official ComfyUI front end on a running `vivarium serve --front-end-root …`: it boots without a fatal error, loads the
 * example workflow, queues it, and shows the image that comes out.
 *
 * VIVARIUM_URL        the running server (required)
 * VIVARIUM_ARTIFACTS  a folder for screenshots (optional)
 * CHROMIUM            the browser's path (default /usr/bin/chromium)
 * FRONT_END           the version of the front end (optional): says whose own faults to pass over
 *
 * `cargo xtask test browser` runs it. It uses the packages that are installed in `web/`.
 */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const { chromium } = createRequire(join(here, "../../web/package.json"))("playwright-core");

const base = process.env.VIVARIUM_URL;
const artifacts = process.env.VIVARIUM_ARTIFACTS;
const example = (name) => readFileSync(join(here, "../workflows/photo-postcard", name));
const workflow = JSON.parse(example("workflow.ui.json"));
const SAVE_IMAGE = workflow.nodes.find((node) => node.type === "SaveImage").id;
const BOOT_MS = 60_000;
const RUN_MS = 120_000;

/** Noise of the front end that has nothing to do with the server: it looks for news at comfy.org. */
const OUTSIDE = /api\.comfy\.org|ERR_INTERNET_DISCONNECTED|ERR_NAME_NOT_RESOLVED|ERR_CONNECTION|ERR_FAILED/;

/** Faults of one version that it shows with every server, a real ComfyUI included. */
const OWN_FAULTS = { "1.27.10": ["script error: Cannot read properties of undefined (reading 'id')"] };
const isOwnFault = (complaint) => (OWN_FAULTS[process.env.FRONT_END] ?? []).includes(complaint);

let browser;
before(async () => {
  assert.ok(base, "Set VIVARIUM_URL to the address of a running server");
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"],
  });
});
after(() => browser?.close());

async function post(path, body, headers = {}) {
  const response = await fetch(`${base}${path}`, { method: "POST", body, headers });
  assert.equal(response.status, 200, `POST ${path}: ${response.status} ${await response.clone().text()}`);
}

/** As a user does before: brings the photograph, and has seen the tutorial. */
async function prepare() {
  const form = new FormData();
  form.append("image", new Blob([example("photo.jpg")], { type: "image/jpeg" }), "photo.jpg");
  form.append("overwrite", "true");
  await post("/upload/image", form);
  await post("/settings", JSON.stringify({ "Comfy.TutorialCompleted": true }), { "Content-Type": "application/json" });
}

async function screenshot(page, name) {
  if (!artifacts) return;
  mkdirSync(artifacts, { recursive: true });
  await page.screenshot({ path: join(artifacts, `${name}.png`) });
}

test("the official front end boots, loads the workflow, runs it and shows its image", async () => {
  await prepare();
  const page = await browser.newPage({ viewport: { width: 1500, height: 950 } });
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(`script error: ${error.message}`));
  page.on("response", (response) => {
    const isOurs = response.url().startsWith(base);
    if (isOurs && response.status() >= 500) complaints.push(`${response.status()} ${response.url()}`);
  });
  try {
    await page.goto(base);
    await page.waitForFunction(() => globalThis.app?.graph && globalThis.LiteGraph?.registered_node_types?.SaveImage, null, {
      timeout: BOOT_MS,
    });
    const classes = await page.evaluate(() => Object.keys(globalThis.LiteGraph.registered_node_types));
    const served = Object.keys(await (await fetch(`${base}/object_info`)).json());
    assert.deepEqual(served.filter((name) => !classes.includes(name)), [], "classes that the front end did not register");
    await screenshot(page, "1-booted");

    await page.evaluate((graph) => globalThis.app.loadGraphData(graph), workflow);
    await page.waitForFunction((count) => globalThis.app.graph.nodes.length === count, workflow.nodes.length);
    await screenshot(page, "2-loaded");

    await page.evaluate(() => globalThis.app.queuePrompt(0));
    const shown = await page.waitForFunction(
      (id) => {
        const node = globalThis.app.graph.getNodeById(id);
        const images = node?.imgs?.length ? node.imgs : [...document.querySelectorAll("img")].filter((image) => /[?&]filename=postcard/.test(image.src));
        const image = images.find((candidate) => candidate.complete && candidate.naturalWidth > 0);
        return image && { src: image.src, width: image.naturalWidth, height: image.naturalHeight };
      },
      SAVE_IMAGE,
      { timeout: RUN_MS },
    );
    const image = await shown.jsonValue();
    assert.match(image.src, /postcard_\d{5}_\.png/);
    await page.waitForTimeout(1_000);
    await screenshot(page, "3-image-shown");
    assert.deepEqual(complaints.filter((complaint) => !OUTSIDE.test(complaint) && !isOwnFault(complaint)), []);
  } catch (error) {
    await screenshot(page, "failed");
    throw new Error(`${error.message}\n${complaints.join("\n")}`, { cause: error });
  } finally {
    await page.close();
  }
});
