// The picture of Core Model's help page: its wiring in the example workflow, in ComfyUI's own editor.
//
//   npm install --no-save playwright-core          (once; uses the chromium of this system)
//   node tools/browser_core_model.mjs http://127.0.0.1:8188 out/screenshots
//
// core_model.png is the picture; tools/build_help_pictures.py --core-model puts it in its place. Only the nodes' places
// and sizes are changed, so that they lie beside each other. Exits with 1 when the wiring is not as it should be.

import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { launch, open, openTemplate } from "./browser_editor.mjs";

const [address, folder] = process.argv.slice(2);

fs.mkdirSync(folder, { recursive: true });
const { browser, page, complaints } = await launch(1600, 900);
await open(page, address, false);
await page.evaluate(() => window.app.extensionManager.setting.set("Comfy.NodeBadge.NodeSourceBadgeMode", "None"));
await openTemplate(page, "core_ksampler");
const [wires, clip] = await page.evaluate(() => {
  const { graph, canvas } = window.app;
  const one = (type) => graph._nodes.find((node) => node.type === type);
  const [core, sampler] = [one("FantasyIDCoreModel"), one("KSampler")];
  const prompts = graph._nodes.filter((node) => node.type === "FantasyIDTextEncode");
  const from = (name) => {
    const link = graph.links.get(sampler.inputs.find((input) => input.name === name).link);
    return graph.getNodeById(link.origin_id).type;
  };
  graph._groups.slice().forEach((group) => graph.remove(group));
  const after = ["FantasyIDDecode", "CreateVideo", "SaveVideo"]; // with all before these, out of the picture
  graph._nodes.forEach((node) => (node.pos = after.includes(node.type) ? [2000, 2000] : [-2000, 60]));
  const [width, gap, edge] = [260, 70, 40];
  [[core, 0], [sampler, width + gap]].forEach(([node, x]) => {
    node.pos = [x, 0];
    node.setSize([width, node.computeSize()[1]]);
  });
  prompts.forEach((node, place) => {
    node.collapse();
    node.pos = [100 - 30 * place, core.size[1] + 60 + 40 * place];
  });
  const high = Math.max(sampler.size[1], core.size[1] + 100) + 30;
  const { left, top } = canvas.canvas.getBoundingClientRect();
  canvas.ds.scale = 1.4;
  canvas.ds.offset = [240, 160];
  canvas.deselectAll();
  canvas.setDirty(true, true);
  const [x, y, w, h] = [-edge, -45, 2 * width + gap + 2 * edge, high + 30];
  const place = { x: left + (x + 240) * 1.4, y: top + (y + 160) * 1.4, width: w * 1.4, height: h * 1.4 };
  return [Object.fromEntries(["model", "positive", "negative", "latent_image"].map((name) => [name, from(name)])), place];
});
assert.deepEqual(wires, {
  model: "FantasyIDCoreModel", positive: "FantasyIDTextEncode", negative: "FantasyIDTextEncode", latent_image: "FantasyIDCoreModel",
});
await page.waitForTimeout(2500);
await page.screenshot({ path: path.join(folder, "core_model.png"), clip });
console.log(`core_model.png: ${Math.round(clip.width)} x ${Math.round(clip.height)}`);
assert.deepEqual(complaints, [], "the page has no errors");
await browser.close();
