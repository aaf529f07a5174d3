// One panel of time series: some columns of some simulations, over an x axis shared by all panels.

import { exportButtons, saveCsv, savePng } from "../views/export.js";
import { columnPicker, scaled, shownOf, withUnit } from "./columns.js";
import { align, SeriesSet, smooth } from "./series_data.js";
import { Detail } from "./series_detail.js";
import { SeriesLegend } from "./series_legend.js";
import { SeriesPlot } from "./series_plot.js";
import { simulationPicker } from "./simulation_picker.js";
import { lineStyle, onTheme } from "./theme.js";

const SMOOTHING = [1, 5, 25, 125];

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
    this._detail = new Detail(this);
    this._drawn = [];
    this._pending = 0;
    this._build();
    parent.append(this.element);
    this._plot = new SeriesPlot(this._host, {
      select: (range) => this.shared.setRange(range),
      all: () => this.shared.setRange(null),
      cursor: () => this._legend.tell((k) => this._plot.valueAt(k)),
    });
    this._offTheme = onTheme(() => this._plot.retheme() && this._makeLegend());
    this._observer = new ResizeObserver(() => this._plot.resize());
    this._observer.observe(this._host);
    this.subscribe();
  }

  close() {
    for (const subscription of this._subscriptions) subscription.close();
    this._detail.end();
    cancelAnimationFrame(this._pending);
    this._offTheme();
    this._observer.disconnect();
    this._plot.destroy();
    this.element.remove();
  }

  /** Ask for the series anew: after a change of columns, simulations, runs or the x axis. */
  subscribe() {
    for (const subscription of this._subscriptions) subscription.close();
    this._subscriptions = [];
    this._detail.end();
    this._faults = "";
    this.asked = [];
    this.stamps = new Map();
    const { columns } = this.config;
    const simulations = this.shared.simulations(this.config);
    const count = columns.length * simulations.length * (1 + this._runs().length);
    this.set = new SeriesSet(limitFor(count));
    this._describe();
    if (columns.length && simulations.length) {
      for (const run of ["", ...this._runs()]) {
        const options = { columns, simulations, x: this.shared.wire(), limit: this.set.limit };
        if (run) Object.assign(options, { run, simulations: null });
        this.asked.push({ run, options });
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
    this._legend = new SeriesLegend(h, (series, k) => this._toggle(series, k));
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
      this._legend.element,
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
    this.place(message, run);
    if (this.set.take(message, run)) this._draw(true);
    // A wider extent of one panel moves the axis of all.
    this.shared.later();
  }

  /** Make the times of a message those of the axis, and its numbers what is shown of them. */
  place(message, run) {
    const { columns } = this.shared.context.run;
    for (const { column, index } of message.meta.series ?? []) {
      const { factor } = shownOf(columns, column);
      message.arrays[`y${index}`] = scaled(message.arrays[`y${index}`], factor);
    }
    if (message.meta.x !== "wall") return;
    message.meta.stamp0 = (message.meta.stamp0 ?? 0) - this.shared.begun(run);
    this.stamps.set(run, message.meta.stamp0);
  }

  _fail(run, sentence) {
    this._faults = run ? `${run}: ${sentence}` : sentence;
    this._tell();
  }

  // ------------------------------------------------------------------ plot

  _draw(anew) {
    this._detail.follow(this.shared.range());
    const finer = this._detail.series;
    const all = this.set.all.map((series) => finer.get(series.key) ?? series);
    this._drawn = all;
    const alignment = this._alignment();
    const raw = align(all, alignment);
    const width = this._smoothing();
    const soft = width > 1 ? align(all, { ...alignment, values: (one) => smooth(one.y, width) }) : null;
    this._columnsThinned = raw.thinned;
    const data = [...raw.data, ...(soft ? soft.data.slice(1) : [])];
    this._hidden = this.config.log ? dropUnloggable(data) : 0;
    const shape = `${all.map((one) => one.key).join()}|${width}|${this.config.log}|${this.shared.x()}`;
    if (anew || !this._plot.made || shape !== this._shape) {
      this._shape = shape;
      this._plot.make({
        data,
        drawn: all,
        smooth: width > 1,
        log: Boolean(this.config.log),
        time: this.shared.x() === "wall",
        titles: [this.shared.xTitle(), this._yTitle()],
        hidden: (series) => this._isHidden(series),
      });
      this._makeLegend();
    } else {
      this._plot.fill(data, all);
    }
    const range = this.shared.range() ?? this.shared.extent();
    if (range) this._plot.setRange(range);
    this._tell();
  }

  _alignment() {
    // By wall time, rows come in batches: a pause between two of them is no gap.
    const gaps = ["time", "step"].includes(this.shared.x());
    return { range: this.shared.range(), gaps, positions: Math.max(600, 2 * Math.round(this._plot.width)) };
  }

  _smoothing() {
    return this.config.smooth ?? 1;
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
    const units = new Set(this.config.columns.map((c) => shownOf(columns, c).unit));
    const unit = units.size === 1 ? [...units][0] : "";
    const names = this.config.columns.join(", ");
    return names.length > 36 ? unit : withUnit(names, unit);
  }

  _isHidden(series) {
    return (this.config.hidden ?? []).includes(series.key);
  }

  _makeLegend() {
    const lines = this._drawn.map((series) => ({
      series, name: this._name(series), shown: !this._isHidden(series),
    }));
    this._legend.make(lines, this._plot.theme.dark);
  }

  _toggle(series, k) {
    const rest = (this.config.hidden ?? []).filter((key) => key !== series.key);
    const shown = this._isHidden(series);
    this.config.hidden = shown ? rest : [...rest, series.key];
    this.shared.save();
    this._plot.show(k, shown);
    return shown;
  }

  _tell() {
    const rows = this._drawn.reduce((n, s) => n + s.length, 0);
    const breaks = this._drawn.reduce((n, s) => n + s.breaks.length, 0);
    const gaps = this._alignment().gaps ? this._drawn.reduce((n, s) => n + s.gaps.length, 0) : 0;
    const stride = Math.max(1, ...this._drawn.map((s) => s.stride));
    const words = [];
    if (!this.config.columns.length) words.push("Add a column to see its numbers.");
    else if (!rows) words.push("No rows yet.");
    else words.push(`${this._drawn.length} ${this._drawn.length === 1 ? "line" : "lines"}, ${this.ui.format.integer(rows)} rows.`);
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
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const actions = {
      ArrowLeft: () => this._plot.move(-1),
      ArrowRight: () => this._plot.move(1),
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
      draw: (theme) => this._plot.picture(theme),
    });
  }

  _csv() {
    const columns = { run: [], simulation: [], column: [], x: [], y: [], unit: [] };
    const known = this.shared.context.run.columns;
    for (const series of this._drawn) {
      for (let i = 0; i < series.length; i += 1) {
        if (Number.isNaN(series.y[i])) continue;
        columns.run.push(series.run || this.shared.context.run.name);
        columns.simulation.push(series.simulation);
        columns.column.push(series.column);
        columns.x.push(series.x[i]);
        columns.y.push(series.y[i]);
        columns.unit.push(shownOf(known, series.column).unit);
      }
    }
    return saveCsv(`${this.shared.context.run.name}-${this._title()}`, [
      ["run", columns.run],
      ["simulation", columns.simulation],
      ["column", columns.column],
      [this.shared.xTitle(), columns.x],
      ["value", columns.y],
      ["unit", columns.unit],
    ]);
  }
}

/** Make gaps of what has no place on a log scale; returns how many values that were. */
function dropUnloggable(data) {
  let dropped = 0;
  for (let k = 1; k < data.length; k += 1) {
    data[k] = data[k].map((y) => {
      if (typeof y !== "number" || y > 0) return y;
      dropped += 1;
      return null;
    });
  }
  return dropped;
}
