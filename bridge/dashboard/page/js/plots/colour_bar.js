// Axes and the bar of colours, for plots that are drawn by hand.

import { viridis } from "../ui.js";
import { label, ticks } from "./theme.js";

/** Lines and numbers of both axes around `box` {left, top, width, height}. */
export function drawAxes(ctx, box, x, y, theme) {
  ctx.font = `12px system-ui, sans-serif`;
  ctx.strokeStyle = theme.muted;
  ctx.lineWidth = 1;
  ctx.strokeRect(box.left + 0.5, box.top + 0.5, box.width - 1, box.height - 1);
  ctx.fillStyle = theme.muted;
  ctx.textAlign = "center";
  ctx.textBaseline = "top";
  for (const value of x.ticks ?? ticks(x.low, x.high, box.width / 90)) {
    const at = box.left + ((value - x.low) / (x.high - x.low)) * box.width;
    line(ctx, at, box.top + box.height, at, box.top + box.height + 5);
    ctx.fillText(label(value), at, box.top + box.height + 8);
  }
  ctx.textAlign = "right";
  ctx.textBaseline = "middle";
  for (const value of y.ticks ?? ticks(y.low, y.high, box.height / 55)) {
    const at = box.top + (1 - (value - y.low) / (y.high - y.low)) * box.height;
    line(ctx, box.left - 5, at, box.left, at);
    ctx.fillText(label(value), box.left - 8, at);
  }
  ctx.fillStyle = theme.text;
  ctx.font = `13px system-ui, sans-serif`;
  ctx.textAlign = "center";
  ctx.textBaseline = "bottom";
  ctx.fillText(x.title, box.left + box.width / 2, box.top + box.height + 46);
  sideways(ctx, y.title, box.left - 56, box.top + box.height / 2);
}

/** A bar with its numbers, right of `box`; on a logarithmic scale the numbers are powers of ten. */
export function drawBar(ctx, box, { low, high, log, title, backwards = false }, theme) {
  const left = box.left + box.width + 18;
  const width = 14;
  for (let i = 0; i < box.height; i += 1) {
    const share = 1 - i / (box.height - 1);
    ctx.fillStyle = `rgb(${viridis(backwards ? 1 - share : share).join(",")})`;
    ctx.fillRect(left, box.top + i, width, 1.5);
  }
  ctx.strokeStyle = theme.muted;
  ctx.strokeRect(left + 0.5, box.top + 0.5, width - 1, box.height - 1);
  ctx.font = `12px system-ui, sans-serif`;
  ctx.fillStyle = theme.muted;
  ctx.textAlign = "left";
  ctx.textBaseline = "middle";
  for (const value of log ? decades(low, high) : ticks(low, high, box.height / 45)) {
    const share = log
      ? Math.log(value / low) / (Math.log(high / low) || 1)
      : (value - low) / (high - low || 1);
    const at = box.top + (1 - share) * box.height;
    line(ctx, left + width, at, left + width + 4, at);
    ctx.fillText(label(value), left + width + 8, at);
  }
  ctx.fillStyle = theme.text;
  ctx.font = `13px system-ui, sans-serif`;
  ctx.textAlign = "center";
  ctx.textBaseline = "top";
  sideways(ctx, title, left + width + 50, box.top + box.height / 2);
}

function decades(low, high) {
  const steps = high / low < 30 ? [1, 2, 5] : [1];
  const found = [];
  for (let power = 10 ** Math.floor(Math.log10(low)); power <= high; power *= 10) {
    for (const step of steps) {
      if (step * power >= low * 0.999 && step * power <= high * 1.001) found.push(step * power);
    }
  }
  return found.length ? found : [low];
}

function line(ctx, x0, y0, x1, y1) {
  ctx.beginPath();
  ctx.moveTo(Math.round(x0) + 0.5, Math.round(y0) + 0.5);
  ctx.lineTo(Math.round(x1) + 0.5, Math.round(y1) + 0.5);
  ctx.stroke();
}

function sideways(ctx, text, x, y) {
  ctx.save();
  ctx.translate(x, y);
  ctx.rotate(-Math.PI / 2);
  ctx.textAlign = "center";
  ctx.textBaseline = "middle";
  ctx.fillText(text, 0, 0);
  ctx.restore();
}
