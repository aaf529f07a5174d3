// Draws what the kernel sends: the reduced space, and columns over time. No libraries, no requests.

const LINES_LIGHT = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#b58900", "#6f6f6f"];
const LINES_DARK = ["#56b4e9", "#e69f00", "#2fc49b", "#e08fbb", "#5d9bff", "#f0e442", "#b8b8b8"];
const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3]];
const SHOWN = 28;
const VIRIDIS = [
  [68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141],
  [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37],
];
const PAD = { left: 58, right: 12, top: 8, bottom: 40 };

function viridis(share) {
  const at = Math.min(1, Math.max(0, share || 0)) * (VIRIDIS.length - 1);
  const low = Math.min(VIRIDIS.length - 2, Math.floor(at));
  return VIRIDIS[low].map((v, i) => v + (VIRIDIS[low + 1][i] - v) * (at - low));
}

function make(tag, name, parent, text = "") {
  const node = document.createElement(tag);
  if (name) node.className = name;
  if (text) node.textContent = text;
  parent?.append(node);
  return node;
}

/** Rows that grow, and are thinned by half when there are too many. */
class Rows {
  constructor(names, limit) {
    this.limit = limit;
    this.clear(names);
  }

  clear(names = Object.keys(this.of)) {
    this.of = Object.fromEntries(names.map((name) => [name, new Float32Array(256)]));
    this.n = 0;
    this.thinned = false;
  }

  add(arrays) {
    const [first] = Object.keys(this.of);
    const more = arrays[first].length;
    for (const name of Object.keys(this.of)) {
      let room = this.of[name];
      if (room.length < this.n + more) {
        room = new Float32Array(Math.max(2 * room.length, this.n + more));
        room.set(this.of[name].subarray(0, this.n));
        this.of[name] = room;
      }
      if (arrays[name]) room.set(arrays[name], this.n);
      else room.fill(NaN, this.n, this.n + more);
    }
    this.n += more;
    while (this.n > this.limit) this.halve();
  }

  halve() {
    const kept = Math.ceil(this.n / 2);
    for (const room of Object.values(this.of)) for (let i = 0; i < kept; i += 1) room[i] = room[2 * i];
    this.n = kept;
    this.thinned = true;
  }

  get(name) {
    return this.of[name].subarray(0, this.n);
  }
}

function extent(all) {
  let low = Infinity;
  let high = -Infinity;
  for (const values of all) {
    for (const v of values) {
      if (v < low) low = v;
      if (v > high) high = v;
    }
  }
  if (!(low <= high)) return [0, 1];
  const more = low === high ? Math.abs(low) * 0.05 || 0.5 : (high - low) * 0.03;
  return [low - more, high + more];
}

function ticks([low, high], count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const found = [];
  for (let n = Math.ceil(low / step); n * step <= high; n += 1) found.push(n * step);
  return found;
}

function written(value) {
  const size = Math.abs(value);
  if (size < 1e-12) return "0";
  return size >= 1e5 || size < 1e-3 ? value.toExponential(1).replace("e+", "e") : String(Number(value.toPrecision(4)));
}

/** A canvas with axes; returns what maps numbers to pixels. */
function begin(canvas, x, y, titles) {
  const ratio = devicePixelRatio || 1;
  const width = canvas.clientWidth || 420;
  const height = canvas.clientHeight || 300;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const ctx = canvas.getContext("2d");
  ctx.scale(ratio, ratio);
  const colour = getComputedStyle(canvas).color;
  const box = { left: PAD.left, top: PAD.top, width: width - PAD.left - PAD.right, height: height - PAD.top - PAD.bottom };
  const across = (v) => box.left + ((v - x[0]) / (x[1] - x[0])) * box.width;
  const up = (v) => box.top + (1 - (v - y[0]) / (y[1] - y[0])) * box.height;
  ctx.font = "12px system-ui, sans-serif";
  ctx.fillStyle = ctx.strokeStyle = colour;
  ctx.lineWidth = 1;
  ctx.textAlign = "center";
  for (const v of ticks(x, Math.max(2, box.width / 80))) {
    rule(ctx, across(v), box.top, across(v), box.top + box.height);
    ctx.fillText(written(v), across(v), box.top + box.height + 15);
  }
  ctx.fillText(titles[0], box.left + box.width / 2, height - 6);
  ctx.textAlign = "right";
  for (const v of ticks(y, Math.max(2, box.height / 50))) {
    rule(ctx, box.left, up(v), box.left + box.width, up(v));
    ctx.fillText(written(v), box.left - 5, up(v) + 4);
  }
  ctx.save();
  ctx.translate(12, box.top + box.height / 2);
  ctx.rotate(-Math.PI / 2);
  ctx.textAlign = "center";
  ctx.fillText(titles[1].slice(0, 48), 0, 0);
  ctx.restore();
  return { ctx, across, up, ratio, colour };
}

