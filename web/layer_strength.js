// Layer Strength: bars that are dragged, one per layer, above the widgets of the node.
//
// The text widget "custom" is the value, and all that a workflow saves; the bars read it and write it. Without this file
// the node works as before.

import { app } from "../../scripts/app.js";

const NODE = "FantasyIDLayerStrength";
const CUSTOM = "custom";
const HEIGHT = 120; // pixels of the whole widget
const TITLE = 18; // of which the line of text takes
const TALLEST = 2; // strength of a bar that fills its place; larger ones must be typed
const MOST = 10; // as the node allows
const ROUND = 0.05;

/** "1 1 0.5 @ 0-60%; 0.8" → the first part's numbers, and what stands behind them. */
export function readStrength(text) {
  const [, numbers, rest] = /^([^@;]*)(.*)$/s.exec((text ?? "").normalize("NFKC")); // wide letters too
  const values = numbers.trim().split(/[\s,]+/).filter(Boolean).map(Number);
  const good = values.length > 0 && values.every((value) => Number.isFinite(value) && value >= 0 && value <= MOST);
  return { values: good ? values : null, rest };
}

/** The same, back. */
export function writeStrength(values, rest) {
  const numbers = values.map((value) => String(Math.round(value * 1000) / 1000)).join(" ");
  return rest ? `${numbers} ${rest.trim()}` : numbers;
}

