// The bars of Layer Strength in ComfyUI's own editor: open the template, drag a bar, look at the text, save the workflow
// on the server, load the page anew, open what was saved; in both renderers.
//
//   npm install --no-save playwright-core          (once; uses the chromium of this system)
//   node tools/browser_bars.mjs http://127.0.0.1:8188 out/screenshots
//
// Exits with 1 when something is not as it should be. bars_node.png is the picture of the node's help page.

import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { launch, open, openTemplate, ready } from "./browser_editor.mjs";

const [address, folder] = process.argv.slice(2);
const NODE = "FantasyIDLayerStrength";

fs.mkdirSync(folder, { recursive: true });
const { browser, page, complaints } = await launch(1600, 1000);

/** Bring the node to the middle, large. Gives its place on the page. */
async function focus() {
  const box = await page.evaluate((type) => {
    const node = window.app.graph._nodes.find((one) => one.type === type);
    const view = window.app.canvas.ds;
    const { left, top, width } = window.app.canvas.canvas.getBoundingClientRect();
    view.scale = 1.5;
    view.offset = [width / 3 - node.pos[0] - node.size[0] / 2, 160 - node.pos[1]];
    window.app.canvas.setDirty(true, true);
    return { x: left + (node.pos[0] + view.offset[0]) * view.scale, y: top + (node.pos[1] - 30 + view.offset[1]) * view.scale,
      width: node.size[0] * view.scale, height: (node.size[1] + 30) * view.scale };
  }, NODE);
  await page.waitForTimeout(2500);
  return box;
}

const values = () => page.evaluate((type) => {
  const node = window.app.graph._nodes.find((one) => one.type === type);
  return Object.fromEntries(node.widgets.filter((w) => w.serialize !== false).map((w) => [w.name, w.value]));
}, NODE);

for (const vue of [false, true]) {
  const name = vue ? "bars_vue" : "bars";
  await open(page, address, vue);
  await openTemplate(page, "layer_strength");
  const place = await focus();
  const bars = page.locator('canvas[aria-label^="Identity strength"]').first();
  const box = await bars.boundingBox();
  assert.ok(box && box.width > 100 && box.height > 60, `${name}: the bars are there and have room (${JSON.stringify(box)})`);
  const before = await values();
  // pull the first bar to about half of what is as trained, three quarters of the way down; the others stay alike
  const count = before.custom.split("@")[0].trim().split(/\s+/).length;
  const x = box.x + box.width / count / 2;
  await page.mouse.move(x, box.y + box.height * 0.5);
  await page.mouse.down();
  await page.mouse.move(x, box.y + box.height * 0.79, { steps: 4 });
  await page.mouse.up();
  const after = await values();
  assert.equal(after.preset, "custom", `${name}: a dragged bar makes it a custom shape`);
  const [first, ...others] = after.custom.split("@")[0].trim().split(/\s+/).map(Number);
  assert.ok(first > 0.3 && first < 0.7, `${name}: the first bar is where it was put (${after.custom})`);
  assert.ok(others.length === count - 1 && new Set(others).size === 1, `${name}: no other bar has moved (${after.custom})`);
  await page.screenshot({ path: path.join(folder, `${name}.png`) });
  await page.screenshot({ path: path.join(folder, `${name}_node.png`), clip: place });

  // Save As, under a new name; the editor asks for it
  const saved = `${name}_${Date.now()}`;
  await page.evaluate(() => void window.app.extensionManager.command.execute("Comfy.SaveWorkflowAs"));
  const asked = page.locator('[role="dialog"] input[type="text"], [role="dialog"] input:not([type])').last();
  await asked.fill(saved);
  await asked.press("Enter");
  const file = `/api/userdata/${encodeURIComponent(`workflows/${saved}.json`)}`;
  await page.waitForFunction(async (url) => (await fetch(url)).ok, file, { polling: 1000 });
  const graph = await page.evaluate(async (url) => (await fetch(url)).json(), file);
  const node = graph.nodes.find((one) => one.type === NODE);
  assert.equal(node.widgets_values.length, Object.keys(after).length, `${name}: the bars save nothing of their own`);

  await page.reload();
  await ready(page);
  await page.waitForTimeout(3000);
  await page.evaluate(async (graph) => window.app.loadGraphData(graph), graph);
  await page.waitForTimeout(2500);
  assert.deepEqual(await values(), after, `${name}: what was saved comes back`);
  await focus();
  await page.screenshot({ path: path.join(folder, `${name}_again.png`) });
  console.log(`${name}: ${before.preset} / ${before.custom} -> ${after.preset} / ${after.custom}, saved and loaded again`);
}
assert.deepEqual(complaints, [], "the page has no errors");
await browser.close();
