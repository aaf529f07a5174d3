// The view of observables: panels of time series and histograms, as many as wanted, remembered.

import { numbersOf } from "../plots/columns.js";
import { SeriesPanel } from "../plots/series_panel.js";
import { memory } from "../state.js";
import { HistogramPanel } from "./histograms.js";
import { backgroundChoice } from "./export.js";

const FIRST = 12;

/** What all panels have in common: the x axis, its range, and what is remembered. */
class Shared {
  constructor(context, view) {
    this.context = context;
    this._view = view;
    this._range = null;
  }

  x() {
    return this._view.config.x;
  }

  /** The x axis as the server knows it. */
  wire() {
    return this.x() === "elapsed" ? "wall" : this.x();
  }

  /** What to take from x: the start of a run where the axis is the time since then. */
  begun(run) {
    if (this.x() !== "elapsed") return 0;
    const other = (this.context.run.compare ?? []).find((one) => one.name === run);
    return (run ? other?.started : this.context.run.started) ?? 0;
  }

  xTitle() {
    const unit = this.context.run.time_unit;
    return {
      time: unit ? `simulated time / ${unit}` : "simulated time",
      wall: "wall time",
      elapsed: "since the start of the run / s",
      step: "step",
    }[this.x()];
  }

  /** Names that a panel shows: those that were ticked, else the first ones. */
  simulations(config) {
    const all = this.context.run.simulations ?? [];
    if (!config.simulations) return all.slice(0, FIRST);
    return all.filter((name) => config.simulations.includes(name));
  }

  range() {
    return this._range;
  }

  extent() {
    const all = this._view.panels.map((panel) => panel.extent()).filter(Boolean);
    if (!all.length) return null;
    return [Math.min(...all.map((e) => e[0])), Math.max(...all.map((e) => e[1]))];
  }

  setRange(range) {
    this._range = range;
    this._view.showRange();
    this.later();
  }

  zoom(factor) {
    const range = this._range ?? this.extent();
    if (!range) return;
    const middle = (range[0] + range[1]) / 2;
    const half = ((range[1] - range[0]) / 2) * factor;
    const whole = this.extent();
    const wide = whole && middle - half <= whole[0] && middle + half >= whole[1];
    this.setRange(wide ? null : [middle - half, middle + half]);
  }

  later() {
    for (const panel of this._view.panels) panel.later();
  }

  save() {
    this._view.save();
  }

  remove(panel) {
    this._view.remove(panel);
  }
}

class Observables {
  constructor(root, context) {
    this.context = context;
    this.panels = [];
    this._key = `observables.${context.run?.name ?? ""}`;
    this.config = memory.get(this._key) ?? null;
    if (!this.config || !Array.isArray(this.config.panels)) {
      this.config = { x: "time", panels: defaults(context.run) };
    }
    this.shared = new Shared(context, this);
    this._build(root);
    for (const config of this.config.panels) this._add(config);
  }

  unmount() {
    for (const panel of this.panels) panel.close();
    this.panels = [];
  }

  save() {
    this.config.panels = this.panels.map((panel) => panel.config);
    memory.set(this._key, this.config);
  }

  remove(panel) {
    panel.close();
    this.panels = this.panels.filter((other) => other !== panel);
    this.save();
    this._none.hidden = this.panels.length > 0;
  }

  showRange() {
    this._all.disabled = this.shared.range() === null;
  }

  _build(root) {
    const { h } = this.context.ui;
    const button = (text, testid, action, label = text) =>
      this.context.ui.button(text, action, { testid, "aria-label": label, title: label });
    const axis = this.context.ui.select(
      "What runs along x",
      [
        { value: "time", label: "simulated time" },
        { value: "wall", label: "wall time" },
        { value: "elapsed", label: "time since the start" },
        { value: "step", label: "step" },
      ],
      this.config.x,
      (value) => this._changeAxis(value),
      { testid: "series-x" },
    );
    this._all = button("Show all", "series-reset", () => this.shared.setRange(null), "Show the whole range and follow the run");
    this._all.disabled = true;
    this._none = h("p", { class: "obs-none", hidden: "" }, "No panels: add one above.");
    this._series = h("div", { class: "obs-stack" });
    this._maps = h("div", { class: "obs-grid" });
    root.append(
      h(
        "div",
        { class: "obs-bar", role: "toolbar", "aria-label": "Observables" },
        button("+ Time series", "add-series", () => this._add({ type: "series", columns: firstColumns(this.context.run), simulations: null }, true)),
        button("+ Histogram", "add-histogram", () => this._add({ type: "histogram", x: firstColumns(this.context.run)[0] ?? null, y: null, simulations: null }, true)),
        h("label", { class: "obs-check" }, "x: ", axis),
        button("−", "zoom-out", () => this.shared.zoom(2), "Zoom out"),
        button("+", "zoom-in", () => this.shared.zoom(0.5), "Zoom in"),
        this._all,
        backgroundChoice(this.context.ui),
      ),
      this._none,
      this._series,
      this._maps,
    );
    this._none.hidden = this.config.panels.length > 0;
  }

  _changeAxis(value) {
    this.config.x = value;
    this.shared.setRange(null);
    this.save();
    for (const panel of this.panels) if (panel instanceof SeriesPanel) panel.subscribe();
  }

  _add(config, asked = false) {
    const panel =
      config.type === "histogram"
        ? new HistogramPanel(config, this.shared, this._maps)
        : new SeriesPanel(config, this.shared, this._series);
    this.panels.push(panel);
    this._none.hidden = true;
    if (asked) {
      this.save();
      panel.element.scrollIntoView({ block: "nearest" });
      panel.element.querySelector("input, select")?.focus({ preventScroll: true });
    }
  }
}

/** What a run shows that nobody has arranged yet. */
function defaults(run) {
  const panels = [];
  const first = firstColumns(run);
  if (first.length) panels.push({ type: "series", columns: first, simulations: null });
  for (const map of (run?.maps ?? []).slice(0, 4)) {
    panels.push({
      type: "histogram", x: map.x, y: map.y, title: map.title || map.name, simulations: null,
      kind: run.temperature ? "free_energy" : "counts",
    });
  }
  if (!run?.maps?.length && first.length) {
    panels.push({ type: "histogram", x: first[0], y: null, simulations: null });
  }
  return panels;
}

function firstColumns(run) {
  // The version of a model says little over time.
  const results = (run?.columns ?? []).filter((c) => c.source !== "frames" && !c.name.endsWith("_version"));
  const plain = results.filter((c) => (c.size ?? 1) === 1 && c.kept !== false);
  const numbers = numbersOf(plain.length ? plain : results.length ? results : run?.columns);
  return numbers.slice(0, 1).map((c) => c.text);
}

/** Show the view in `root`. */
export function mount(root, context) {
  let view = null;
  const begin = () => {
    view?.unmount();
    root.replaceChildren();
    view = new Observables(root, { ...context, run: context.store?.get("run") ?? context.run ?? {} });
  };
  const shape = (run) =>
    JSON.stringify([run?.columns, run?.simulations, run?.maps?.length, run?.compare?.length, run?.started]);
  begin();
  // Columns and simulations come late when the page is opened before the first results.
  let before = shape(context.store?.get("run") ?? context.run);
  const off = context.store?.on("run", (run) => {
    if (shape(run) === before) return;
    before = shape(run);
    begin();
  });
  return {
    unmount() {
      off?.();
      view.unmount();
    },
  };
}
