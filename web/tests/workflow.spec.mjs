/** The main job in a browser, against a real server: open, fill in, run, watch, keep, cancel, and be told what is wrong. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { launch, openExample, openPage, photo, screenshot, withPage } from "./support.mjs";

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser?.close());

const RUN_MS = 120_000;
const stage = (page, status) => page.locator(`.stage[data-status="${status}"]`);
const lightbox = (page) => page.locator(".lightbox");
const toast = (page, text) => page.locator(".toast-text", { hasText: text });
const field = (page, node, input) => page.locator(`#field-${node}-${input}`);

/** The id of the first node of a class in the open workflow. */
async function nodeOf(page, classType) {
  const card = page.locator(".node", { has: page.locator(".node-class", { hasText: new RegExp(`^${classType} #`) }) }).first();
  return (await card.getAttribute("id")).replace("node-", "");
}

async function setRadius(page, value) {
  const blur = await nodeOf(page, "ImageBlur");
  await field(page, blur, "blur_radius").fill(String(value));
  return blur;
}

test("an empty page offers the ways to open a workflow", () =>
  withPage(browser, {}, async (page) => {
    await openPage(page);
    await page.getByRole("heading", { name: "Run an image workflow" }).waitFor();
    await page.getByRole("button", { name: "Open a workflow" }).waitFor();
    await page.getByText(/kinds? of nodes ready/).waitFor();
    await screenshot(page, "welcome");
  }));

test("packs that come and go are taken over without a reload", () =>
  withPage(browser, {}, async (page) => {
    let tell;
    await page.routeWebSocket(/\/ws\?/, (socket) => {
      socket.connectToServer();
      tell = () => socket.send(JSON.stringify({ type: "packs_changed", data: { packs: ["image"] } }));
    });
    await openPage(page);
    const before = parseInt(await page.getByText(/kinds? of nodes ready/).innerText(), 10);
    assert.ok(before > 1, `${before} kinds of nodes`);
    await page.route("**/api/object_info", async (route) => {
      const response = await route.fetch();
      const classes = Object.entries(await response.json());
      await route.fulfill({ response, json: Object.fromEntries(classes.slice(1)) });
    });
    tell();
    await page.getByText(`${before - 1} kinds of nodes ready`).waitFor();

    await page.getByRole("link", { name: "Packs" }).click();
    await page.locator(".pack").first().waitFor();
    await page.route("**/vivarium/packs", (route) => route.fulfill({ json: { packs: [] } }));
    tell();
    await page.getByRole("heading", { name: "No packs installed" }).waitFor();
  }));

test("the example runs: upload, edit, progress, result, gallery, and back from the image to its workflow", () =>
  withPage(browser, {}, async (page) => {
    await openExample(page);
    await page.locator(".upload-preview[src]").first().waitFor();
    await setRadius(page, 7);
    await screenshot(page, "form");
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await stage(page, "done").waitFor({ timeout: RUN_MS });
    assert.equal(await page.locator(".node-bad").count(), 0);
    assert.ok((await page.locator(".node-finished, .node-cached").count()) >= 5, "nodes show that they are done");
    const result = page.locator(".stage-results img").first();
    await result.waitFor();
    await page.waitForFunction((image) => image.complete && image.naturalWidth > 0, await result.elementHandle());
    await screenshot(page, "result");

    const name = (await page.locator(".stage-results .thumb").first().getAttribute("aria-label")).replace("Open ", "");
    await page.getByRole("link", { name: "Gallery" }).click();
    await page.getByRole("button", { name: `Open ${name}` }).click();
    await lightbox(page).waitFor();
    await lightbox(page).locator("img").waitFor();
    await screenshot(page, "lightbox");

    const [download] = await Promise.all([page.waitForEvent("download"), lightbox(page).getByRole("link", { name: "Download" }).click()]);
    assert.equal(download.suggestedFilename(), name);
    const bytes = await readFile(await download.path());
    assert.equal(bytes.subarray(1, 4).toString(), "PNG");

    await page.getByRole("button", { name: "Open its workflow" }).click();
    await lightbox(page).waitFor({ state: "detached" });
    const blur = await nodeOf(page, "ImageBlur");
    assert.equal(await field(page, blur, "blur_radius").inputValue(), "7");
  }));

