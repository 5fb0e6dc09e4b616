// Open each workflow from ComfyUI's template browser, run it there, and take a picture of it before and after.
//
//   npm install --no-save playwright-core          (once; uses the chromium of this system)
//   node tools/screenshot_workflows.mjs http://127.0.0.1:8188 out/screenshots [vue] [loaded] [name ...]
//
// "vue" switches the editor's new renderer on, "loaded" runs nothing. Exits with 1 when a workflow does not run, or draws nodes on each other.

import fs from "node:fs";
import path from "node:path";
import { launch, open, openTemplate, overlaps, run, shipped, showAll } from "./browser_editor.mjs";

const [address, folder, ...rest] = process.argv.slice(2);
const [vue, loaded] = ["vue", "loaded"].map((word) => rest.includes(word));
const asked = rest.filter((word) => !["vue", "loaded"].includes(word));

fs.mkdirSync(folder, { recursive: true });
const { browser, page, complaints } = await launch(2400, 1350);
await open(page, address, vue);
let failed = 0;
for (const template of asked.length ? asked : shipped()) {
  const name = template + (vue ? "_vue" : "");
  await openTemplate(page, template, path.join(folder, `templates${vue ? "_vue" : ""}.png`));
  await showAll(page);
  await page.screenshot({ path: path.join(folder, `${name}_loaded.png`) });
  const [ended, message] = loaded ? ["execution_success", "not run"] : await run(page);
  if (!loaded) {
    await page.waitForTimeout(4000);
    await page.screenshot({ path: path.join(folder, `${name}_run.png`) });
  }
  const lying = await overlaps(page);
  console.log(`${name}: ${ended} ${message}`, lying.map((pair) => `${pair} overlap`).join("; "));
  failed += ended !== "execution_success" || lying.length > 0;
}
complaints.forEach((text) => console.log("page error:", text));
await browser.close();
process.exit(failed ? 1 : 0);
