// One panel of time series: some columns of some simulations, over an x axis shared by all panels.

import uPlot from "../../vendor/uplot/uPlot.esm.js";
import { columnPicker, unitOf, withUnit } from "./columns.js";
import { exportButtons, saveCsv, savePng } from "../views/export.js";
import { lineStyle, onTheme, themeOf } from "./theme.js";
import { align, gapsOf, SeriesSet, smooth } from "./series_data.js";
import { simulationPicker } from "./simulation_picker.js";

const SYNC = uPlot.sync("headrace-observables");
const SMOOTHING = [1, 5, 25, 125];
const MANY_BREAKS = 40;
const HEIGHT = 240;

/** Rows to ask for, each series; fewer where there are many. */
function limitFor(count) {
  return Math.round(Math.min(4000, Math.max(250, 80_000 / Math.max(1, count))));
}

export class SeriesPanel {
  /** `shared` is what all panels have in common; see observables.js. */
  constructor(config, shared, parent) {
    this.config = config;
    this.shared = shared;
    this.ui = shared.context.ui;
    this.set = new SeriesSet(limitFor(1));
    this._subscriptions = [];
    this._plot = null;
    this._drawn = [];
    this._pending = 0;
    this._theme = null;
    this._build();
    parent.append(this.element);
    this._offTheme = onTheme(() => this._retheme());
    this._observer = new ResizeObserver(() => this._resize());
    this._observer.observe(this._host);
    this.subscribe();
  }

  close() {
    for (const subscription of this._subscriptions) subscription.close();
    cancelAnimationFrame(this._pending);
    this._offTheme();
    this._observer.disconnect();
    this._plot?.destroy();
    this.element.remove();
  }

  /** Ask for the series anew: after a change of columns, simulations, runs or the x axis. */
  subscribe() {
    for (const subscription of this._subscriptions) subscription.close();
    this._subscriptions = [];
    this._faults = "";
    const { columns } = this.config;
    const simulations = this.shared.simulations(this.config);
    const count = columns.length * simulations.length * (1 + this._runs().length);
    this.set = new SeriesSet(limitFor(count));
    this._describe();
    if (columns.length && simulations.length) {
      for (const run of ["", ...this._runs()]) {
        const options = { columns, simulations, x: this.shared.wire(), limit: this.set.limit };
        if (run) Object.assign(options, { run, simulations: null });
        this._subscriptions.push(
          this.shared.context.connection.subscribe(
            "series", options, (message) => this._take(message, run),
            { every: 0.5, onError: (sentence) => this._fail(run, sentence) },
          ),
        );
      }
    }
    this._draw(true);
  }

  /** The least and greatest x that this panel has; null without rows. */
  extent() {
    let low = Infinity;
    let high = -Infinity;
    for (const { x } of this.set.all) {
      if (!x.length) continue;
      low = Math.min(low, x[0]);
      high = Math.max(high, x[x.length - 1]);
    }
    return low <= high ? [low, high] : null;
  }

  /** Draw again soon. */
  later() {
    if (!this._pending) {
      this._pending = requestAnimationFrame(() => {
        this._pending = 0;
        this._draw(false);
      });
    }
  }

  // ------------------------------------------------------------------ page

