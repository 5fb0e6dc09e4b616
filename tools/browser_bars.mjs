// The bars of Layer Strength in ComfyUI's own editor: drag one, look at the text, save, load again; both renderers.
//
//   npm install --no-save playwright-core          (once; uses the chromium of this system)
//   node tools/browser_bars.mjs http://127.0.0.1:8188 out/screenshots
//
// Exits with 1 when something is not as it should be.

import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { chromium } from "playwright-core";

const [address, folder] = process.argv.slice(2);
const NODE = "FantasyIDLayerStrength";
const workflow = JSON.parse(
  fs.readFileSync(path.join(import.meta.dirname, "..", "workflows", "layer_strength.json"), "utf8"));

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-gl=angle", "--use-angle=swiftshader"],
});
const page = await browser.newPage({ viewport: { width: 1600, height: 1000 } });
const complaints = [];
page.on("pageerror", (error) => complaints.push(String(error)));
fs.mkdirSync(folder, { recursive: true });

const ready = () => page.waitForFunction(() => window.app?.graph && window.app?.extensionManager, null, { timeout: 120000 });

async function open(vue) {
  await page.goto(address);
  await ready();
  await page.waitForTimeout(3000);
  await page.evaluate(async (on) => {
    const settings = window.app.extensionManager.setting;
    await settings.set("Comfy.VueNodes.Enabled", on).catch?.(() => {});
    await settings.set("Comfy.TutorialCompleted", true);
  }, vue);
  await page.reload(); // a first visit opens the template browser; a second one does not
  await ready();
  await page.waitForTimeout(3000);
}

/** Load a workflow and bring the node to the middle, large. */
async function load(graph) {
  await page.evaluate(async ([saved, type]) => {
    await window.app.loadGraphData(saved);
    const node = window.app.graph._nodes.find((one) => one.type === type);
    const view = window.app.canvas.ds;
    const { width, height } = window.app.canvas.canvas.getBoundingClientRect();
    view.scale = 1.5;
    view.offset = [width / 3 - node.pos[0] - node.size[0] / 2, height / 3 - node.pos[1] - node.size[1] / 2];
    window.app.canvas.setDirty(true, true);
  }, [graph, NODE]);
  await page.waitForTimeout(2500);
}

const values = () => page.evaluate((type) => {
  const node = window.app.graph._nodes.find((one) => one.type === type);
  return Object.fromEntries(node.widgets.filter((w) => w.serialize !== false).map((w) => [w.name, w.value]));
}, NODE);

for (const vue of [false, true]) {
  const name = vue ? "bars_vue" : "bars";
  await open(vue);
  await load(workflow);
  const bars = page.locator('canvas[aria-label^="Identity strength"]').first();
  const box = await bars.boundingBox();
  assert.ok(box && box.width > 100 && box.height > 60, `${name}: the bars are there and have room (${JSON.stringify(box)})`);
  const before = await values();
  // pull the first bar (of those there are) to about half of what is as trained: three quarters of the way down
  const count = (before.preset === "custom" ? before.custom : "1 1 1 1 1 1 1 1").split("@")[0].trim().split(/\s+/).length;
  const x = box.x + box.width / count / 2;
  await page.mouse.move(x, box.y + box.height * 0.5);
  await page.mouse.down();
  await page.mouse.move(x, box.y + box.height * 0.79, { steps: 4 });
  await page.mouse.up();
  const after = await values();
  assert.equal(after.preset, "custom", `${name}: a dragged bar makes it a custom shape`);
  const first = Number(after.custom.split(/\s+/)[0]);
  assert.ok(first > 0.3 && first < 0.7, `${name}: the first bar is where it was put (${after.custom})`);
  await page.screenshot({ path: path.join(folder, `${name}.png`) });
  const saved = await page.evaluate(() => window.app.graph.serialize());
  const node = saved.nodes.find((one) => one.type === NODE);
  assert.equal(node.widgets_values.length, Object.keys(after).length, `${name}: the bars save nothing of their own`);
  await load(saved);
  assert.deepEqual(await values(), after, `${name}: what was saved comes back`);
  console.log(`${name}: ${before.preset} / ${before.custom} -> ${after.preset} / ${after.custom}`);
}
assert.deepEqual(complaints, [], "the page has no errors");
await browser.close();
