// Points and densities into a buffer of pixels, without the canvas's own drawing: 100,000 points
// take a few milliseconds, where WebGL in software took longer to hand its picture over.

import { mix } from "../viridis.js";

/**
 * Draw points as squares of `size` pixels.
 *
 * `pixels` Uint32Array of width * height; `view` {x0, x1, y0, y1} the data at the edges, y upwards.
 * `shade`: {values, low, high, table} for a scale or {values, table} for classes (value modulo the
 * table's length). `shown` Uint8Array by simulation, or null for all. `opacity` 0 to 1. `dim`:
 * {version, background} draws points of versions before `version` first, and pale.
 */
export function drawPoints(pixels, width, height, points, view, { shade, size = 2, opacity = 1, shown = null, dim = null }) {
  const args = [pixels, width, height, points, view, shade, size, opacity, shown];
  if (!dim) return pass(...args, null, 0, 0);
  const faint = Uint32Array.from(shade.table, (colour) => mix(colour, dim.background, 0.78));
  const old = pass(...args.with(5, { ...shade, table: faint, none: dim.background }), points.version, 0, dim.version - 1);
  return old + pass(...args, points.version, dim.version, Infinity);
}

function pass(pixels, width, height, points, view, shade, size, opacity, shown, versions, from, to) {
  const { x, y, simulation, n } = points;
  const { values, table, low = 0, high = 0, none } = shade;
  const scaled = high > low;
  const last = table.length - 1;
  const gain = scaled ? last / (high - low) : 0;
  const missing = none ?? table[0];
  const sx = width / (view.x1 - view.x0);
  const sy = height / (view.y1 - view.y0);
  const half = (size - 1) / 2;
  const ox = -view.x0 * sx - half;
  const oy = view.y1 * sy - half;
  // A square that begins left of the edge still shows its right part.
  const right = width + half;
  const bottom = height + half;
  const alpha = Math.round(opacity * 256);
  const plain = alpha >= 256;
  let drawn = 0;
  for (let i = 0; i < n; i += 1) {
    const fx = x[i] * sx + ox;
    const fy = oy - y[i] * sy;
    // Written so that NaN fails.
    if (!(fx > -size && fx < right && fy > -size && fy < bottom)) continue;
    if (versions !== null && !(versions[i] >= from && versions[i] <= to)) continue;
    if (shown !== null && shown[simulation[i]] === 0) continue;
    let colour = missing;
    const value = values[i];
    if (value === value) {
      if (scaled) {
        const k = (value - low) * gain;
        colour = table[k <= 0 ? 0 : k >= last ? last : k | 0];
      } else {
        colour = table[value % table.length | 0];
      }
    }
    drawn += 1;
    const px = Math.round(fx);
    const py = Math.round(fy);
    if (size === 1 && plain) {
      if (px >= 0 && px < width && py >= 0 && py < height) pixels[py * width + px] = colour;
      continue;
    }
    const left = px < 0 ? 0 : px;
    const stopX = px + size > width ? width : px + size;
    const stopY = py + size > height ? height : py + size;
    for (let row = py < 0 ? 0 : py; row < stopY; row += 1) {
      const start = row * width;
      for (let at = start + left; at < start + stopX; at += 1) {
        pixels[at] = plain ? colour : blend(pixels[at], colour, alpha);
      }
    }
  }
  return drawn;
}

// Two channels at a time; the sum of both weights is 256.
function blend(under, over, alpha) {
  const rest = 256 - alpha;
  const redBlue = (((over & 0xff00ff) * alpha + (under & 0xff00ff) * rest) >>> 8) & 0xff00ff;
  const green = ((((over >>> 8) & 0xff) * alpha + ((under >>> 8) & 0xff) * rest) >>> 8) & 0xff;
  return (0xff000000 | (green << 8) | redBlue) >>> 0;
}

/** Points in square bins of `cell` pixels: {counts, columns, rows, highest, total}. */
export function bin(width, height, cell, points, view, shown = null) {
  const columns = Math.ceil(width / cell);
  const rows = Math.ceil(height / cell);
  const counts = new Uint32Array(columns * rows);
  const { x, y, simulation, n } = points;
  const sx = width / (view.x1 - view.x0) / cell;
  const sy = height / (view.y1 - view.y0) / cell;
  const wide = width / cell;
  const tall = height / cell;
  let total = 0;
  for (let i = 0; i < n; i += 1) {
    const fx = (x[i] - view.x0) * sx;
    const fy = (view.y1 - y[i]) * sy;
    if (!(fx >= 0 && fx < wide && fy >= 0 && fy < tall)) continue;
    if (shown !== null && shown[simulation[i]] === 0) continue;
    counts[(fy | 0) * columns + (fx | 0)] += 1;
    total += 1;
  }
  let highest = 0;
  for (let i = 0; i < counts.length; i += 1) if (counts[i] > highest) highest = counts[i];
  return { counts, columns, rows, highest, total };
}

/** Draw bins, with colours on a logarithmic scale from 1 to the highest count. */
export function drawBins(pixels, width, height, cell, { counts, columns, highest }, table) {
  const last = table.length - 1;
  const gain = highest > 1 ? last / Math.log(highest) : 0;
  // Small counts are the most: their logarithms are looked up.
  const known = new Uint32Array(Math.min(highest, 4096) + 1);
  for (let count = 1; count < known.length; count += 1) {
    known[count] = table[highest > 1 ? Math.round(Math.log(count) * gain) : last];
  }
  for (let row = 0; row < height; row += 1) {
    const from = Math.floor(row / cell) * columns;
    const start = row * width;
    for (let column = 0; column < width; column += 1) {
      const count = counts[from + Math.floor(column / cell)];
      if (count === 0) continue;
      pixels[start + column] = count < known.length ? known[count] : table[Math.round(Math.log(count) * gain)];
    }
  }
}