  _build() {
    const { h } = this.ui;
    const { columns } = this.shared.context.run;
    this._chips = h("span", { class: "obs-chips" });
    this._host = h("div", {
      class: "obs-plot",
      tabindex: "0",
      role: "img",
      "data-testid": "series-plot",
      "aria-label": "Time series. Arrow keys move the cursor, + and - zoom, 0 shows everything.",
    });
    this._host.addEventListener("keydown", (event) => this._key(event));
    this._legend = h("div", { class: "obs-legend", role: "group", "aria-label": "Lines" });
    this._note = h("p", { class: "obs-note", "data-testid": "series-note" });
    const log = h("input", { type: "checkbox", "data-testid": "series-log" });
    log.checked = Boolean(this.config.log);
    log.addEventListener("change", () => this._change({ log: log.checked }, true));
    const width = this.ui.select(
      "Smoothing",
      SMOOTHING.map((n) => ({ value: n, label: n === 1 ? "not smoothed" : `mean of ${n} rows` })),
      this.config.smooth ?? 1,
      (value) => this._change({ smooth: Number(value) }, true),
      { testid: "series-smooth" },
    );
    const add = columnPicker(this.ui, {
      columns,
      label: "add a column",
      testid: "series-add-column",
      onPick: (text, input) => {
        input.value = "";
        if (!this.config.columns.includes(text)) {
          this._change({ columns: [...this.config.columns, text] });
        }
      },
    });
    this.element = this.ui.panel(this._title(), {
      testid: "series-panel",
      class: "obs-panel",
      actions: [
        ...exportButtons(this.ui, this._title(), { png: () => this._png(), csv: () => this._csv() }),
        this.ui.iconButton("close", "Remove this panel", () => this.shared.remove(this), {
          testid: "panel-remove",
        }),
      ],
    });
    this.element.body.append(
      h(
        "div",
        { class: "obs-tools" },
        this._chips,
        add,
        simulationPicker(this.shared, this.config, (change) => this._change(change)),
        h("label", { class: "obs-check" }, log, "log scale"),
        width,
        ...this._comparisons(),
      ),
      this._host,
      this._legend,
      this._note,
    );
  }

  _comparisons() {
    const { h } = this.ui;
    return (this.shared.context.run.compare ?? []).map(({ name, title }) => {
      const box = h("input", { type: "checkbox", "data-testid": `compare-${name}` });
      box.checked = this._runs().includes(name);
      box.addEventListener("change", () => {
        const rest = this._runs().filter((other) => other !== name);
        this._change({ runs: box.checked ? [...rest, name] : rest });
      });
      return h("label", { class: "obs-check", title }, box, `with ${name}`);
    });
  }

  _runs() {
    const known = (this.shared.context.run.compare ?? []).map((run) => run.name);
    return (this.config.runs ?? []).filter((name) => known.includes(name));
  }

  _change(change, only = false) {
    Object.assign(this.config, change);
    this.shared.save();
    if (only) this._draw(true);
    else this.subscribe();
  }

  _title() {
    return this.config.columns.join(", ") || "no column yet";
  }

  _describe() {
    const { h } = this.ui;
    this.element.setTitle(this._title());
    this._chips.replaceChildren(
      ...this.config.columns.map((column) => {
        const button = h(
          "button",
          { type: "button", class: "obs-chip", "aria-label": `Take out ${column}` },
          `${column} ×`,
        );
        button.addEventListener("click", () =>
          this._change({ columns: this.config.columns.filter((other) => other !== column) }),
        );
        return button;
      }),
    );
  }

  _take(message, run) {
    const begun = this.shared.begun(run);
    if (begun) message.meta.stamp0 = (message.meta.stamp0 ?? 0) - begun;
    if (this.set.take(message, run)) this._draw(true);
    // A wider extent of one panel moves the axis of all.
    this.shared.later();
  }

  _fail(run, sentence) {
    this._faults = run ? `${run}: ${sentence}` : sentence;
    this._tell();
  }

  // ------------------------------------------------------------------ plot

  _draw(anew) {
    const all = this.set.all;
    this._drawn = all;
    const raw = align(all, this._alignment());
    const soft = this._smoothing() > 1 ? align(all, { ...this._alignment(), values: (s) => this._soft(s) }) : null;
    this._columnsThinned = raw.thinned;
    let hidden = 0;
    const data = [...raw.data, ...(soft ? soft.data.slice(1) : [])];
    if (this.config.log) {
      for (let k = 1; k < data.length; k += 1) {
        data[k] = data[k].map((y) => {
          if (typeof y !== "number" || y > 0) return y;
          hidden += 1;
          return null;
        });
      }
    }
    this._hidden = hidden;
    const shape = `${all.map((s) => s.key).join()}|${this._smoothing()}|${this.config.log}|${this.shared.x()}`;
    if (anew || !this._plot || shape !== this._shape) {
      this._shape = shape;
      this._make(data);
      this._makeLegend();
    } else {
      this._plot.setData(data, false);
    }
    this._setRange();
    this._tell();
  }