test("live updates arrive while a run works", () =>
  withPage(browser, {}, async (page) => {
    const types = new Set();
    page.on("websocket", (socket) =>
      socket.on("framereceived", ({ payload }) => {
        if (typeof payload === "string") types.add(JSON.parse(payload).type);
      }),
    );
    await openExample(page, photo(650, 480, Math.random()));
    await setRadius(page, 9);
    await page.keyboard.press("Control+Enter");
    await stage(page, "done").waitFor({ timeout: RUN_MS });
    for (const type of ["status", "feature_flags", "execution_start", "progress_state", "executing", "executed", "execution_success"]) {
      assert.ok(types.has(type), `the server sent ${type}`);
    }
  }));

test("a value out of range is refused beside its field, and a corrected one runs", () =>
  withPage(browser, {}, async (page) => {
    await openExample(page);
    const blur = await setRadius(page, 800);
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await page.getByText("Not queued: 1 value needs a change").waitFor();
    const error = page.locator(`#field-${blur}-blur_radius-error`);
    assert.match(await error.innerText(), /800 is too large/);
    assert.equal(await field(page, blur, "blur_radius").getAttribute("aria-invalid"), "true");
    await field(page, blur, "blur_radius").scrollIntoViewIfNeeded();
    await screenshot(page, "refused");
    await setRadius(page, 5);
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await stage(page, "done").waitFor({ timeout: RUN_MS });
  }));

test("an unknown node class and broken files are explained", () =>
  withPage(browser, {}, async (page) => {
    await openPage(page);
    const give = (name, text) => page.getByLabel("Workflow file").setInputFiles({ name, mimeType: "application/json", buffer: Buffer.from(text) });
    await give("broken.json", "{ not json");
    await toast(page, '"broken" is not valid JSON').waitFor();
    await give("other.json", '{"a": 1}');
    await toast(page, '"other" is JSON but not a workflow').waitFor();
    await give("stranger.json", JSON.stringify({ 1: { class_type: "NoSuchNodeAnywhere", inputs: {} } }));
    await page.getByText(/This server has no node class/).waitFor();
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await page.getByText(/NoSuchNodeAnywhere does not exist/).waitFor();
  }));

test("a graph editor's file is converted", () =>
  withPage(browser, {}, async (page) => {
    await openPage(page);
    const ui = {
      nodes: [
        { id: 1, type: "EmptyImage", mode: 0, inputs: [], outputs: [{ name: "IMAGE", type: "IMAGE" }], widgets_values: [96, 64, 1, 3368601] },
        { id: 2, type: "Reroute", mode: 0, inputs: [{ name: "", type: "*", link: 1 }], outputs: [{ name: "", type: "*" }] },
        { id: 3, type: "PreviewImage", mode: 0, inputs: [{ name: "images", type: "IMAGE", link: 2 }], outputs: [] },
      ],
      links: [[1, 1, 0, 2, 0, "*"], [2, 2, 0, 3, 0, "IMAGE"]],
      version: 0.4,
    };
    await page.getByLabel("Workflow file").setInputFiles({ name: "ui.json", mimeType: "application/json", buffer: Buffer.from(JSON.stringify(ui)) });
    assert.equal(await field(page, "1", "width").inputValue(), "96");
    assert.equal(await page.locator(".node").count(), 2);
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await stage(page, "done").waitFor({ timeout: RUN_MS });
    await page.locator(".stage-results img").first().waitFor();
  }));

