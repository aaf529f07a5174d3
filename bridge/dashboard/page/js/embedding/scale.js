// The bar that says what colours mean.

import { label, ticks } from "../plots/theme.js";
import { css } from "../viridis.js";

/** Room that it takes right of a plot. */
export const BAR = 82;

/** Draw it right of `box`; `log`: numbers at powers of ten; `format(value)` writes a number. */
export function drawScale(ctx, box, { table, low, high, log = false, title, format = label }, theme) {
  const left = box.left + box.width + 12;
  const width = 12;
  const steps = Math.max(2, Math.round(box.height));
  for (let i = 0; i < steps; i += 1) {
    ctx.fillStyle = css(table[Math.round((1 - i / (steps - 1)) * (table.length - 1))]);
    ctx.fillRect(left, box.top + i, width, 1.5);
  }
  ctx.strokeStyle = theme.muted;
  ctx.lineWidth = 1;
  ctx.strokeRect(left + 0.5, box.top + 0.5, width - 1, box.height - 1);
  ctx.font = "11px system-ui, sans-serif";
  ctx.fillStyle = theme.muted;
  ctx.textAlign = "left";
  ctx.textBaseline = "middle";
  const values = log ? powers(low, high) : ticks(low, high, box.height / 50);
  for (const value of values) {
    const share = log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
    const y = Math.round(box.top + (1 - share) * (box.height - 1)) + 0.5;
    ctx.beginPath();
    ctx.moveTo(left + width, y);
    ctx.lineTo(left + width + 4, y);
    ctx.stroke();
    ctx.fillText(format(value), left + width + 6, y);
  }
  ctx.save();
  ctx.fillStyle = theme.text;
  ctx.font = "12px system-ui, sans-serif";
  ctx.translate(box.left + box.width + BAR - 9, box.top + box.height / 2);
  ctx.rotate(-Math.PI / 2);
  ctx.textAlign = "center";
  ctx.fillText(title, 0, 0, box.height);
  ctx.restore();
}

function powers(low, high) {
  const found = [];
  const steps = high / low < 30 ? [1, 2, 5] : [1];
  for (let power = 10 ** Math.floor(Math.log10(low)); power <= high; power *= 10) {
    for (const step of steps) if (step * power >= low && step * power <= high) found.push(step * power);
  }
  return found;
}
