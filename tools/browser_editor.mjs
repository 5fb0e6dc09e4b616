// ComfyUI's own editor in headless Chromium: what the browser checks have in common.
//
// Needs `npm install --no-save playwright-core` and a Chromium ($CHROMIUM, default /usr/bin/chromium).

import fs from "node:fs";
import path from "node:path";
import { chromium } from "playwright-core";

export const PACK = "fantasyid-comfyui"; // the folder below custom_nodes
export const WORKFLOWS = path.join(import.meta.dirname, "..", "workflows");
const START_SECONDS = 240;
const RUN_SECONDS = 600;

export const shipped = () =>
  fs.readdirSync(WORKFLOWS).filter((name) => name.endsWith(".json")).map((name) => name.slice(0, -".json".length)).sort();

/** A page and what goes wrong in it. Close with `browser.close()`. */
export async function launch(width, height) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--use-gl=angle", "--use-angle=swiftshader"],
  });
  const page = await browser.newPage({ viewport: { width, height } });
  page.setDefaultTimeout(120000); // a busy machine draws slowly
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  return { browser, page, complaints };
}

export const ready = (page) =>
  page.waitForFunction(() => window.app?.graph && window.app?.extensionManager, null, { timeout: START_SECONDS * 1000 });

/** The editor in one of its renderers and languages, on an empty canvas. */
export async function open(page, address, vue, language = "en") {
  await page.goto(address);
  await ready(page);
  await page.waitForTimeout(3000);
  await page.evaluate(async ([on, locale]) => {
    const settings = window.app.extensionManager.setting;
    await settings.set("Comfy.VueNodes.Enabled", on);
    await settings.set("Comfy.Locale", locale);
    await settings.set("Comfy.TutorialCompleted", true);
    await settings.set("Comfy.Minimap.Visible", false);
    await settings.set("LiteGraph.Canvas.MinFontSizeForLOD", 0); // texts on every node, however small
  }, [vue, language]);
  await page.reload(); // a first visit opens the template browser, sooner or later; a second one does not
  await ready(page);
  await page.waitForTimeout(3000);
}

/** Open a shipped workflow as an artist does: template browser, this pack, its picture. */
export async function openTemplate(page, name, picture = null) {
  await page.evaluate(() => window.app.extensionManager.command.execute("Comfy.BrowseTemplates"));
  await page.locator(`[role="dialog"]`).getByText(PACK, { exact: true }).first().click(); // nodes carry the name, too
  const card = page.locator(`[data-testid="template-workflow-${name}"]`);
  await card.scrollIntoViewIfNeeded();
  await page.waitForFunction((id) => {
    const images = [...document.querySelectorAll(`[data-testid="${id}"] img`)];
    return images.length && images.every((image) => image.complete && image.naturalWidth > 0);
  }, `template-workflow-${name}`);
  if (picture) await page.screenshot({ path: picture });
  await page.evaluate(() => window.app.graph._nodes.forEach((node) => (node.wasThere = true)));
  await card.click();
  await page.waitForFunction(() => window.app.graph._nodes.length > 3 && !window.app.graph._nodes.some((node) => node.wasThere));
  await card.waitFor({ state: "detached" });
  await page.waitForTimeout(2500);
}

/** Everything into the window, clear of the editor's own panels. */
export async function showAll(page) {
  await page.evaluate(async () => {
    const settings = window.app.extensionManager.setting;
    if (settings.get("Comfy.RightSidePanel.IsOpen")) await settings.set("Comfy.RightSidePanel.IsOpen", false);
  });
  await page.evaluate(() => {
    const graph = window.app.graph;
    const boxes = [...graph._nodes.map((n) => [n.pos[0], n.pos[1] - 30, n.size[0], n.size[1] + 30]),
      ...graph._groups.map((g) => [...g._bounding])];
    const x0 = Math.min(...boxes.map((b) => b[0])), y0 = Math.min(...boxes.map((b) => b[1]));
    const x1 = Math.max(...boxes.map((b) => b[0] + b[2])), y1 = Math.max(...boxes.map((b) => b[1] + b[3]));
    const { width, height } = window.app.canvas.canvas.getBoundingClientRect();
    const scale = Math.min((width - 120) / (x1 - x0), (height - 200) / (y1 - y0));
    const view = window.app.canvas.ds;
    view.scale = scale;
    view.offset = [(width / scale - (x1 - x0)) / 2 - x0, (height / scale - (y1 - y0)) / 2 - y0 + 50 / scale];
    window.app.canvas.setDirty(true, true);
  });
  await page.waitForTimeout(1500);
}

/** Queue what is on the canvas: how it ended, and the message. */
export async function run(page) {
  return page.evaluate((seconds) => new Promise((resolve) => {
    const api = window.app.api;
    for (const kind of ["execution_success", "execution_error", "execution_interrupted"]) {
      api.addEventListener(kind, (event) => resolve([kind, event.detail?.exception_message ?? ""]), { once: true });
    }
    setTimeout(() => resolve(["timeout", ""]), seconds * 1000);
    window.app.queuePrompt(0, 1).then(() => {
      const errors = window.app.lastNodeErrors;
      if (errors && Object.keys(errors).length) resolve(["refused", JSON.stringify(errors)]);
    });
  }), RUN_SECONDS);
}

/** Nodes that lie on each other as the renderer draws them, which may be larger than as saved. */
export const overlaps = (page) => page.evaluate(() => {
  const nodes = window.app.graph._nodes;
  const drawn = (node) => {
    const element = document.querySelector(`[data-node-id="${node.id}"]`); // the Vue renderer's
    const scale = window.app.canvas.ds.scale;
    if (!element) return [node.pos[0], node.pos[1] - 30, node.size[0], node.size[1] + 30];
    const box = element.getBoundingClientRect();
    return [node.pos[0], node.pos[1] - 30, box.width / scale, box.height / scale];
  };
  const boxes = nodes.map(drawn);
  const found = [];
  boxes.forEach(([x, y, w, h], i) => boxes.slice(0, i).forEach(([x2, y2, w2, h2], j) => {
    if (x < x2 + w2 - 1 && x2 < x + w - 1 && y < y2 + h2 - 1 && y2 < y + h - 1) found.push(`${nodes[j].title} and ${nodes[i].title}`);
  }));
  return found;
});