test("a node that fails while it runs is named, with its message", () =>
  withPage(browser, {}, async (page) => {
    await openPage(page);
    await page.getByText(/kinds? of nodes ready/).waitFor();
    // A text where an image belongs is refused by the node, not by the check before the run.
    const workflow = { 1: { class_type: "PreviewImage", inputs: { images: "not an image" } } };
    await page.getByLabel("Workflow file").setInputFiles({ name: "fails.json", mimeType: "application/json", buffer: Buffer.from(JSON.stringify(workflow)) });
    await page.getByText("a fixed value where IMAGE is expected").waitFor();
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await stage(page, "failed").waitFor({ timeout: RUN_MS });
    await page.locator(".stage .notice-title", { hasText: "PreviewImage failed" }).waitFor();
    assert.ok((await page.locator(".stage .notice .pre").innerText()).length > 5, "the message says something");
    assert.equal(await page.locator(".node-error .badge-bad").innerText(), "Failed");
    await screenshot(page, "failed-run");
  }));

test("a cut connection comes back under the same client id and the run is followed to its end", () =>
  withPage(browser, {}, async (page) => {
    const clients = [];
    let cut = null;
    await page.routeWebSocket(/\/ws/, (socket) => {
      clients.push(new URL(socket.url()).searchParams.get("clientId"));
      const server = socket.connectToServer();
      cut ??= async () => {
        await server.close();
        await socket.close();
      };
    });
    await openExample(page, photo(670, 480, Math.random()));
    await setRadius(page, 8);
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await page.locator(".stage[data-status]").waitFor();
    await cut();
    await stage(page, "done").waitFor({ timeout: RUN_MS });
    await page.locator(".stage-results img").first().waitFor();
    await page.getByRole("status", { name: "Server: Connected" }).waitFor();
    assert.equal(clients.length, 2);
    assert.equal(clients[0], clients[1]);
  }));

test("a workflow can be pasted, and dropped anywhere", () =>
  withPage(browser, {}, async (page) => {
    await openPage(page);
    await page.getByText(/kinds? of nodes ready/).waitFor();
    const workflow = (width) => JSON.stringify({ 1: { class_type: "EmptyImage", inputs: { width, height: 8, batch_size: 1, color: 0 } }, 2: { class_type: "PreviewImage", inputs: { images: ["1", 0] } } });
    const send = (type, text) =>
      page.evaluate(
        ([kind, content]) => {
          const data = new DataTransfer();
          if (kind === "paste") data.setData("text/plain", content);
          else data.items.add(new File([content], "dropped.json", { type: "application/json" }));
          const Kind = kind === "paste" ? ClipboardEvent : DragEvent;
          document.body.dispatchEvent(new Kind(kind, { bubbles: true, cancelable: true, clipboardData: data, dataTransfer: data }));
        },
        [type, text],
      );
    await send("paste", workflow(33));
    await page.getByRole("heading", { name: "Pasted workflow" }).waitFor();
    assert.equal(await field(page, "1", "width").inputValue(), "33");
    await send("drop", workflow(44));
    await page.getByRole("heading", { name: "dropped" }).waitFor();
    assert.equal(await field(page, "1", "width").inputValue(), "44");
  }));

test("a run can be cancelled, and the history says so", () =>
  withPage(browser, {}, async (page) => {
    await openExample(page, photo(660, 480, Math.random()));
    const scale = await nodeOf(page, "ImageScale");
    await field(page, scale, "width").fill("3600");
    await field(page, scale, "height").fill("2400");
    await setRadius(page, 31);
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await page.locator(".stop-button").click();
    await stage(page, "cancelled").waitFor({ timeout: RUN_MS });
    await screenshot(page, "cancelled");
    await page.getByRole("link", { name: /Activity/ }).click();
    await page.getByText("Nothing is running or waiting.").waitFor({ timeout: RUN_MS });
    await screenshot(page, "activity");
  }));

test("history entries can be deleted after a question", () =>
  withPage(browser, {}, async (page) => {
    await openPage(page, "activity");
    const rows = page.locator('section[aria-labelledby="history-title"] .row-card');
    await rows.first().waitFor();
    const id = await rows.first().locator(".short-id").innerText();
    await page.getByRole("button", { name: `Delete run ${id} from the history` }).click();
    await page.getByRole("button", { name: "Delete it" }).click();
    await page.getByRole("button", { name: `Delete run ${id} from the history` }).waitFor({ state: "detached" });
  }));