function rule(ctx, x0, y0, x1, y1) {
  ctx.globalAlpha = 0.12;
  ctx.beginPath();
  ctx.moveTo(x0, y0);
  ctx.lineTo(x1, y1);
  ctx.stroke();
  ctx.globalAlpha = 1;
}

function isDark(colour) {
  const [r, g, b] = (colour.match(/\d+/g) ?? [0, 0, 0]).map(Number);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 140;
}

class View {
  constructor(el) {
    this.root = make("div", "headrace-view", el);
    this.root.dataset.testid = "notebook-view";
    this.head = make("div", "headrace-head", this.root);
    this.head.setAttribute("role", "status");
    const plots = make("div", "headrace-plots", this.root);
    const plot = (label) => {
      const figure = make("figure", "", plots);
      const canvas = make("canvas", "", figure);
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", label);
      return { canvas, figure, caption: make("figcaption", "", figure) };
    };
    this.map = plot("Reduced space");
    this.map.canvas.dataset.testid = "notebook-embedding";
    this.lines = plot("Series over simulated time");
    this.lines.canvas.dataset.testid = "notebook-series";
    this.legend = make("div", "headrace-legend", this.lines.figure);
    this.points = null;
    this.series = new Map();
    this.meta = { points: null, series: null, status: {} };
    this.pending = 0;
    this.observer = new ResizeObserver(() => this.later());
    this.observer.observe(plots);
  }

  close() {
    this.observer.disconnect();
    cancelAnimationFrame(this.pending);
  }

  take(content, buffers) {
    const arrays = { points: {}, series: {} };
    content.arrays.forEach(({ of, name }, i) => {
      const view = buffers[i];
      arrays[of][name] = new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
    });
    this.meta.status = content.status;
    if (content.points) this.takePoints(content.points, arrays.points);
    if (content.series) this.takeSeries(content.series, arrays.series);
    this.later();
  }

  takePoints(meta, arrays) {
    this.meta.points = meta;
    if (meta.reset || !this.points) this.points = new Rows(["x", "y", "colour"], 200_000);
    this.points.add(arrays);
    if (arrays.head_x) this.heads = arrays;
  }

  takeSeries(meta, arrays) {
    this.meta.series = meta;
    if (meta.reset) this.series.clear();
    for (const entry of meta.series) {
      const key = JSON.stringify([entry.simulation, entry.column]);
      if (!this.series.has(key)) this.series.set(key, { entry, rows: new Rows(["x", "y", "e"], 8000) });
      this.series.get(key).rows.add({
        x: arrays[`x${entry.index}`], y: arrays[`y${entry.index}`], e: arrays[`e${entry.index}`],
      });
    }
  }

  later() {
    this.pending ||= requestAnimationFrame(() => {
      this.pending = 0;
      this.drawHead();
      this.drawPoints();
      this.drawSeries();
    });
  }

  drawHead() {
    const { status } = this.meta;
    this.head.replaceChildren();
    make("span", "headrace-title", this.head, status.title || "Run");
    const say = (text, bad = false) => make("span", bad ? "headrace-bad" : "headrace-soft", this.head, text);
    say([status.state, (status.outcome ?? "").replaceAll("_", " ")].filter(Boolean).join(": "));
    say(`${status.simulations ?? 0} simulations`);
    say(`${(status.frames ?? 0).toLocaleString("en")} frames`);
    if (status.state === "running") say(`${status.rate} frames/s, lag ${status.lag}`);
    if (status.dropped) say(`${status.dropped} dropped`, true);
    if (status.error) say(status.error, true);
    if (status.why) say(status.why);
    this.root.dataset.state = status.state ?? "";
    this.root.dataset.frames = status.frames ?? 0;
  }

