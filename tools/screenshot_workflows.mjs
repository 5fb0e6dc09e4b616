// Load each workflow in ComfyUI's own editor, run it there, and take a picture of it before and after.
//
//   npm install --no-save playwright-core          (once; uses the chromium of this system)
//   node tools/screenshot_workflows.mjs http://127.0.0.1:8188 out/screenshots [vue] [workflow.json ...]
//
// "vue" switches the editor's new renderer on. Exits with 1 when a workflow does not run.

import fs from "node:fs";
import path from "node:path";
import { chromium } from "playwright-core";

const [address, folder, ...rest] = process.argv.slice(2);
const vue = rest[0] === "vue";
const asked = vue ? rest.slice(1) : rest;
const shipped = path.join(import.meta.dirname, "..", "workflows");
const files = asked.length
  ? asked
  : fs.readdirSync(shipped).filter((name) => name.endsWith(".json")).map((name) => path.join(shipped, name));
const RUN_SECONDS = 600;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-gl=angle", "--use-angle=swiftshader"],
});
const page = await browser.newPage({ viewport: { width: 2400, height: 1350 } });
const complaints = [];
page.on("pageerror", (error) => complaints.push(String(error)));

async function open() {
  const ready = () => page.waitForFunction(() => window.app?.graph && window.app?.extensionManager, null, { timeout: 120000 });
  await page.goto(address);
  await ready();
  await page.waitForTimeout(3000);
  await page.evaluate(async (on) => {
    const settings = window.app.extensionManager.setting;
    await settings.set("Comfy.VueNodes.Enabled", on).catch?.(() => {});
    await settings.set("Comfy.TutorialCompleted", true);
    await settings.set("Comfy.Minimap.Visible", false);
  }, vue);
  await page.reload(); // a first visit opens the template browser, sooner or later; a second one does not
  await ready();
  await page.waitForTimeout(3000);
}

async function load(workflow) {
  await page.evaluate(async (graph) => {
    await window.app.loadGraphData(graph);
  }, workflow);
  await page.waitForTimeout(2500);
  await page.evaluate(() => {
    const graph = window.app.graph;
    const boxes = [...graph._nodes.map((n) => [n.pos[0], n.pos[1] - 30, n.size[0], n.size[1] + 30]),
      ...graph._groups.map((g) => [...g._bounding])];
    const x0 = Math.min(...boxes.map((b) => b[0])), y0 = Math.min(...boxes.map((b) => b[1]));
    const x1 = Math.max(...boxes.map((b) => b[0] + b[2])), y1 = Math.max(...boxes.map((b) => b[1] + b[3]));
    const { width, height } = window.app.canvas.canvas.getBoundingClientRect();
    const scale = Math.min((width - 120) / (x1 - x0), (height - 140) / (y1 - y0));
    const view = window.app.canvas.ds;
    view.scale = scale;
    view.offset = [(width / scale - (x1 - x0)) / 2 - x0, (height / scale - (y1 - y0)) / 2 - y0 + 20 / scale];
    window.app.canvas.setDirty(true, true);
  });
  await page.waitForTimeout(1500);
}

async function run() {
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

fs.mkdirSync(folder, { recursive: true });
await open();
let failed = 0;
for (const file of files) {
  const name = path.basename(file, ".json") + (vue ? "_vue" : "");
  await load(JSON.parse(fs.readFileSync(file, "utf8")));
  await page.screenshot({ path: path.join(folder, `${name}_loaded.png`) });
  const [ended, message] = await run();
  await page.waitForTimeout(4000);
  await page.screenshot({ path: path.join(folder, `${name}_run.png`) });
  fs.writeFileSync(path.join(folder, `${name}_saved.json`),
    JSON.stringify(await page.evaluate(() => window.app.graph.serialize()), null, 1));
  console.log(`${name}: ${ended} ${message}`);
  failed += ended !== "execution_success";
}
complaints.forEach((text) => console.log("page error:", text));
await browser.close();
process.exit(failed ? 1 : 0);
