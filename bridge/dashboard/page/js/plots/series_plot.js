// The lines themselves: uPlot, with restarts marked, a cursor and a range shared by all panels.

import { format } from "../format.js";
import uPlot from "../../vendor/uplot/uPlot.esm.js";
import { lineStyle, themeOf } from "./theme.js";

const SYNC = uPlot.sync("headrace-observables");
const HEIGHT = 240;
/** Marks of restarts from which on they are short, lest they hide the lines. */
const MANY = 40;

export class SeriesPlot {
  /** `on`: {select(range), all(), cursor()} are called when a person does so. */
  constructor(host, on) {
    this.host = host;
    this.theme = themeOf(host);
    this._on = on;
    this._plot = null;
    this._drawn = [];
  }

  get width() {
    return Math.max(260, this.host.clientWidth || 600);
  }

  /**
   * Draw anew. `drawn`: the series, of which `data` has a column each, and a second one each where
   * they are `smooth`ed; `hidden(series)` says which are not shown.
   */
  make({ data, drawn, smooth, log, time, titles, hidden }) {
    this.destroy();
    this._drawn = drawn;
    this._smooth = smooth;
    this._hidden = hidden;
    this.theme = themeOf(this.host);
    const axis = (label, more) => ({
      stroke: () => this.theme.muted,
      grid: { stroke: () => this.theme.grid, width: 1 },
      ticks: { stroke: () => this.theme.grid, width: 1 },
      font: "12px system-ui, sans-serif",
      labelFont: "13px system-ui, sans-serif",
      labelSize: 22,
      label,
      ...more,
    });
    const lines = (faint) =>
      drawn.map((series, k) => ({
        show: !hidden(series),
        stroke: () => lineStyle(k, this.theme.dark).colour,
        dash: lineStyle(k, false).dash,
        width: faint ? 1 : 1.5,
        alpha: faint ? 0.3 : 1,
        points: { show: faint ? false : undefined, size: 4 },
      }));
    const options = {
      width: this.width,
      height: HEIGHT,
      legend: { show: false },
      padding: [10, 14, 0, 0],
      cursor: {
        sync: { key: SYNC.key, setSeries: false, scales: ["x", null] },
        drag: { x: true, y: false, setScale: false },
        bind: { dblclick: () => () => this._on.all() },
        points: { size: 6 },
      },
      scales: { x: { time }, y: { distr: log ? 3 : 1 } },
      axes: [
        axis(titles[0], { size: 40, values: time ? undefined : (_, values) => values.map(place) }),
        axis(titles[1], { size: 62, values: log ? undefined : (_, values) => values.map(short) }),
      ],
      series: [{}, ...lines(smooth), ...(smooth ? lines(false) : [])],
      hooks: {
        setCursor: [() => this._on.cursor()],
        setSelect: [(u) => this._selected(u)],
        drawAxes: [(u) => this._drawBreaks(u)],
      },
    };
    this._plot = new uPlot(options, data, this.host);
    this._plot.over.setAttribute("data-testid", "series-over");
  }

  /** New numbers for the same lines. */
  fill(data, drawn) {
    this._drawn = drawn;
    this._plot.setData(data, false);
  }

  get made() {
    return this._plot !== null;
  }

  destroy() {
    this._plot?.destroy();
    this._plot = null;
  }

  setRange([from, to]) {
    const [min, max] = from < to ? [from, to] : [from - 0.5, from + 0.5];
    this._plot?.batch(() => this._plot.setScale("x", { min, max }));
  }

  show(k, on) {
    this._plot.setSeries(k + 1, { show: on });
    if (this._smooth) this._plot.setSeries(k + 1 + this._drawn.length, { show: on });
  }

  /** What line `k` has at the cursor, as text; nothing where there is no cursor. */
  valueAt(k) {
    const idx = this._plot?.cursor.idx;
    if (idx === null || idx === undefined) return "";
    const y = nearest(this._plot.data[(this._smooth ? this._drawn.length : 0) + 1 + k], idx);
    return y === null ? "" : short(y);
  }

  /** Move the cursor by so many places. */
  move(by) {
    const u = this._plot;
    const xs = u?.data[0];
    if (!xs?.length) return;
    const at = Math.min(xs.length - 1, Math.max(0, (u.cursor.idx ?? 0) + by));
    u.setCursor({ left: u.valToPos(xs[at], "x"), top: u.over.clientHeight / 2 });
  }

  resize() {
    if (this._plot && Math.abs(this._plot.width - this.width) > 1) {
      this._plot.setSize({ width: this.width, height: HEIGHT });
    }
  }

  /** Take up the colours of the page; returns whether they are others than before. */
  retheme() {
    const next = themeOf(this.host);
    if (JSON.stringify(next) === JSON.stringify(this.theme)) return false;
    this.theme = next;
    this._plot?.redraw(false, true);
    return true;
  }

  /** A copy of the plot in other colours. */
  async picture(theme) {
    const shown = this.theme;
    const repaint = async () => {
      this._plot.redraw(false);
      // uPlot draws at the end of the present task's microtasks.
      await new Promise((done) => setTimeout(done));
    };
    this.theme = theme;
    await repaint();
    const { canvas } = this._plot.ctx;
    const copy = document.createElement("canvas");
    copy.width = canvas.width;
    copy.height = canvas.height;
    copy.getContext("2d").drawImage(canvas, 0, 0);
    this.theme = shown;
    await repaint();
    return copy;
  }

  _selected(u) {
    if (u.select.width < 4) return;
    const low = u.posToVal(u.select.left, "x");
    const high = u.posToVal(u.select.left + u.select.width, "x");
    u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this._on.select([low, high]);
  }

  _drawBreaks(u) {
    const { min, max } = u.scales.x;
    const marks = this._drawn.flatMap((series, k) =>
      this._hidden(series) ? [] : series.breaks.filter((x) => x >= min && x <= max).map((x) => [x, k]),
    );
    const { ctx, bbox } = u;
    const many = marks.length > MANY;
    const tall = many ? 10 * devicePixelRatio : bbox.height;
    ctx.save();
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash(many ? [] : [2 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.globalAlpha = 0.75;
    for (const [x, k] of marks) {
      const at = Math.round(u.valToPos(x, "x", true)) + 0.5;
      ctx.strokeStyle = lineStyle(k, this.theme.dark).colour;
      ctx.beginPath();
      ctx.moveTo(at, bbox.top + bbox.height);
      ctx.lineTo(at, bbox.top + bbox.height - tall);
      ctx.stroke();
    }
    ctx.restore();
  }
}

function nearest(values, idx) {
  for (let away = 0; away < 8; away += 1) {
    if (typeof values?.[idx - away] === "number") return values[idx - away];
    if (typeof values?.[idx + away] === "number") return values[idx + away];
  }
  return null;
}

function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(2).replace("e+", "e");
  return String(Number(value.toPrecision(5)));
}

// Steps and times have many digits, and those that tell two of them apart are the last.
function place(value) {
  return Number.isInteger(value) ? format.integer(value) : short(value);
}