  drawPoints() {
    const { points, meta } = this;
    if (!points?.n) {
      this.map.caption.textContent = "No points yet.";
      return;
    }
    const [xs, ys, cs] = ["x", "y", "colour"].map((name) => points.get(name));
    const [x, y] = [extent([xs]), extent([ys])];
    const titles = meta.points.columns ?? meta.points.names ?? {};
    const titled = (name) => meta.points.titles?.[name] ?? name;
    const named = [titled(titles.x ?? "x"), titled(titles.y ?? "y")];
    const { ctx, across, up, ratio, colour } = begin(this.map.canvas, x, y, named);
    const canvas = this.map.canvas;
    const image = ctx.getImageData(0, 0, canvas.width, canvas.height);
    const [low, high] = extent([cs]);
    const side = Math.max(1, Math.round((points.n > 20_000 ? 1 : 2) * ratio));
    const shades = Array.from({ length: 256 }, (_, i) => viridis(i / 255));
    for (let i = 0; i < points.n; i += 1) {
      const at = Math.round(across(xs[i]) * ratio);
      const line = Math.round(up(ys[i]) * ratio);
      if (!(at >= 0 && line >= 0)) continue;
      const share = Number.isNaN(cs[i]) ? 0.5 : (cs[i] - low) / (high - low);
      const [r, g, b] = shades[Math.round(share * 255)] ?? shades[128];
      for (let dy = 0; dy < side; dy += 1) {
        for (let dx = 0; dx < side; dx += 1) {
          if (at + dx >= canvas.width || line + dy >= canvas.height) continue;
          const k = 4 * ((line + dy) * canvas.width + at + dx);
          image.data[k] = r;
          image.data[k + 1] = g;
          image.data[k + 2] = b;
          image.data[k + 3] = 255;
        }
      }
    }
    ctx.putImageData(image, 0, 0);
    ctx.strokeStyle = colour;
    ctx.lineWidth = 1.5;
    for (let i = 0; i < (this.heads?.head_x.length ?? 0); i += 1) {
      ctx.beginPath();
      ctx.arc(across(this.heads.head_x[i]), up(this.heads.head_y[i]), 4, 0, 7);
      ctx.stroke();
    }
    const late = ["time", "wall", "step", undefined].includes(titles.colour);
    const bright = late ? "Bright is late" : `Bright is much of ${titled(titles.colour)}`;
    const some = meta.points.sampled || points.thinned ? "; an even sample" : "";
    this.map.caption.textContent = `${points.n.toLocaleString("en")} points${some}. ${bright}, rings are where simulations are now.`;
    this.root.dataset.points = points.n;
  }

  drawSeries() {
    const all = [...this.series.values()];
    const shown = all.slice(0, SHOWN);
    if (!shown.length) {
      this.lines.caption.textContent = "No series yet.";
      return;
    }
    const x = extent(shown.map((s) => s.rows.get("x")));
    const y = extent(shown.map((s) => s.rows.get("y")));
    const names = [...new Set(shown.map((s) => s.entry.column))];
    const unit = this.meta.status.time_unit;
    const titles = [unit ? `simulated time / ${unit}` : "simulated time", names.map((name) => this.meta.series.titles?.[name] ?? name).join(", ")];
    const { ctx, across, up, colour } = begin(this.lines.canvas, x, y, titles);
    const colours = isDark(colour) ? LINES_DARK : LINES_LIGHT;
    ctx.lineWidth = 1.3;
    shown.forEach(({ rows }, k) => {
      ctx.strokeStyle = colours[k % colours.length];
      ctx.setLineDash(DASHES[Math.floor(k / colours.length) % DASHES.length]);
      ctx.beginPath();
      const [xs, ys, es] = ["x", "y", "e"].map((name) => rows.get(name));
      let on = false;
      for (let i = 0; i < rows.n; i += 1) {
        if (!Number.isFinite(ys[i]) || (i && es[i] !== es[i - 1] && !Number.isNaN(es[i]))) on = false;
        if (!Number.isFinite(ys[i])) continue;
        if (on) ctx.lineTo(across(xs[i]), up(ys[i]));
        else ctx.moveTo(across(xs[i]), up(ys[i]));
        on = true;
      }
      ctx.stroke();
    });
    this.drawLegend(shown, colours, names.length > 1);
    const rows = all.reduce((n, s) => n + s.rows.n, 0);
    const left = all.length > SHOWN ? `; the first ${SHOWN} of ${all.length} lines` : "";
    this.lines.caption.textContent = `${rows.toLocaleString("en")} rows${this.meta.series.sampled ? ", thinned" : ""}${left}.`;
    this.root.dataset.rows = rows;
  }

  drawLegend(shown, colours, columns) {
    const names = shown.map(({ entry }) => (columns ? `${entry.simulation} · ${entry.column}` : entry.simulation));
    const key = JSON.stringify([names, colours[0]]);
    if (key === this.legendKey) return;
    this.legendKey = key;
    this.legend.replaceChildren(
      ...names.map((name, k) => {
        const item = make("span");
        const mark = document.createElementNS("http://www.w3.org/2000/svg", "svg");
        const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
        const facts = {
          x1: 0, y1: 3, x2: 22, y2: 3, "stroke-width": 2.5, stroke: colours[k % colours.length],
          "stroke-dasharray": DASHES[Math.floor(k / colours.length) % DASHES.length].join(" "),
        };
        for (const [fact, value] of Object.entries(facts)) line.setAttribute(fact, value);
        mark.append(line);
        item.append(mark, name);
        return item;
      }),
    );
  }
}

export default {
  render({ model, el }) {
    const view = new View(el);
    const take = (content, buffers) => {
      if (content.kind !== "update") return;
      try {
        view.take(content, buffers);
      } finally {
        // The next message comes once this one is drawn.
        requestAnimationFrame(() => model.send({ kind: "ack", number: content.number }));
      }
    };
    model.on("msg:custom", take);
    model.send({ kind: "hello" });
    return () => {
      model.off("msg:custom", take);
      view.close();
    };
  },
};
