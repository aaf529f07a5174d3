// The picture: points or their density, axes, colour bar, marks; zoom, hover and choice of frames.

import { drawAxes } from "../plots/colour_bar.js";
import { PAPER, themeOf } from "../plots/theme.js";
import { channels, pixel } from "../viridis.js";
import { Grid } from "./grid.js";
import { steer } from "./gestures.js";
import { bin, drawBins, drawPoints } from "./raster.js";
import { BAR, drawScale } from "./scale.js";

const MARGIN = { left: 72, top: 10, right: 18, bottom: 56 };
const ROOM = 0.05;
const REACH = 9;
const CELL = 3;
const RINGS = 60;

export class Figure {
  /** Data at the edges of the plot. */
  view = { x0: 0, x1: 1, y0: 0, y1: 1 };
  /** While true, the axes grow with the data (and never shrink); zooming ends that. */
  fitted = true;
  style = { mode: "points", size: 2, opacity: 1, dim: false };
  /** {x, y}: {title, factor}; what axes are called, and what one unit of the data is in theirs. */
  axes = { x: { title: "x", factor: 1 }, y: { title: "y", factor: 1 } };
  /** Made by `colouring`: {values, table, low, high, none, title, factor?}. */
  shade = null;
  shown = null;
  chosen = [];
  marks = [];
  heads = [];
  drawn = 0;
  /** "box" or "lasso"; with `selecting`, dragging draws a region also without Shift. */
  regionKind = "box";
  selecting = false;

  #empty = true;
  #image = null;
  #pixels = null;
  #frame = 0;
  #hover = -1;
  #region = null;

