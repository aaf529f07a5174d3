// Histogram panels: one column as steps, two as a map; how often, or as free energy.

import { columnPicker, shownOf, unitOf, withUnit } from "../plots/columns.js";
import { HEIGHT, paintMap, paintSteps, placeOf, readGrid } from "../plots/histogram_paint.js";
import { simulationPicker } from "../plots/simulation_picker.js";
import { label, onTheme, themeOf } from "../plots/theme.js";
import { exportButtons, saveCsv, savePng } from "./export.js";

const BINS = [24, 36, 60, 90, 120, 180];
/** Frames from which on so many bins are worth it on a map, or three times as many frames on a curve. */
const WORTH = [[0, 24], [2_000, 36], [10_000, 60], [50_000, 90], [250_000, 120]];
const DEGREES = 180 / Math.PI;
const TURN = [-180, -120, -60, 0, 60, 120, 180];

/** One panel. `config`: {x, y, bins, kind, temperature, degrees, simulations, from}. */
export class HistogramPanel {
  constructor(config, shared, parent) {
    this.config = config;
    this.shared = shared;
    this.ui = shared.context.ui;
    this._message = null;
    this._at = null;
    this._subscription = null;
    this._build();
    parent.append(this.element);
    this._offTheme = onTheme(() => this._draw());
    this._observer = new ResizeObserver(() => this._draw());
    this._observer.observe(this._host);
    this.subscribe();
  }

  close() {
    this._subscription?.close();
    this._offTheme();
    this._observer.disconnect();
    this.element.remove();
  }

  extent() {
    return null;
  }

  later() {}

  /** Ask for the histogram anew. */
  subscribe() {
    this._subscription?.close();
    this._subscription = null;
    this._message = null;
    const { config } = this;
    this.element.setTitle(this._title());
    this._temperatureBox.hidden = config.kind !== "free_energy";
    if (config.x && !(config.kind === "free_energy" && !this._temperature())) {
      const options = {
        x: config.x,
        y: config.y || null,
        bins: this._bins(),
        kind: config.kind ?? "counts",
        range: this._range(),
        temperature: this._temperature(),
        simulations: config.from ? null : this.shared.simulations(config),
      };
      if (config.from) options.run = config.from;
      this._subscription = this.shared.context.connection.subscribe(
        "histogram",
        options,
        (message) => {
          this._message = message;
          this._draw();
          this._refine();
        },
        { every: 1, onError: (sentence) => this._say(sentence) },
      );
    }
    this._draw();
  }

  // ------------------------------------------------------------------ page

  _build() {
    const { h } = this.ui;
    const { config } = this;
    const { columns, compare = [] } = this.shared.context.run;
    this._canvas = h("canvas", {
      class: "obs-canvas",
      tabindex: "0",
      role: "img",
      "aria-label": "Histogram, without numbers yet",
      "data-testid": "histogram-plot",
    });
    this._host = h("div", { class: "obs-plot" }, this._canvas);
    this._readout = h("p", { class: "obs-note", role: "status", "data-testid": "histogram-readout" });
    this._note = h("p", { class: "obs-note", "data-testid": "histogram-note" });
    const pick = (key, text, optional) =>
      columnPicker(this.ui, {
        columns, label: text, value: config[key] ?? "", testid: `histogram-${key}`, optional,
        onPick: (value) => this._change({ [key]: value || null }),
      });
    const choice = (name, testid, options, value, onPick) =>
      this.ui.select(name, options.map(([key, text]) => ({ value: key, label: text })), value, onPick, { testid });
    this._degrees = h("input", { type: "checkbox", "data-testid": "histogram-degrees" });
    this._degrees.checked = this._isDegrees();
    this._degrees.addEventListener("change", () => this._change({ degrees: this._degrees.checked }));
    const kelvin = h("input", {
      type: "number", min: "1", step: "any", class: "obs-number", "aria-label": "Temperature in kelvin",
      "data-testid": "histogram-temperature", placeholder: "T",
      value: this._temperature() ? String(this._temperature()) : "",
    });
    kelvin.addEventListener("change", () => this._change({ temperature: Number(kelvin.value) || null }));
    this._temperatureBox = h("label", { class: "obs-check" }, kelvin, "K");
    this.element = this.ui.panel(this._title(), {
      testid: "histogram-panel",
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
        pick("x", "x column", false),
        pick("y", "y column (none: 1-D)", true),
        choice(
          "What is shown", "histogram-kind",
          [["counts", "counts"], ["free_energy", "free energy"]],
          config.kind ?? "counts", (kind) => this._change({ kind }),
        ),
        this._temperatureBox,
        choice(
          "Bins", "histogram-bins", [[0, "bins: by need"], ...BINS.map((n) => [n, `${n} bins`])],
          config.bins ?? 0, (bins) => this._change({ bins: Number(bins) || null }),
        ),
        h("label", { class: "obs-check" }, this._degrees, "degrees"),
        simulationPicker(this.shared, config, (change) => this._change(change)),
        ...(compare.length
          ? [choice(
              "Run", "histogram-run",
              [["", "this run"], ...compare.map((run) => [run.name, run.name])],
              config.from ?? "", (from) => this._change({ from: from || null }),
            )]
          : []),
      ),
      this._host,
      this._readout,
      this._note,
    );
    this._canvas.addEventListener("pointermove", (event) => this._point(event));
    this._canvas.addEventListener("pointerleave", () => this._look(null));
    this._canvas.addEventListener("keydown", (event) => this._key(event));
  }