  _alignment() {
    // By wall time, rows come in batches: a pause between two of them is no gap.
    const gaps = ["time", "step"].includes(this.shared.x());
    return { range: this.shared.range(), gaps, positions: Math.max(600, 2 * Math.round(this._width())) };
  }

  _smoothing() {
    return this.config.smooth ?? 1;
  }

  _soft(series) {
    return smooth(series.y, this._smoothing());
  }

  _width() {
    return Math.max(260, this._host.clientWidth || 600);
  }

  _setRange() {
    const range = this.shared.range() ?? this.shared.extent();
    if (!range || !this._plot) return;
    const [low, high] = range[0] < range[1] ? range : [range[0] - 0.5, range[1] + 0.5];
    this._plot.batch(() => {
      this._plot.setScale("x", { min: low, max: high });
    });
  }

  _make(data) {
    this._plot?.destroy();
    this._theme = themeOf(this._host);
    const theme = () => this._theme;
    const soft = this._smoothing() > 1;
    const axis = (label, more = {}) => ({
      stroke: () => theme().muted,
      grid: { stroke: () => theme().grid, width: 1 },
      ticks: { stroke: () => theme().grid, width: 1 },
      font: "12px system-ui, sans-serif",
      labelFont: "13px system-ui, sans-serif",
      labelSize: 22,
      label,
      ...more,
    });
    const lines = (faint) =>
      this._drawn.map((series, k) => ({
        label: this._name(series),
        show: !this._isHidden(series),
        stroke: () => lineStyle(k, theme().dark).colour,
        dash: lineStyle(k, false).dash,
        width: faint ? 1 : 1.5,
        alpha: faint ? 0.3 : 1,
        points: { show: faint ? false : undefined, size: 4 },
      }));
    const options = {
      width: this._width(),
      height: HEIGHT,
      legend: { show: false },
      padding: [10, 14, 0, 0],
      cursor: {
        sync: { key: SYNC.key, setSeries: false, scales: ["x", null] },
        drag: { x: true, y: false, setScale: false },
        bind: { dblclick: () => () => this.shared.setRange(null) },
        points: { size: 6 },
      },
      scales: {
        x: { time: this.shared.x() === "wall" },
        y: { distr: this.config.log ? 3 : 1 },
      },
      axes: [
        axis(this.shared.xTitle(), { size: 40 }),
        axis(this._yTitle(), { size: 62, values: this.config.log ? undefined : (_, v) => v.map(short) }),
      ],
      series: [{}, ...lines(soft), ...(soft ? lines(false) : [])],
      hooks: {
        setCursor: [() => this._showValues()],
        setSelect: [(u) => this._selected(u)],
        drawAxes: [(u) => this._drawBreaks(u)],
      },
    };
    this._plot = new uPlot(options, data, this._host);
    this._plot.over.setAttribute("data-testid", "series-over");
  }

  _name(series) {
    const parts = [];
    if (series.run) parts.push(series.run);
    parts.push(series.simulation);
    if (this.config.columns.length > 1) parts.push(series.column);
    return parts.join(" · ");
  }

  _yTitle() {
    const { columns } = this.shared.context.run;
    const units = new Set(this.config.columns.map((c) => unitOf(columns, c)));
    const unit = units.size === 1 ? [...units][0] : "";
    return this.config.columns.length > 3 ? unit : withUnit(this.config.columns.join(", "), unit);
  }