  constructor(ui, points, events) {
    this.points = points;
    this.grid = new Grid(points);
    this.events = events;
    this.canvas = ui.h("canvas", {
      class: "emb-canvas", testid: "embedding-canvas", tabindex: 0, role: "application",
      "aria-label": "Points of the reduced space", "aria-describedby": "emb-keys",
    });
    this.over = ui.h("canvas", { class: "emb-over", "aria-hidden": "true" });
    this.tip = ui.h("div", { class: "emb-tip", role: "tooltip", testid: "embedding-tooltip", hidden: true });
    this.element = ui.h("div", { class: "emb-figure" }, this.canvas, this.over, this.tip);
    steer(this);
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.element);
  }

  close() {
    this.observer.disconnect();
    cancelAnimationFrame(this.#frame);
  }

  // -- size and place ----------------------------------------------------------------------------

  get box() {
    const right = this.bar ? BAR : MARGIN.right;
    return {
      left: MARGIN.left, top: MARGIN.top,
      width: Math.max(10, this.width - MARGIN.left - right),
      height: Math.max(10, this.height - MARGIN.top - MARGIN.bottom),
    };
  }

  get bar() {
    return this.style.mode === "density" || this.shade?.high !== undefined;
  }

  resize() {
    const { clientWidth, clientHeight } = this.element;
    if (!clientWidth || !clientHeight) return;
    this.width = clientWidth;
    this.height = clientHeight;
    this.scale = Math.min(2, devicePixelRatio || 1);
    for (const canvas of [this.canvas, this.over]) {
      canvas.width = Math.round(clientWidth * this.scale);
      canvas.height = Math.round(clientHeight * this.scale);
    }
    this.themed();
  }

  themed() {
    this.theme = themeOf(this.element);
    this.draw();
  }

  /** Data at a place of the element, in CSS pixels. */
  data(px, py) {
    const { left, top, width, height } = this.box;
    const { x0, x1, y0, y1 } = this.view;
    return [x0 + ((px - left) / width) * (x1 - x0), y1 - ((py - top) / height) * (y1 - y0)];
  }

  place(x, y, box = this.box) {
    const { x0, x1, y0, y1 } = this.view;
    return [
      box.left + ((x - x0) / (x1 - x0)) * box.width,
      box.top + ((y1 - y) / (y1 - y0)) * box.height,
    ];
  }

  /** Show all of the data. */
  fit() {
    this.fitted = true;
    delete this.canvas.dataset.range;
    this.#empty = true;
    this.grow();
    this.later();
  }

  /** Widen the axes to what has come since `first`, unless somebody has zoomed. */
  grow(first = 0) {
    if (!this.fitted) return;
    for (const [name, low, high] of [["x", "x0", "x1"], ["y", "y0", "y1"]]) {
      const limits = this.axes[name].limits;
      const range = limits ?? this.points.range(name, this.#empty ? 0 : first);
      if (!range) return;
      const { view } = this;
      const least = this.#empty ? range[0] : Math.min(range[0], view[low]);
      const most = this.#empty ? range[1] : Math.max(range[1], view[high]);
      const room = limits ? 0 : ROOM * (most - least || Math.abs(least) || 1);
      if (this.#empty || least < view[low]) view[low] = least - room;
      if (this.#empty || most > view[high]) view[high] = most + room;
    }
    this.#empty = false;
  }

  // -- drawing -----------------------------------------------------------------------------------

  /** Draw once, before the browser paints next. */
  later() {
    this.#frame ||= requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (!this.width) return;
    this.shade = this.events.shade(this.theme);
    const ctx = this.canvas.getContext("2d");
    ctx.setTransform(this.scale, 0, 0, this.scale, 0, 0);
    ctx.clearRect(0, 0, this.width, this.height);
    this.#scene(ctx, this.scale, this.theme, true);
    this.drawOver();
  }

  /** The plot on a canvas of its own, for a file. */
  picture(theme = PAPER) {
    const canvas = document.createElement("canvas");
    canvas.width = this.width * 2;
    canvas.height = this.height * 2;
    canvas.scale = 2;
    const ctx = canvas.getContext("2d");
    ctx.scale(2, 2);
    ctx.fillStyle = theme.background;
    ctx.fillRect(0, 0, this.width, this.height);
    const shade = this.shade;
    this.shade = this.events.shade(theme);
    this.#scene(ctx, 2, theme, false);
    this.#marks(ctx, theme);
    this.shade = shade;
    return canvas;
  }

  #scene(ctx, scale, theme, keep) {
    const { box, style, points, view, shown } = this;
    const width = Math.round(box.width * scale);
    const height = Math.round(box.height * scale);
    let image = keep ? this.#image : null;
    if (image?.width !== width || image?.height !== height) {
      image = new ImageData(width, height);
      if (keep) {
        this.#image = image;
        this.#pixels = new Uint32Array(image.data.buffer);
      }
    }
    const pixels = keep ? this.#pixels : new Uint32Array(image.data.buffer);
    const background = pixel(channels(theme.background));
    pixels.fill(background);
    let bar = this.shade;
    if (style.mode === "density") {
      const cell = Math.max(1, Math.round(CELL * scale));
      const bins = bin(width, height, cell, points, view, shown);
      const table = this.events.densityTable(theme);
      drawBins(pixels, width, height, cell, bins, table);
      this.drawn = bins.total;
      bar = { table, low: 1, high: Math.max(2, bins.highest), log: true, title: "Points in a bin" };
    } else {
      const newest = points.newest;
      const dim = style.dim && newest > 0 ? { version: newest, background } : null;
      const size = Math.max(1, Math.round((style.size + few(this.shown ? this.drawn : points.n)) * scale));
      this.drawn = drawPoints(pixels, width, height, points, view, { shade: this.shade, size, opacity: style.opacity, shown, dim });
    }
    ctx.putImageData(image, Math.round(box.left * scale), Math.round(box.top * scale));
    const axis = (name, low, high) => ({
      low: view[low] * this.axes[name].factor, high: view[high] * this.axes[name].factor, title: this.axes[name].title,
    });
    drawAxes(ctx, box, axis("x", "x0", "x1"), axis("y", "y0", "y1"), theme);
    if (this.bar && bar?.high > bar?.low) {
      const { factor = 1 } = bar;
      drawScale(ctx, box, { ...bar, low: bar.low * factor, high: bar.high * factor }, theme);
    }
  }

  drawOver() {
    const ctx = this.over.getContext("2d");
    ctx.setTransform(this.scale, 0, 0, this.scale, 0, 0);
    ctx.clearRect(0, 0, this.width, this.height);
    this.#marks(ctx, this.theme);
    if (this.#hover >= 0) {
      const [x, y] = this.place(this.points.x[this.#hover], this.points.y[this.#hover]);
      ring(ctx, x, y, 6, this.theme.text, 2);
    }
    if (this.#region) outline(ctx, this.#region, this.theme);
  }

  #marks(ctx, theme) {
    const { box, points } = this;
    ctx.save();
    ctx.beginPath();
    ctx.rect(box.left, box.top, box.width, box.height);
    ctx.clip();
    for (const { i, colour } of this.heads) {
      const [x, y] = this.place(points.x[i], points.y[i]);
      dot(ctx, x, y, this.heads.length > 40 ? 3 : 4, colour, theme);
    }
    for (const mark of this.marks) {
      mark.at = this.place(mark.x, mark.y);
      if (mark.from) arrow(ctx, this.place(...mark.from), mark.at, theme);
      glyph(ctx, ...mark.at, mark.kind, theme);
    }
    // Rings around each hide what they ring when there are many.
    const strong = theme.dark ? "#ffb000" : "#b3005e";
    const many = this.chosen.length > RINGS;
    for (const i of this.chosen) {
      const [x, y] = this.place(points.x[i], points.y[i]);
      if (many) {
        ctx.fillStyle = strong;
        ctx.fillRect(x - 1.5, y - 1.5, 3, 3);
        continue;
      }
      ring(ctx, x, y, 5, theme.background, 4);
      ring(ctx, x, y, 5, strong, 2);
    }
    ctx.restore();
  }

  // -- what the pointer does ---------------------------------------------------------------------

  /** Point at a place of the element, -1 where there is none near. */
  at(px, py, radius = REACH) {
    const { box, view } = this;
    if (px < box.left || px > box.left + box.width || py < box.top || py > box.top + box.height) return -1;
    const [x, y] = this.data(px, py);
    return this.grid.nearest(x, y, radius, box.width / (view.x1 - view.x0), box.height / (view.y1 - view.y0), this.shown);
  }

  hover(px, py) {
    const mark = this.marks.find(({ at }) => at && Math.hypot(at[0] - px, at[1] - py) < REACH);
    const i = mark ? -1 : this.at(px, py);
    const text = mark ? mark.lines : i >= 0 ? this.events.describe(i) : null;
    this.tip.hidden = !text;
    if (text) {
      this.tip.replaceChildren(...text.map((line, k) => {
        const node = document.createElement("div");
        if (k === 0) node.className = "emb-tip-head";
        node.textContent = line;
        return node;
      }));
      const left = px + 14 + this.tip.offsetWidth > this.width ? px - 14 - this.tip.offsetWidth : px + 14;
      const top = Math.min(py + 12, this.height - this.tip.offsetHeight - 4);
      this.tip.style.transform = `translate(${Math.round(Math.max(0, left))}px, ${Math.round(Math.max(0, top))}px)`;
    }
    this.canvas.style.cursor = i >= 0 ? "pointer" : "crosshair";
    if (i !== this.#hover) {
      this.#hover = i;
      this.drawOver();
    }
  }

  leave() {
    this.tip.hidden = true;
    if (this.#hover >= 0) {
      this.#hover = -1;
      this.drawOver();
    }
  }

  /** Outline while a region is being drawn: a list of places, or null. */
  set region(places) {
    this.#region = places;
    this.drawOver();
  }

  zoom(factor, px, py) {
    const [x, y] = this.data(px, py);
    const { x0, x1, y0, y1 } = this.view;
    const span = x1 - x0;
    if ((factor < 1 && span * factor < 1e-6 * (Math.abs(x) + span)) || (factor > 1 && span * factor > 1e12)) return;
    this.view = { x0: x + (x0 - x) * factor, x1: x + (x1 - x) * factor, y0: y + (y0 - y) * factor, y1: y + (y1 - y) * factor };
    this.#moved();
  }

  pan(dx, dy) {
    const { box, view } = this;
    const x = (dx / box.width) * (view.x1 - view.x0);
    const y = (dy / box.height) * (view.y1 - view.y0);
    this.view = { x0: view.x0 - x, x1: view.x1 - x, y0: view.y0 + y, y1: view.y1 + y };
    this.#moved();
  }

  #moved() {
    this.fitted = false;
    const { x0, x1, y0, y1 } = this.view;
    // For programs that look at the page: what part is shown.
    this.canvas.dataset.range = JSON.stringify([x0, x1, y0, y1]);
    this.leave();
    this.events.moved?.();
    this.later();
  }
}

// Few points are drawn larger: a hundred specks are hard to see.
function few(n) {
  return n < 2000 ? 2 : n < 15_000 ? 1 : 0;
}

// -- small drawings ------------------------------------------------------------------------------

function ring(ctx, x, y, radius, colour, width) {
  ctx.strokeStyle = colour;
  ctx.lineWidth = width;
  ctx.beginPath();
  ctx.arc(x, y, radius, 0, 2 * Math.PI);
  ctx.stroke();
}

function dot(ctx, x, y, radius, colour, theme) {
  ctx.fillStyle = colour;
  ctx.beginPath();
  ctx.arc(x, y, radius, 0, 2 * Math.PI);
  ctx.fill();
  ctx.strokeStyle = theme.dark ? "#ffffff" : "#000000";
  ctx.lineWidth = 1.25;
  ctx.stroke();
}

function glyph(ctx, x, y, kind, theme) {
  const corners = kind === "restart" ? [[0, -6], [5.5, 4.500], [-5.5, 4.500]] : [[0, -5.500], [5.5, 0], [0, 5.500], [-5.5, 0]];
  ctx.beginPath();
  for (const [dx, dy] of corners) ctx.lineTo(x + dx, y + dy);
  ctx.closePath();
  ctx.fillStyle = theme.background;
  ctx.fill();
  ctx.strokeStyle = theme.text;
  ctx.lineWidth = 1.5;
  ctx.stroke();
}

function arrow(ctx, [x0, y0], [x1, y1], theme) {
  ctx.strokeStyle = theme.muted;
  ctx.lineWidth = 1;
  ctx.setLineDash([4, 3]);
  ctx.beginPath();
  ctx.moveTo(x0, y0);
  ctx.lineTo(x1, y1);
  ctx.stroke();
  ctx.setLineDash([]);
}

function outline(ctx, places, theme) {
  ctx.beginPath();
  for (const [x, y] of places) ctx.lineTo(x, y);
  ctx.closePath();
  ctx.fillStyle = theme.dark ? "rgb(255 176 0 / 14%)" : "rgb(179 0 94 / 10%)";
  ctx.fill();
  ctx.setLineDash([5, 4]);
  ctx.strokeStyle = theme.text;
  ctx.lineWidth = 1.25;
  ctx.stroke();
  ctx.setLineDash([]);
}