  _change(change) {
    Object.assign(this.config, change);
    this._degrees.checked = this._isDegrees();
    this.shared.save();
    this.subscribe();
  }

  _title() {
    const { x, y, title } = this.config;
    return title && this._map() ? title : y ? `${x} and ${y}` : x || "no column yet";
  }

  _temperature() {
    return this.config.temperature ?? this.shared.context.run.temperature ?? null;
  }

  /** The map of the run's report with the same columns. */
  _map() {
    const { x, y } = this.config;
    return (this.shared.context.run.maps ?? []).find((map) => map.x === x && map.y === y) ?? null;
  }

  /** Maps of the run's report that have a column, the one with both columns of the panel first. */
  _mapsOf(column) {
    const all = this.shared.context.run.maps ?? [];
    const own = this._map();
    return [own, ...all.filter((map) => map !== own)].filter((map) => map?.x === column || map?.y === column);
  }

  /** Bounds of the target along an axis, in the unit that is shown; null without. */
  _target(column) {
    for (const map of this._mapsOf(column)) {
      const bounds = map.x === column ? map.target_x : map.target_y;
      // Those of a map in degrees are in degrees, others in the unit of the column.
      const scale = (this._isDegrees() ? DEGREES : 1) / (map.degrees ? DEGREES : 1);
      if (bounds) return bounds.map((v) => v * scale);
    }
    return null;
  }

  /** Bins along each axis: as chosen, else by how many frames there are to fill them. */
  _bins() {
    if (this.config.bins) return this.config.bins;
    const total = (this._message?.meta.total ?? this._total ?? 10_000) * (this.config.y ? 1 : 3);
    return WORTH.filter(([from]) => total >= from).at(-1)[1];
  }

  _refine() {
    this._total = this._message.meta.total;
    const bins = this._bins();
    if (!this.config.bins && bins !== this._message.arrays.x_edges.length - 1) this._subscription?.update({ bins });
  }

  _isDegrees() {
    if (this.config.degrees !== undefined && this.config.degrees !== null) return this.config.degrees;
    const map = this._map() ?? (this.config.y ? null : this._mapsOf(this.config.x)[0]);
    const { columns } = this.shared.context.run;
    // Both axes are shown in the same unit.
    const both = [this.config.x ?? "", ...(this.config.y ? [this.config.y] : [])];
    return Boolean(map?.degrees) || both.every((column) => unitOf(columns, column) === "rad");
  }

  _range() {
    if (this.config.range) return this.config.range;
    if (!this._isDegrees()) return null;
    const turn = [-Math.PI, Math.PI];
    return this.config.y ? [turn, turn] : turn;
  }

  // ------------------------------------------------------------------ plot