  _isHidden(series) {
    return (this.config.hidden ?? []).includes(series.key);
  }

  _makeLegend() {
    const { h } = this.ui;
    this._values = [];
    this._legend.replaceChildren(
      ...this._drawn.map((series, k) => {
        const mark = h("span", { class: "obs-mark", "aria-hidden": "true" });
        const { colour, dash } = lineStyle(k, this._theme.dark);
        mark.style.borderTop = `3px ${["solid", "dashed", "dotted", "double"][dashIndex(dash)]} ${colour}`;
        const value = h("span", { class: "obs-value" });
        this._values.push(value);
        const button = h(
          "button",
          { type: "button", class: "obs-line", "aria-pressed": String(!this._isHidden(series)) },
          mark,
          h("span", {}, this._name(series)),
          value,
        );
        button.addEventListener("click", () => this._toggle(series, k, button));
        return button;
      }),
    );
  }

  _toggle(series, k, button) {
    const rest = (this.config.hidden ?? []).filter((key) => key !== series.key);
    const show = this._isHidden(series);
    this.config.hidden = show ? rest : [...rest, series.key];
    this.shared.save();
    button.setAttribute("aria-pressed", String(show));
    this._plot.setSeries(k + 1, { show });
    if (this._smoothing() > 1) this._plot.setSeries(k + 1 + this._drawn.length, { show });
  }

  _showValues() {
    const { idx } = this._plot.cursor;
    const from = this._smoothing() > 1 ? this._drawn.length + 1 : 1;
    this._values?.forEach((value, k) => {
      const y = idx === null || idx === undefined ? null : nearest(this._plot.data[from + k], idx);
      value.textContent = typeof y === "number" ? short(y) : "";
    });
  }

  _selected(u) {
    if (u.select.width < 4) return;
    const low = u.posToVal(u.select.left, "x");
    const high = u.posToVal(u.select.left + u.select.width, "x");
    u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.shared.setRange([low, high]);
  }

