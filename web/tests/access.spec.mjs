/** The page for everybody: small screens, keyboard only, screen readers, dark colours, and a server that is gone. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { base, launch, openExample, openPage, overflowWidth, screenshot, seriousViolations, withPage } from "./support.mjs";

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser?.close());

const VIEWS = ["workflow", "gallery", "activity", "packs", "server"];
const HEADINGS = { gallery: "Gallery", activity: "Activity", packs: "Packs", server: "Server" };

async function goTo(page, view) {
  await page.evaluate((name) => {
    location.hash = `#/${name}`;
  }, view);
  if (HEADINGS[view]) await page.getByRole("heading", { name: HEADINGS[view], level: 1 }).waitFor();
  await page.waitForFunction(() => !document.querySelector(".skeleton"));
}

for (const colorScheme of ["light", "dark"]) {
  test(`no view has a serious accessibility violation (${colorScheme})`, () =>
    withPage(browser, { colorScheme }, async (page) => {
      await openPage(page);
      assert.deepEqual(await seriousViolations(page), [], "welcome");
      await openExample(page);
      for (const view of VIEWS) {
        await goTo(page, view);
        assert.deepEqual(await seriousViolations(page), [], view);
        await screenshot(page, `${view}-${colorScheme}`);
      }
    }));
}

test("a phone shows every view without sideways scrolling", () =>
  withPage(browser, { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 }, async (page) => {
    await openPage(page);
    assert.equal(await overflowWidth(page), 0, "welcome");
    await openExample(page);
    for (const view of VIEWS) {
      await goTo(page, view);
      assert.equal(await overflowWidth(page), 0, view);
      await screenshot(page, `${view}-phone`);
    }
    await goTo(page, "workflow");
    assert.deepEqual(await seriousViolations(page), []);
    await page.getByRole("button", { name: "Run", exact: true }).tap();
    await page.locator(".stage[data-status]").waitFor();
    assert.equal(await overflowWidth(page), 0, "while it runs");
    await page.locator('.stage[data-status="done"]').waitFor({ timeout: 120_000 });
    await page.evaluate(() => scrollTo(0, 0));
    await screenshot(page, "result-phone");
  }));

test("everything important works by keyboard, with the focus in sight", () =>
  withPage(browser, {}, async (page) => {
    await openPage(page);
    await page.getByRole("button", { name: "Open example" }).waitFor();
    const focused = () => page.evaluate(() => document.activeElement?.textContent?.trim() || document.activeElement?.getAttribute("aria-label") || document.activeElement?.id);
    const tabTo = async (name) => {
      for (let presses = 0; presses < 80; presses += 1) {
        await page.keyboard.press("Tab");
        if ((await focused()) === name) return;
      }
      assert.fail(`Tab never reached "${name}"`);
    };
    await page.keyboard.press("Tab");
    assert.equal(await focused(), "Skip to content");
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement.id), "main");
    await tabTo("Open example");
    const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.notEqual(outline, "none", "the focus is visible");
    await page.keyboard.press("Enter");
    await page.locator(".node").first().waitFor();

    const radius = page.locator('input[id$="-blur_radius"]').first();
    const before = Number(await radius.inputValue());
    await radius.focus();
    await page.keyboard.press("ArrowUp");
    assert.equal(Number(await radius.inputValue()), before + 1);
    await tabTo("Run");
    await page.keyboard.press("Enter");
    await page.locator('.stage[data-status="done"], .stage[data-status="failed"], .notice-bad').first().waitFor({ timeout: 120_000 });

    await openPage(page, "gallery");
    const thumb = page.locator(".thumb").first();
    await thumb.focus();
    await page.keyboard.press("Enter");
    const dialog = page.locator(".lightbox");
    await dialog.waitFor();
    assert.deepEqual(await seriousViolations(page), [], "lightbox");
    await page.keyboard.press("Escape");
    await dialog.waitFor({ state: "detached" });
    assert.ok(await thumb.evaluate((element) => element === document.activeElement), "the focus returns to where it was");
  }));

test("a server that is gone is announced, and one that returns is found", () =>
  withPage(browser, {}, async (page) => {
    let gone = true;
    await page.route("**/{api,vivarium}/**", (route) => (gone ? route.abort() : route.continue()));
    await page.routeWebSocket(/\/ws/, (socket) => (gone ? socket.close() : socket.connectToServer()));
    await page.goto(base);
    await page.getByText("The server does not answer.").waitFor();
    assert.deepEqual(await seriousViolations(page), [], "offline");
    await screenshot(page, "offline");
    // The page also tries by itself, so the button may vanish at any moment from here on.
    const button = await page.getByRole("button", { name: "Retry now" }).elementHandle();
    gone = false;
    await button.evaluate((element) => element.click());
    await page.getByRole("status", { name: "Server: Connected" }).waitFor();
    await page.getByText(/kinds? of nodes ready/).waitFor();
    assert.equal(await page.getByText("The server does not answer.").count(), 0);
  }));

test("a server that wants a token is told apart from one that is gone, and leads to its login page", () =>
  withPage(browser, {}, async (page) => {
    const refused = { status: 401, contentType: "application/json", body: '{"error": {"type": "unauthenticated", "message": "m"}}' };
    await page.route("**/{api,vivarium}/**", (route) => route.fulfill(refused));
    await page.routeWebSocket(/\/ws/, (socket) => socket.close());
    await page.goto(base);
    await page.getByText("This server wants a token.").waitFor();
    assert.equal(await page.getByText("The server does not answer.").count(), 0);
    assert.deepEqual(await seriousViolations(page), [], "signed out");
    await screenshot(page, "signed-out");
    await page.getByRole("link", { name: "Sign in" }).click();
    await page.getByLabel("Token").waitFor();
    assert.deepEqual(await seriousViolations(page), [], "the login page");
    await screenshot(page, "login");
  }));

test("the open workflow, its values and the last result survive a reload", () =>
  withPage(browser, {}, async (page) => {
    await openExample(page);
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await page.locator(".stage").and(page.locator("[data-status]")).waitFor();
    const prefix = page.locator('input[id$="-filename_prefix"]').first();
    await prefix.fill("kept-value");
    await page.waitForTimeout(500);
    await page.reload();
    assert.equal(await page.locator('input[id$="-filename_prefix"]').first().inputValue(), "kept-value");
    await page.locator('.stage[data-status="done"]').waitFor({ timeout: 120_000 });
    await page.locator(".stage-results img").first().waitFor();
  }));