  _draw() {
    const ratio = devicePixelRatio || 1;
    const width = Math.max(280, this._host.clientWidth || 480);
    const canvas = this._canvas;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(HEIGHT * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${HEIGHT}px`;
    this._paint(canvas.getContext("2d"), ratio, width, themeOf(this._host));
    this._tell();
  }

  _paint(ctx, ratio, width, theme) {
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, width, HEIGHT);
    this._grid = this._message ? readGrid(this._message, this._isDegrees() ? DEGREES : 1) : null;
    if (!this._grid) return;
    const { x, y } = this._grid;
    const box = placeOf(this._grid, width, this._isDegrees());
    const axes = { x: this._axis(this.config.x, x), y: y ? this._axis(this.config.y, y) : null };
    const targets = { x: this._target(this.config.x), y: y ? this._target(this.config.y) : null };
    this._box = box;
    (y ? paintMap : paintSteps)(ctx, box, this._grid, axes, targets, theme);
    this._cross(ctx, theme);
  }

  /** The unit that a column is shown in. */
  _unit(column) {
    if (this._isDegrees()) return "°";
    const { columns } = this.shared.context.run;
    return unitOf(columns, column) === "rad" ? "rad" : shownOf(columns, column).unit;
  }

  _axis(column, edges) {
    const degrees = this._isDegrees();
    const unit = this._unit(column);
    const map = this._map();
    const named = map?.labels ? (column === map.x ? map.labels[0] : map.labels[1]) : null;
    return {
      low: edges[0],
      high: edges.at(-1),
      title: named ?? withUnit(column, unit),
      ticks: degrees && edges[0] <= -179 && edges.at(-1) >= 179 ? TURN : undefined,
    };
  }

  // ------------------------------------------------------------------ looking closer

  _point(event) {
    const grid = this._grid;
    if (!grid) return;
    const edge = this._canvas.getBoundingClientRect();
    const across = (event.clientX - edge.left - this._box.left) / this._box.width;
    const up = 1 - (event.clientY - edge.top - this._box.top) / this._box.height;
    const inside = across >= 0 && across < 1 && up >= 0 && up < 1;
    const count = (edges) => edges.length - 1;
    this._look(
      inside
        ? [Math.floor(across * count(grid.x)), grid.y ? Math.floor(up * count(grid.y)) : 0]
        : null,
    );
  }

  _key(event) {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!by || !this._grid) return;
    event.preventDefault();
    event.stopPropagation();
    const { x, y } = this._grid;
    const [i, j] = this._at ?? [(x.length - 1) >> 1, y ? (y.length - 1) >> 1 : 0];
    const clamp = (v, edges) => Math.min(edges.length - 2, Math.max(0, v));
    this._look([clamp(i + by[0], x), y ? clamp(j + by[1], y) : 0]);
  }

  _look(at) {
    if (String(at) === String(this._at)) return;
    this._at = at;
    this._draw();
  }

  _cross(ctx, theme) {
    const { x, y, values, meta } = this._grid;
    if (!this._at || this._at[0] >= x.length - 1) {
      this._readout.textContent = "";
      return;
    }
    const [i, j] = this._at;
    const { left, top, width, height } = this._box;
    const wide = width / (x.length - 1);
    const high = y ? height / (y.length - 1) : height;
    ctx.strokeStyle = theme.text;
    ctx.lineWidth = 1.5;
    ctx.strokeRect(left + i * wide, y ? top + height - (j + 1) * high : top, wide, high);
    const span = (edges, k, column) => {
      const unit = this._unit(column);
      const [from, to] = [label(edges[k]), label(edges[k + 1])];
      return unit === "°" ? `${from}° to ${to}°` : `${from} to ${to}${unit && ` ${unit}`}`;
    };
    const value = y ? values[i * (y.length - 1) + j] : values[i];
    const said = Number.isNaN(value)
      ? "not visited"
      : meta.kind === "free_energy" ? `${value.toFixed(2)} kJ/mol` : `${value} frames`;
    const across = `${this.config.x} ${span(x, i, this.config.x)}`;
    const place = y ? `${across}, ${this.config.y} ${span(y, j, this.config.y)}` : across;
    this._readout.textContent = `${place}: ${said}`;
  }

  _say(sentence) {
    this._note.textContent = sentence;
  }

  _tell() {
    const { config } = this;
    if (!config.x) return this._say("Choose a column to see how often each value came.");
    if (config.kind === "free_energy" && !this._temperature()) {
      return this._say("The run does not say its temperature: type it, in kelvin, to see the free energy.");
    }
    if (!this._grid) return this._say("No rows yet.");
    const { meta, values } = this._grid;
    const words = [`${this.ui.format.integer(meta.total ?? 0)} frames.`];
    if (meta.outside) words.push(`${this.ui.format.integer(meta.outside)} lie outside the axes.`);
    if (meta.sampled) words.push("Made from a sample of the frames.");
    if (meta.kind === "free_energy") words.push(`−RT ln p at ${meta.temperature ?? this._temperature()} K, its least value set to 0.`);
    else if (this._grid.log && this._grid.y) words.push("Colours are logarithmic.");
    this._say(words.join(" "));
    this._canvas.dataset.total = String(meta.total ?? 0);
    this._canvas.dataset.bins = String(values.length);
    this._canvas.setAttribute(
      "aria-label",
      `Histogram of ${this._title()}, ${meta.total ?? 0} frames. Arrow keys move from bin to bin.`,
    );
  }

  // ------------------------------------------------------------------ files

  _png() {
    const { run } = this.shared.context;
    const picture = (theme) => {
      const copy = document.createElement("canvas");
      copy.width = this._canvas.width;
      copy.height = this._canvas.height;
      const ratio = devicePixelRatio || 1;
      const at = this._at;
      this._at = null;
      this._paint(copy.getContext("2d"), ratio, copy.width / ratio, theme);
      this._at = at;
      return copy;
    };
    return savePng({
      name: `${run.name}-${this._title()}`,
      title: this._title(),
      subtitle: this._note.textContent,
      element: this._host,
      draw: picture,
    });
  }

  _csv() {
    if (!this._grid) throw new Error("there is nothing yet.");
    const { x, y, values, meta } = this._grid;
    const rows = { x0: [], x1: [], y0: [], y1: [], value: [] };
    values.forEach((value, at) => {
      const i = y ? Math.floor(at / (y.length - 1)) : at;
      const j = y ? at % (y.length - 1) : 0;
      rows.x0.push(x[i]);
      rows.x1.push(x[i + 1]);
      if (y) {
        rows.y0.push(y[j]);
        rows.y1.push(y[j + 1]);
      }
      rows.value.push(value);
    });
    const head = (column, end) => withUnit(`${column} ${end}`, this._unit(column));
    return saveCsv(`${this.shared.context.run.name}-${this._title()}`, [
      [head(this.config.x, "from"), rows.x0],
      [head(this.config.x, "to"), rows.x1],
      ...(y ? [[head(this.config.y, "from"), rows.y0], [head(this.config.y, "to"), rows.y1]] : []),
      [meta.kind === "free_energy" ? "free energy / kJ/mol" : "frames", rows.value],
    ]);
  }
}
