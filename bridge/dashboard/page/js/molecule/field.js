// A slice of a field as an image, with its colour bar.

import { BAR, drawScale } from "../embedding/scale.js";
import { readable } from "../embedding/colouring.js";

const MARGIN = 14;

export class FieldView {
  #slice = null;
  #image = null;
  #range = null;
  #about = "";

  constructor(ui, theme, onHover) {
    this.theme = theme;
    this.onHover = onHover;
    this.element = ui.h("canvas", {
      class: "mol-canvas mol-field", testid: "molecule-field", tabindex: 0, role: "img", "aria-label": "Slice of a field",
    });
    this.element.addEventListener("pointermove", (event) => this.#hover(event));
    this.element.addEventListener("pointerleave", () => this.onHover(null));
  }

  /** `values` of `rows` x `columns`; colours keep their range, and widen it where they must. */
  update(values, [rows, columns], meta) {
    this.#slice = { values, rows, columns, unit: meta.unit ?? "", field: meta.field };
    const about = `${meta.simulation} ${meta.field}`;
    if (about !== this.#about) this.#range = null;
    this.#about = about;
    const [low, high] = [meta.min ?? 0, meta.max ?? 1];
    this.#range = this.#range ? [Math.min(low, this.#range[0]), Math.max(high, this.#range[1])] : [low, high];
    this.draw();
  }

  themed(theme) {
    this.theme = theme;
    this.draw();
  }

  resize() {
    const { clientWidth, clientHeight } = this.element;
    if (!clientWidth || !clientHeight) return;
    const scale = Math.min(2, devicePixelRatio || 1);
    this.element.width = Math.round(clientWidth * scale);
    this.element.height = Math.round(clientHeight * scale);
    this.draw();
  }

  fit() {
    this.#range = null;
  }

  close() {}

  draw() {
    const { width, height, clientWidth } = this.element;
    if (!this.#slice || !clientWidth) return;
    this.#paint(this.element.getContext("2d"), width, height, width / clientWidth, this.theme);
  }

  async picture(theme) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height, canvas.scale] = [this.element.clientWidth * 2, this.element.clientHeight * 2, 2];
    this.#paint(canvas.getContext("2d"), canvas.width, canvas.height, 2, theme);
    return canvas;
  }

  get values() {
    return this.#slice;
  }

  #paint(ctx, width, height, scale, theme) {
    const { values, rows, columns, unit, field } = this.#slice;
    const colours = readable("viridis", theme);
    const [low, high] = this.#range;
    if (this.#image?.width !== columns || this.#image?.height !== rows) {
      this.#image = document.createElement("canvas");
      [this.#image.width, this.#image.height] = [columns, rows];
    }
    const data = new ImageData(columns, rows);
    const pixels = new Uint32Array(data.data.buffer);
    const gain = high > low ? (colours.length - 1) / (high - low) : 0;
    for (let i = 0; i < pixels.length; i += 1) {
      const value = values[i];
      // What is not finite stays clear.
      if (value - value === 0) pixels[i] = colours[Math.round((value - low) * gain)];
    }
    this.#image.getContext("2d").putImageData(data, 0, 0);
    ctx.setTransform(scale, 0, 0, scale, 0, 0);
    const [w, h] = [width / scale, height / scale];
    ctx.fillStyle = theme.background;
    ctx.fillRect(0, 0, w, h);
    const box = this.#box(w, h);
    ctx.imageSmoothingEnabled = false;
    ctx.drawImage(this.#image, box.left, box.top, box.width, box.height);
    ctx.strokeStyle = theme.muted;
    ctx.lineWidth = 1;
    ctx.strokeRect(box.left + 0.5, box.top + 0.5, box.width - 1, box.height - 1);
    if (high > low) drawScale(ctx, box, { table: colours, low, high, title: unit ? `${field} / ${unit}` : field }, theme);
  }

  #box(w, h) {
    const { rows, columns } = this.#slice;
    const side = Math.max(0.1, Math.min((w - 2 * MARGIN - BAR) / columns, (h - 2 * MARGIN) / rows));
    const [width, height] = [Math.round(side * columns), Math.round(side * rows)];
    return { left: Math.round((w - BAR - width) / 2), top: Math.round((h - height) / 2), width, height };
  }

  #hover(event) {
    if (!this.#slice) return;
    const edge = this.element.getBoundingClientRect();
    const box = this.#box(edge.width, edge.height);
    const { rows, columns, values } = this.#slice;
    const column = Math.floor(((event.clientX - edge.left - box.left) / box.width) * columns);
    const row = Math.floor(((event.clientY - edge.top - box.top) / box.height) * rows);
    const within = column >= 0 && column < columns && row >= 0 && row < rows;
    this.onHover(within ? { row, column, value: values[row * columns + column] } : null);
  }
}
