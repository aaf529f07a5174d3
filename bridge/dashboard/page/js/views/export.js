// Pictures and numbers to take away: PNG with title and legend, CSV, frames as PDB or XTC.

import { address, download } from "../api.js";
import { PAPER, themeOf } from "../plots/theme.js";
import { memory } from "../state.js";

const BACKGROUND = "export.background";
const MARGIN = 14;
const FONT = 'system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';

/** What pictures are drawn on: "white", for print, or "theme", as on the screen. */
export function background() {
  return memory.get(BACKGROUND) === "theme" ? "theme" : "white";
}

/** A choice of the two, remembered for all views. */
export function backgroundChoice(ui) {
  return ui.select(
    "Background of saved pictures",
    [{ value: "white", label: "PNG on white" }, { value: "theme", label: "PNG as shown" }],
    background(),
    (value) => memory.set(BACKGROUND, value),
    { testid: "export-background" },
  );
}

/**
 * Two buttons, for the head of a panel. `png()` and `csv()` save something, and may fail; where one
 * is left out, so is its button. `what` ends the spoken label: "Save as PNG: radius".
 */
export function exportButtons(ui, what, { png, csv }) {
  const save = (text, testid, action) =>
    ui.button(
      text,
      async () => {
        try {
          await action();
        } catch (error) {
          ui.toast(`The ${text} could not be saved: ${error.message}`, { level: "error" });
        }
      },
      { kind: "quiet", testid, title: `Save as ${text}`, "aria-label": `Save as ${text}: ${what}` },
    );
  return [png && save("PNG", "export-png", png), csv && save("CSV", "export-csv", csv)].filter(Boolean);
}

/**
 * Save a picture with its title above and its legend below.
 *
 * `draw(theme)` gives the canvas with the plot and its axes, drawn in the colours of `theme` where
 * it can; or hand over `canvas` as it is. `legend` is a list of {label, colour, dash}, or a function
 * that makes it for a theme.
 */
export async function savePng({ name, title, subtitle = "", legend = [], draw, canvas, element }) {
  const shown = themeOf(element ?? canvas ?? document.body);
  const theme = background() === "white" && draw ? PAPER : shown;
  const plot = draw ? await draw(theme) : canvas;
  const entries = typeof legend === "function" ? legend(theme) : legend;
  const picture = compose(plot, { title, subtitle, legend: entries, theme });
  const blob = await new Promise((done) => picture.toBlob(done, "image/png"));
  if (!blob) throw new Error("the browser gave no picture.");
  await download(blob, `${fileName(name)}.png`);
}

/** Put a plot, its title and its legend onto one canvas. */
export function compose(plot, { title, subtitle, legend, theme }) {
  // A canvas outside of the page says itself how many pixels it has for each point.
  const scale = plot.scale ?? plot.width / (plot.clientWidth || plot.width / (devicePixelRatio || 1));
  const size = (points) => Math.round(points * scale);
  const picture = document.createElement("canvas");
  const ctx = picture.getContext("2d");
  const width = plot.width + 2 * size(MARGIN);
  const head = size(title ? 30 : 0) + size(subtitle ? 18 : 0);
  ctx.font = `${size(12)}px ${FONT}`;
  const rows = layOut(ctx, legend, width - 2 * size(MARGIN), size);
  picture.width = width;
  picture.height = plot.height + head + rows.length * size(20) + 2 * size(MARGIN);
  ctx.fillStyle = theme.background;
  ctx.fillRect(0, 0, picture.width, picture.height);
  ctx.textBaseline = "middle";
  let y = size(MARGIN);
  if (title) {
    ctx.fillStyle = theme.text;
    ctx.font = `600 ${size(15)}px ${FONT}`;
    ctx.fillText(title, size(MARGIN), y + size(10));
    y += size(30);
  }
  if (subtitle) {
    ctx.fillStyle = theme.muted;
    ctx.font = `${size(12)}px ${FONT}`;
    ctx.fillText(subtitle, size(MARGIN), y);
    y += size(18);
  }
  ctx.drawImage(plot, size(MARGIN), y);
  y += plot.height + size(14);
  ctx.font = `${size(12)}px ${FONT}`;
  for (const row of rows) {
    for (const { x, entry } of row) {
      ctx.strokeStyle = entry.colour;
      ctx.lineWidth = size(2);
      ctx.setLineDash((entry.dash ?? []).map(size));
      ctx.beginPath();
      ctx.moveTo(x, y);
      ctx.lineTo(x + size(22), y);
      ctx.stroke();
      ctx.fillStyle = theme.text;
      ctx.fillText(entry.label, x + size(28), y);
    }
    y += size(20);
  }
  return picture;
}

function layOut(ctx, legend, width, size) {
  const rows = [];
  let x = Infinity;
  for (const entry of legend) {
    const wide = size(28) + ctx.measureText(entry.label).width + size(18);
    if (x + wide > width + size(MARGIN)) {
      rows.push([]);
      x = size(MARGIN);
    }
    rows.at(-1).push({ x, entry });
    x += wide;
  }
  return rows;
}

/** Save columns of equal or different length as CSV: a list of [name, values]. */
export function saveCsv(name, columns) {
  const blob = new Blob([csvText(columns)], { type: "text/csv;charset=utf-8" });
  return download(blob, `${fileName(name)}.csv`);
}

/** The text of a CSV file; what is missing or not a number is left empty. */
export function csvText(columns) {
  const length = Math.max(0, ...columns.map(([, values]) => values.length));
  const lines = [columns.map(([name]) => cell(name)).join(",")];
  for (let row = 0; row < length; row += 1) {
    lines.push(columns.map(([, values]) => cell(values[row])).join(","));
  }
  return `${lines.join("\r\n")}\r\n`;
}

function cell(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "";
  if (typeof value === "number" || typeof value === "bigint") return String(value);
  // A name that begins like a formula is not to become one in somebody's spreadsheet.
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Save frames, a list of {simulation, offset}, as "pdb", "xtc" or "csv"; the server makes them. */
export function saveFrames(frames, format) {
  const wanted = frames.map((f) => `${f.simulation}:${f.offset}`).join(",");
  return download(address("api/export", { frames: wanted, format }), `frames.${format}`);
}

function fileName(text) {
  return String(text).replace(/[^\w.()\[\]-]+/g, "_").replace(/^[._]+/, "").slice(0, 100) || "plot";
}