class Bars {
  constructor(node) {
    this.node = node;
    this.preset = node.widgets.find((widget) => widget.name === "preset");
    this.custom = node.widgets.find((widget) => widget.name === CUSTOM);
    this.shapes = presetShapes(node);
    this.chosen = -1; // the bar below the pointer, or that of the keyboard
    this.canvas = document.createElement("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-label", "Identity strength per layer: arrow keys choose a layer and change it");
    Object.assign(this.canvas.style, {
      display: "block", width: "100%", height: `${HEIGHT}px`, cursor: "ns-resize", touchAction: "none",
    });
    this.listen();
    for (const widget of [this.preset, this.custom]) this.follow(widget);
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  /** What is shown: what the text says, or the preset's shape, by at least as many bars as the text has. */
  shown() {
    const text = readStrength(this.custom.value);
    if (this.preset.value === CUSTOM) return text;
    const { values, rest } = readStrength(this.shapes[this.preset.value]);
    return { values: values && spreadOver(values, Math.max(values.length, text.values?.length ?? 1)), rest };
  }

  follow(widget) {
    const before = widget.callback;
    widget.callback = (...given) => {
      const result = before?.apply(widget, given);
      this.draw();
      return result;
    };
  }

  listen() {
    const { canvas } = this;
    let held = false;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.stopPropagation();
      held = true;
      canvas.setPointerCapture(event.pointerId);
      this.pull(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (held) {
        event.stopPropagation();
        this.pull(event);
      } else {
        this.choose(this.place(event).bar);
      }
    });
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (held = false));
    canvas.addEventListener("pointerleave", () => held || this.choose(-1));
    canvas.addEventListener("dblclick", (event) => this.set(this.place(event).bar, 1, event.shiftKey));
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const count = this.shown().values?.length ?? 0;
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, ROUND], ArrowDown: [0, -ROUND] }[event.key];
    if (!steps || !count) return;
    event.preventDefault();
    event.stopPropagation();
    const bar = Math.min(Math.max(this.chosen + steps[0], 0), count - 1);
    this.choose(bar);
    if (steps[1]) this.set(bar, this.shown().values[bar] + steps[1], event.shiftKey);
  }

  /** Which bar an event is over, and the strength at its height. The canvas may be drawn at any zoom. */
  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const count = this.shown().values?.length ?? 1;
    const across = (event.clientX - box.left) / box.width;
    const down = ((event.clientY - box.top) / box.height) * HEIGHT;
    const strength = (1 - (down - TITLE) / (HEIGHT - TITLE)) * TALLEST;
    return { bar: Math.min(Math.max(Math.floor(across * count), 0), count - 1), strength };
  }

  pull(event) {
    const { bar, strength } = this.place(event);
    this.choose(bar);
    this.set(bar, strength, event.shiftKey);
  }

  /** One bar, or all of them. Changing a preset's shape makes it a custom one. */
  set(bar, strength, all) {
    const { values, rest } = this.shown();
    if (!values) return;
    const rounded = Math.min(Math.max(Math.round(strength / ROUND) * ROUND, 0), MOST);
    const changed = values.map((value, index) => (all || index === bar ? rounded : value));
    this.custom.value = writeStrength(changed, rest);
    this.preset.value = CUSTOM;
    this.node.graph?.setDirtyCanvas(true, true);
    this.node.graph?.change?.();
    this.draw();
  }

  choose(bar) {
    if (bar !== this.chosen) {
      this.chosen = bar;
      this.draw();
    }
  }

  draw() {
    const { canvas } = this;
    const width = canvas.clientWidth;
    if (!width) return;
    const sharp = Math.max(window.devicePixelRatio || 1, 2);
    canvas.width = width * sharp;
    canvas.height = HEIGHT * sharp;
    const pen = canvas.getContext("2d");
    pen.scale(sharp, sharp);
    const style = getComputedStyle(canvas);
    const ink = style.getPropertyValue("--input-text").trim() || "#ddd";
    pen.fillStyle = style.getPropertyValue("--comfy-input-bg").trim() || "#222";
    pen.beginPath();
    pen.roundRect(0, TITLE, width, HEIGHT - TITLE, 6);
    pen.fill();
    const { values, rest } = this.shown();
    pen.font = "11px sans-serif";
    pen.textBaseline = "middle";
    pen.fillStyle = ink;
    pen.fillText(this.title(values, rest), 2, TITLE / 2);
    if (!values) return;
    const room = HEIGHT - TITLE;
    const wide = width / values.length;
    values.forEach((value, index) => {
      const high = Math.min(value / TALLEST, 1) * (room - 2);
      pen.globalAlpha = index === this.chosen ? 1 : 0.75;
      pen.fillStyle = value > TALLEST ? "#c9803a" : "#5b8fc9";
      pen.fillRect(index * wide + 1, HEIGHT - high, Math.max(wide - 2, 1), high);
    });
    pen.globalAlpha = 0.6; // the line at which everything is as trained
    pen.strokeStyle = ink;
    pen.setLineDash([3, 3]);
    pen.beginPath();
    pen.moveTo(0, HEIGHT - room / TALLEST);
    pen.lineTo(width, HEIGHT - room / TALLEST);
    pen.stroke();
  }

  title(values, rest) {
    if (!values) return "write strengths like: 1 1 0.5";
    if (this.chosen >= 0 && this.chosen < values.length) {
      return `${this.chosen + 1} of ${values.length} (first to last layer): ${values[this.chosen]}`;
    }
    const parts = rest.split(";").length;
    return parts > 1 ? `first of ${parts} parts; the others in the text` : "drag the bars; Shift: all of them";
  }
}

/** The shapes behind the presets' names; the node's definition carries them. */
function presetShapes(node) {
  const inputs = node.constructor.nodeData?.input ?? {};
  const found = { ...inputs.required, ...inputs.optional }.preset;
  return found?.[1]?.shapes ?? {};
}

function spreadOver(values, count) {
  return Array.from({ length: count }, (_, index) => values[Math.floor(((index + 0.5) / count) * values.length)]);
}

app.registerExtension({
  name: "FantasyID.LayerStrength",
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const bars = new Bars(node);
    const widget = node.addDOMWidget("bars", "FANTASYID_STRENGTH_BARS", bars.canvas, {
      serialize: false,
      hideOnZoom: false,
      getMinHeight: () => HEIGHT,
      getMaxHeight: () => HEIGHT,
    });
    widget.serialize = false;
    const configured = node.onConfigure;
    node.onConfigure = function (...given) {
      const result = configured?.apply(this, given);
      bars.draw();
      return result;
    };
    requestAnimationFrame(() => bars.draw());
  },
});