  _drawBreaks(u) {
    const { min, max } = u.scales.x;
    const marks = this._drawn.flatMap((series, k) =>
      this._isHidden(series) ? [] : series.breaks.filter((x) => x >= min && x <= max).map((x) => [x, k]),
    );
    const { ctx, bbox } = u;
    const tall = marks.length > MANY_BREAKS ? 10 * devicePixelRatio : bbox.height;
    ctx.save();
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash(marks.length > MANY_BREAKS ? [] : [2 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.globalAlpha = 0.75;
    for (const [x, k] of marks) {
      const at = Math.round(u.valToPos(x, "x", true)) + 0.5;
      ctx.strokeStyle = lineStyle(k, this._theme.dark).colour;
      ctx.beginPath();
      ctx.moveTo(at, bbox.top + bbox.height);
      ctx.lineTo(at, bbox.top + bbox.height - tall);
      ctx.stroke();
    }
    ctx.restore();
  }

  _tell() {
    const rows = this._drawn.reduce((n, s) => n + s.length, 0);
    const breaks = this._drawn.reduce((n, s) => n + s.breaks.length, 0);
    const gaps = this._alignment().gaps ? this._drawn.reduce((n, s) => n + gapsOf(s.x).length, 0) : 0;
    const stride = Math.max(1, ...this._drawn.map((s) => s.stride));
    const words = [];
    if (!this.config.columns.length) words.push("Add a column to see its numbers.");
    else if (!rows) words.push("No rows yet.");
    else words.push(`${this._drawn.length} lines, ${rows.toLocaleString("en")} rows.`);
    if (stride > 1.01) words.push(`Thinned: about one row in ${stride < 10 ? stride.toFixed(1) : Math.round(stride)}, the least and greatest of each stretch.`);
    if (this.set.sampled) words.push("Of older rows the server has kept an even sample.");
    if (this._columnsThinned) words.push("On screen: the least and greatest of each column of pixels; zoom in for more.");
    if (breaks) words.push(`${breaks} ${breaks === 1 ? "restart" : "restarts"}, marked; lines are broken there.`);
    if (gaps) words.push(`${gaps} ${gaps === 1 ? "gap" : "gaps"}, where no frames came.`);
    if (this._hidden) words.push(`${this._hidden} values that are not above 0 have no place on a log scale.`);
    if (this._faults) words.push(this._faults);
    this._note.textContent = words.join(" ");
    Object.assign(this._host.dataset, {
      rows: String(rows),
      lines: String(this._drawn.length),
      stride: stride.toFixed(2),
      breaks: String(breaks),
      gaps: String(gaps),
    });
  }

  _key(event) {
    const u = this._plot;
    if (!u || event.ctrlKey || event.metaKey || event.altKey) return;
    const actions = {
      ArrowLeft: () => this._move(-1),
      ArrowRight: () => this._move(1),
      "+": () => this.shared.zoom(0.5),
      "=": () => this.shared.zoom(0.5),
      "-": () => this.shared.zoom(2),
      0: () => this.shared.setRange(null),
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    actions[event.key]();
  }

  _move(by) {
    const u = this._plot;
    const xs = u.data[0];
    const at = Math.min(xs.length - 1, Math.max(0, (u.cursor.idx ?? 0) + by));
    u.setCursor({ left: u.valToPos(xs[at], "x"), top: u.over.clientHeight / 2 });
  }

  _resize() {
    if (this._plot && Math.abs(this._plot.width - this._width()) > 1) {
      this._plot.setSize({ width: this._width(), height: HEIGHT });
    }
  }

  _retheme() {
    const next = themeOf(this._host);
    if (JSON.stringify(next) === JSON.stringify(this._theme)) return;
    this._theme = next;
    this._plot?.redraw(false, true);
    this._makeLegend();
  }

  // ------------------------------------------------------------------ files

  _png() {
    const name = `${this.shared.context.run.name}-${this._title()}`;
    return savePng({
      name,
      title: this._title(),
      subtitle: this.shared.context.run.title || this.shared.context.run.name,
      element: this._host,
      legend: (theme) =>
        this._drawn.flatMap((series, k) =>
          this._isHidden(series)
            ? []
            : [{ label: this._name(series), ...lineStyle(k, theme.dark) }],
        ),
      draw: (theme) => this._picture(theme),
    });
  }

  async _picture(theme) {
    const shown = this._theme;
    const repaint = async () => {
      this._plot.redraw(false);
      // uPlot draws at the end of the present task's microtasks.
      await new Promise((done) => setTimeout(done));
    };
    this._theme = theme;
    await repaint();
    const copy = document.createElement("canvas");
    copy.width = this._plot.ctx.canvas.width;
    copy.height = this._plot.ctx.canvas.height;
    copy.getContext("2d").drawImage(this._plot.ctx.canvas, 0, 0);
    this._theme = shown;
    await repaint();
    return copy;
  }

  _csv() {
    const columns = { run: [], simulation: [], column: [], x: [], y: [] };
    for (const series of this._drawn) {
      for (let i = 0; i < series.length; i += 1) {
        if (Number.isNaN(series.y[i])) continue;
        columns.run.push(series.run || this.shared.context.run.name);
        columns.simulation.push(series.simulation);
        columns.column.push(series.column);
        columns.x.push(series.x[i]);
        columns.y.push(series.y[i]);
      }
    }
    return saveCsv(`${this.shared.context.run.name}-${this._title()}`, [
      ["run", columns.run],
      ["simulation", columns.simulation],
      ["column", columns.column],
      [this.shared.xTitle(), columns.x],
      ["value", columns.y],
    ]);
  }
}

function dashIndex(dash) {
  return { 0: 0, 7: 1, 2: 2, 9: 3 }[dash[0] ?? 0] ?? 0;
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
