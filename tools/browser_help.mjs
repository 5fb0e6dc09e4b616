// Every help page in ComfyUI's own editor: select the node, press its circled i, look at the page.
//
//   npm install --no-save playwright-core          (once; uses the chromium of this system)
//   node tools/browser_help.mjs http://127.0.0.1:8188 out/screenshots [vue] [zh | zh-TW | ja] [node ...]
//
// A language opens the pages in it. Exits with 1 when a page does not come, or a picture on it does not show.

import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { launch, open } from "./browser_editor.mjs";

const [address, folder, ...rest] = process.argv.slice(2);
const LANGUAGES = ["zh", "zh-TW", "ja"];
const vue = rest.includes("vue");
const language = LANGUAGES.find((one) => rest.includes(one));
const asked = rest.filter((word) => word !== "vue" && word !== language);
const PAGES = path.join(import.meta.dirname, "..", "web", "docs");
const ending = `${vue ? "_vue" : ""}${language ? `_${language}` : ""}`;
const nodes = asked.length ? asked : fs.readdirSync(PAGES).filter((name) => name.endsWith(".md")).map((name) => name.slice(0, -3));

fs.mkdirSync(folder, { recursive: true });
const { browser, page, complaints } = await launch(1400, 900);
await open(page, address, vue, language);
for (const type of nodes) {
  const text = fs.readFileSync(path.join(PAGES, language ? `${type}/${language}.md` : `${type}.md`), "utf8");
  const title = text.split("\n")[0].replace("# ", "");
  const pictures = [...text.matchAll(/!\[.*?\]\((.*?)\)/g)].map((found) => found[1]);
  await page.evaluate((id) => {
    const { app, LiteGraph } = window;
    app.graph.clear();
    const node = LiteGraph.createNode(id);
    node.pos = [400, 200];
    app.graph.add(node);
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [200, 100];
    app.canvas.selectItems([node]);
    app.canvas.setDirty(true, true);
  }, type);
  await page.locator('[data-testid="info-button"]').first().click();
  const help = page.locator(".node-help-content").filter({ hasText: title }).first();
  await help.waitFor();
  await page.waitForFunction(([heading, count]) => {
    const shown = [...document.querySelectorAll(".node-help-content")].find((one) => one.textContent.includes(heading));
    const images = [...(shown?.querySelectorAll("img") ?? [])];
    return images.length === count && images.every((image) => image.complete);
  }, [title, pictures.length]);
  const widths = await help.locator("img").evaluateAll((images) => images.map((image) => [image.naturalWidth, image.clientWidth]));
  assert.ok(widths.every(([own, drawn]) => own > 0 && drawn > 100), `${type}: every picture shows (${JSON.stringify(widths)})`);
  await page.screenshot({ path: path.join(folder, `help_${type}${ending}.png`) });
  console.log(`help of ${type}: ${pictures.length ? pictures.map((name, i) => `${name} ${widths[i][1]} wide`).join(", ") : "no picture"}`);
}
assert.deepEqual(complaints, [], "the page has no errors");
await browser.close();
