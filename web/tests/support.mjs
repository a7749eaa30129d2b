/**
 * What the browser tests share: a browser, a page that fails the test on script errors, pictures to upload, screenshots.
 *
 * VIVARIUM_URL        the running server (required)
 * VIVARIUM_ARTIFACTS  a folder for screenshots (optional)
 * CHROMIUM            the browser's path (default /usr/bin/chromium)
 */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import zlib, { deflateSync } from "node:zlib";
import { chromium } from "playwright-core";

export const base = process.env.VIVARIUM_URL;
const artifacts = process.env.VIVARIUM_ARTIFACTS;
const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export async function launch() {
  assert.ok(base, "Set VIVARIUM_URL to the address of a running server, e.g. http://127.0.0.1:8188");
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
}

/** Runs `test` in a fresh page; afterwards no script may have failed and no policy may have been violated. */
export async function withPage(browser, options, test) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(`script error: ${error.message}`));
  page.on("console", (message) => {
    if (/Content Security Policy/i.test(message.text())) complaints.push(message.text());
  });
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (/^(https?|wss?):$/.test(url.protocol) && url.host !== new URL(base).host) complaints.push(`request to the outside: ${url.href}`);
  });
  try {
    await test(page);
    assert.deepEqual(complaints, []);
  } catch (error) {
    await screenshot(page, `failed-${Date.now()}`);
    throw error;
  } finally {
    await context.close();
  }
}

export async function openPage(page, view = "workflow") {
  await page.goto(`${base.replace(/\/$/, "")}/#/${view}`);
  await page.getByRole("status", { name: "Server: Connected" }).waitFor();
}

/** Opens the example and gives its first image field a picture that is on the server. */
export async function openExample(page, picture = photo(640, 480)) {
  await openPage(page);
  await page.getByRole("button", { name: "Open example" }).click();
  await page.locator(".node").first().waitFor();
  await page.locator('.upload input[type="file"]').first().setInputFiles({ name: `e2e-${picture.length}.png`, mimeType: "image/png", buffer: picture });
  await page.getByText("Image uploaded").waitFor();
}

export async function screenshot(page, name) {
  if (!artifacts) return;
  mkdirSync(artifacts, { recursive: true });
  await page.screenshot({ path: join(artifacts, `web-${name}.png`) });
}

/** Violations that keep people out: axe's serious and critical ones. */
export async function seriousViolations(page) {
  await page.evaluate(axeSource);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ target }) => target.join(" ")).join(", ")}`);
}

/** How far the page is wider than its window, in pixels. */
export async function overflowWidth(page) {
  return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
}

/** A PNG with a sky, hills and a sun. */
export function photo(width, height, seed = 0.3) {
  const rows = Buffer.alloc((width * 3 + 1) * height);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const colour = sceneAt(x / width, y / height, seed);
      rows.set(colour.map((part) => Math.round(part * 255)), y * (width * 3 + 1) + 1 + x * 3);
    }
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2], 8);
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([signature, chunk("IHDR", header), chunk("IDAT", deflateSync(rows)), chunk("IEND", Buffer.alloc(0))]);
}

function sceneAt(x, y, seed) {
  const hill = 0.6 + 0.12 * Math.sin(x * 5 + seed) + 0.05 * Math.sin(x * 17 + seed * 3);
  if (Math.hypot(x - 0.7, (y - 0.3) * 0.75) < 0.09) return [1, 0.85, 0.55];
  if (y < hill) return [0.95 - 0.5 * y, 0.6 + 0.2 * y, 0.55 + 0.4 * y];
  return [0.12, 0.35, 0.25];
}

function chunk(type, data) {
  const body = Buffer.concat([Buffer.from(type), data]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(data.length);
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(zlib.crc32 ? zlib.crc32(body) : slowCrc32(body));
  return Buffer.concat([length, body, sum]);
}

/** For Node versions whose zlib has no crc32. */
function slowCrc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}
