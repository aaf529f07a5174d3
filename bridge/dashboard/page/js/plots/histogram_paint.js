// A histogram on a canvas: a map of two columns with its bar of colours, or steps of one.

import { viridis } from "../ui.js";
import { drawAxes, drawBar } from "./colour_bar.js";
import { lineStyle } from "./theme.js";

export const HEIGHT = 400;

/** What a message says, with its edges times `scale`; null where there are no bins. */
export function readGrid({ arrays, meta }, scale) {
  const edges = (name) => (arrays[name] ? Array.from(arrays[name], (v) => v * scale) : null);
  const grid = { x: edges("x_edges"), y: edges("y_edges"), values: arrays.values, meta };
  grid.energy = meta.kind === "free_energy";
  grid.low = Infinity;
  grid.high = -Infinity;
  for (const v of grid.values) {
    if (Number.isNaN(v) || (!grid.energy && v === 0)) continue;
    if (v < grid.low) grid.low = v;
    if (v > grid.high) grid.high = v;
  }
  grid.log = !grid.energy && grid.high > 20;
  grid.title = grid.energy ? "free energy / kJ/mol" : "frames in a bin";
  return grid.x?.length > 1 ? grid : null;
}

/** Where the plot lies in a picture of a width; `square` for angles, as long on both axes. */
export function placeOf(grid, width, square) {
  const right = grid.y ? 104 : 16;
  const box = { left: 74, top: 12, width: width - 74 - right, height: HEIGHT - 12 - 54 };
  if (grid.y && square) {
    const side = Math.min(box.width, box.height);
    box.left += (box.width - side) / 2;
    box.width = box.height = side;
  }
  return box;
}

/** `axes`: {x, y} as `drawAxes` wants them; `targets`: {x, y}, bounds or null. */
export function paintMap(ctx, box, grid, axes, targets, theme) {
  const { x, y, values, low, high, log, energy } = grid;
  const [nx, ny] = [x.length - 1, y.length - 1];
  const small = document.createElement("canvas");
  small.width = nx;
  small.height = ny;
  const pixels = small.getContext("2d");
  const image = pixels.createImageData(nx, ny);
  for (let i = 0; i < nx; i += 1) {
    for (let j = 0; j < ny; j += 1) {
      const v = values[i * ny + j];
      if (Number.isNaN(v) || (!energy && v === 0)) continue;
      const share = log ? Math.log(v / low) / Math.log(high / low) : (v - low) / (high - low || 1);
      image.data.set([...viridis(energy ? 1 - share : share), 255], 4 * ((ny - 1 - j) * nx + i));
    }
  }
  pixels.putImageData(image, 0, 0);
  ctx.imageSmoothingEnabled = false;
  ctx.drawImage(small, box.left, box.top, box.width, box.height);
  paintTarget(ctx, box, grid, targets, theme);
  drawAxes(ctx, box, axes.x, axes.y, theme);
  if (low <= high) drawBar(ctx, box, { low, high, log, title: grid.title, backwards: energy }, theme);
}

/** One column, as steps. */
export function paintSteps(ctx, box, grid, axes, targets, theme) {
  const { x, values, low, high, energy } = grid;
  const top = low <= high ? high * 1.05 || 1 : 1;
  const bottom = energy ? Math.min(0, low) : 0;
  const across = (v) => box.left + ((v - x[0]) / (x.at(-1) - x[0])) * box.width;
  const up = (v) => box.top + (1 - (v - bottom) / (top - bottom)) * box.height;
  const { colour } = lineStyle(0, theme.dark);
  paintTarget(ctx, box, grid, targets, theme);
  ctx.lineWidth = 1.6;
  ctx.strokeStyle = colour;
  ctx.fillStyle = colour;
  for (let i = 0; i < values.length; i += 1) {
    if (Number.isNaN(values[i])) continue;
    const [from, to, at] = [across(x[i]), across(x[i + 1]), up(values[i])];
    if (!energy) {
      ctx.globalAlpha = 0.25;
      ctx.fillRect(from, at, to - from, box.top + box.height - at);
      ctx.globalAlpha = 1;
    }
    const before = i ? values[i - 1] : NaN;
    ctx.beginPath();
    ctx.moveTo(from, Number.isNaN(before) ? at : up(before));
    ctx.lineTo(from, at);
    ctx.lineTo(to, at);
    ctx.stroke();
  }
  drawAxes(ctx, box, axes.x, { low: bottom, high: top, title: grid.title }, theme);
}

/** The target, shaded; nothing where it lies outside of the axes. */
function paintTarget(ctx, box, { x, y }, { x: inX, y: inY }, theme) {
  if (!inX && !inY) return;
  const apart = (bounds, edges) => bounds && (bounds[1] <= edges[0] || bounds[0] >= edges.at(-1));
  if (apart(inX, x) || apart(inY, y)) return;
  const clamp = (v, edges) => Math.min(edges.at(-1), Math.max(edges[0], v));
  const share = (v, edges) => (clamp(v, edges) - edges[0]) / (edges.at(-1) - edges[0]);
  const [x0, x1] = inX ? inX.map((v) => box.left + share(v, x) * box.width) : [box.left, box.left + box.width];
  const [y0, y1] = inY
    ? inY.map((v) => box.top + (1 - share(v, y)) * box.height)
    : [box.top + box.height, box.top];
  ctx.save();
  ctx.strokeStyle = theme.target;
  ctx.fillStyle = theme.target;
  ctx.lineWidth = 2;
  ctx.globalAlpha = 0.14;
  ctx.fillRect(x0, y1, x1 - x0, y0 - y1);
  ctx.globalAlpha = 1;
  ctx.setLineDash([6, 4]);
  ctx.strokeRect(x0, y1, x1 - x0, y0 - y1);
  ctx.font = "600 12px system-ui, sans-serif";
  ctx.textAlign = "left";
  ctx.textBaseline = "top";
  ctx.setLineDash([]);
  ctx.lineWidth = 3;
  ctx.strokeStyle = theme.background;
  ctx.strokeText("target", x0 + 5, y1 + 5);
  ctx.fillText("target", x0 + 5, y1 + 5);
  ctx.restore();
}
