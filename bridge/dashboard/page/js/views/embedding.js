// The reduced space, live.

import { readable, shadeOf, simulationColours, versionName } from "../embedding/colouring.js";
import { Controls } from "../embedding/controls.js";
import { marksOf } from "../embedding/decisions.js";
import { Figure } from "../embedding/figure.js";
import { Legend, Strip } from "../embedding/legend.js";
import { Points } from "../embedding/points.js";
import { spacesOf } from "../embedding/spaces.js";
import { memory } from "../state.js";
import { numbersOf, scaled, shownOf, valueOf, withUnit } from "../plots/columns.js";
import { onTheme, PAPER } from "../plots/theme.js";
import { exportButtons, saveCsv, saveFrames, savePng } from "./export.js";

const EVERY = 0.1;
const MOST_CHOSEN = 1000;
const MARKS_EVERY = 1000;

export function mount(root, context) {
  const { store, ui } = context;
  let view = null;
  const begin = () => {
    const run = store.get("run");
    const spaces = run && spacesOf(run);
    if (view) {
      view.columns(run);
      return;
    }
    if (!spaces?.length) {
      root.replaceChildren(ui.blank("No reduced space yet", run
        ? "No pipeline of this run has published two numbers for a frame. They are shown here as soon as they come."
        : "Waiting for the run."));
      return;
    }
    root.replaceChildren();
    view = new EmbeddingView(root, context, run);
  };
  const ends = [store.on("run", begin)];
  begin();
  return {
    unmount() {
      for (const end of ends) end();
      view?.close();
    },
    resize: () => view?.figure.resize(),
  };
}

class EmbeddingView {
  #subscription = null;
  #ranges = {};
  #newest = new Map();
  #marked = 0;
  #marksTimer = 0;
  #versions = "";

  constructor(root, context, run) {
    Object.assign(this, { root, context, run });
    const { ui, store } = context;
    this.points = new Points();
    this.key = `embedding.${run.name ?? ""}`;
    this.config = {
      x: null, y: null, colour: ":time", mode: "points", size: 2, translucent: false, map: "viridis",
      limit: 100_000, dim: false, heads: true, decisions: false, region: "box", ...memory.get(this.key, {}),
    };
    this.spaces = spacesOf(run);
    const known = new Set(numbersOf(run.columns).map((one) => one.text));
    if (!known.has(this.config.x) || !known.has(this.config.y)) [this.config.x, this.config.y] = [this.spaces[0].x, this.spaces[0].y];
    if (!this.config.colour.startsWith(":") && !known.has(this.config.colour)) this.config.colour = ":time";
    this.figure = new Figure(ui, this.points, {
      describe: (i) => this.#describe(i),
      pick: (i, more) => this.#choose([i], more),
      region: (list, more) => this.#choose(list, more, true),
      next: (by) => this.#next(by),
      densityTable: (theme) => readable(this.config.map, theme),
      shade: (theme) => this.#shade(theme),
    });
    this.#build();
    this.#apply();
    this.ends = [
      onTheme(() => {
        this.#heads();
        this.figure.themed();
      }),
      store.on("frames", () => this.#chosen()),
      store.on("simulation", () => this.figure.drawOver()),
      context.ledger?.on(() => this.#marks()) ?? (() => {}),
    ];
    this.#subscribe();
  }

  close() {
    this.#subscription?.close();
    clearTimeout(this.#marksTimer);
    for (const end of this.ends) end();
    this.figure.close();
  }

  // -- parts of the view -------------------------------------------------------------------------

  #build() {
    const { ui } = this.context;
    const { h } = ui;
    const { config } = this;
    this.controls = new Controls(ui, config, {
      space: (k) => { if (this.spaces[k]) this.#space(this.spaces[k].x, this.spaces[k].y); },
      axes: (x, y) => this.#space(x ?? config.x, y ?? config.y),
      set: (changed) => this.#set(changed),
      fit: () => this.figure.fit(),
    });
    this.#choices();
    // Not read aloud at each change, of which there are ten a second.
    this.count = h("span", { class: "emb-count", testid: "embedding-count" });
    this.strip = new Strip(ui);
    this.legend = new Legend(ui, () => {
      this.#shown();
      this.#heads();
      this.#counted();
      this.figure.later();
    });
    this.readout = h("div", { class: "emb-readout", role: "status", "aria-live": "polite", testid: "embedding-readout" });
    this.chosenBar = h("div", { class: "emb-chosen", testid: "embedding-chosen" });
    const keys = h("p", { id: "emb-keys", class: "emb-keys" },
      "Wheel or + and − zoom, drag or arrows move, double click or 0 shows all. Click chooses a frame, Shift and drag a region, . and , the next and previous frame.");
    const panel = ui.panel("Embedding", { testid: "embedding-panel", class: "emb-panel", actions: [this.count, exportButtons(ui, "embedding", {
      png: () => this.#png(), csv: () => this.#csv(),
    })] });
    this.empty = h("p", { class: "emb-empty", testid: "embedding-empty" }, "No points yet.");
    this.figure.element.append(this.empty);
    panel.body.append(this.controls.element, h("div", { class: "emb-middle" }, this.figure.element, this.legend.element), this.strip.element,
      h("div", { class: "emb-foot" }, this.readout, this.chosenBar), keys);
    this.root.append(panel);
    this.#chosen();
  }

  #choices() {
    this.controls.choices(this.run.columns, this.spaces, this.config);
  }

  /** The run has said more of itself: new columns become choices. */
  columns(run) {
    const text = JSON.stringify([run?.columns, run?.maps]);
    if (!run || text === this.columnsText) return;
    this.columnsText = text;
    this.run = run;
    this.spaces = spacesOf(run);
    this.#choices();
    this.#axes();
  }

  // -- settings ----------------------------------------------------------------------------------

  #space(x, y) {
    Object.assign(this.config, { x, y });
    this.#choices();
    this.#set({ x, y });
  }

  #set(changed) {
    const { config } = this;
    const asked = ["x", "y", "limit"].some((name) => name in changed) || ("colour" in changed && (!changed.colour.startsWith(":") || !config.colour.startsWith(":")));
    Object.assign(config, changed);
    memory.set(this.key, config);
    this.#apply();
    if (asked) this.#subscribe();
    else {
      this.#heads();
      this.#marks(true);
      this.figure.draw();
    }
    this.#legends();
  }

  #apply() {
    const { config, figure } = this;
    Object.assign(figure.style, { mode: config.mode, size: config.size, opacity: config.translucent ? 0.3 : 1, dim: config.dim });
    figure.regionKind = config.region;
    figure.selecting = Boolean(config.selecting);
    this.#axes();
  }

  #axes() {
    const { config, figure, run } = this;
    const space = this.spaces.find((one) => one.x === config.x && one.y === config.y);
    const axis = (name, k) => {
      const shown = shownOf(run.columns, name);
      // A map in degrees says so of columns whose unit nobody has declared.
      const turns = Boolean(space?.degrees) && shown.unit !== "deg" && shown.unit !== "°";
      const { unit, factor } = turns ? { unit: "°", factor: 180 / Math.PI } : shown;
      const whole = Boolean(space?.degrees) || (unit === "°" && /phi|psi|omega|chi|dihedral|torsion/i.test(name));
      const title = space?.labels?.[k] || name;
      return {
        // Labels of a map say their unit themselves, as those of its plots do.
        title: /\/|°/.test(title) ? title : withUnit(title, unit),
        unit,
        factor,
        limits: whole ? [-180 / factor, 180 / factor] : null,
      };
    };
    figure.axes = { x: axis(config.x, 0), y: axis(config.y, 1) };
    figure.canvas.setAttribute(
      "aria-label",
      `Points of the reduced space, ${figure.axes.y.title} against ${figure.axes.x.title}`,
    );
    // Versions are aligned with the one before; which one the axes are of is said all the same.
    const { newest } = this.points;
    if (newest > 1) for (const one of Object.values(figure.axes)) one.title += ` (${versionName(newest)})`;
  }

  // -- data --------------------------------------------------------------------------------------

  #subscribe() {
    this.#subscription?.close();
    this.points.clear();
    this.#ranges = {};
    this.figure.fit();
    const { x, y, colour, limit } = this.config;
    const options = { x, y, colour: colour.startsWith(":") ? "time" : colour, limit, simulations: null };
    this.#subscription = this.context.connection.subscribe("points", options, (message) => this.#take(message), {
      every: EVERY, onError: (sentence) => this.context.ui.put(this.readout, sentence),
    });
  }

  #take({ meta, arrays, first: fresh }) {
    const { points, figure } = this;
    const base = points.base;
    const reset = fresh || meta.reset !== false;
    // Of a moment of the past, versions that came later are unknown yet.
    const { at } = this.context.connection;
    const made = at === null ? meta.versions : meta.versions?.filter((one) => one.stamp <= at);
    const first = points.take({ ...meta, versions: made, reset }, arrays, this.config.limit);
    const from = points.base === base ? first : 0;
    if (reset) this.#ranges = {};
    for (const name of ["time", "stamp", "colour"]) {
      const range = points.range(name, from);
      this.#ranges[name] = merged(this.#ranges[name], range);
    }
    const versions = points.versions.map((one) => one.version).join();
    if (versions !== this.#versions) {
      this.#versions = versions;
      this.#axes();
      this.#strip();
    }
    figure.grow(from);
    this.#shown();
    this.#heads(from);
    if (framesOf(this.context).length) this.#locate(from);
    this.#marks();
    figure.draw();
    this.#counted();
    this.#legends();
  }

  #counted() {
    const { format, put } = this.context.ui;
    const { points } = this;
    const { total, meta: { sampled = false, stride = 1 } } = points;
    const partly = sampled || points.cut;
    const text = partly
      ? `${format.integer(points.n)} of ${format.integer(total)} points${stride > 1 ? ` (1 in ${format.integer(stride)})` : ""}`
      : `${format.integer(points.n)} ${points.n === 1 ? "point" : "points"}`;
    const hidden = this.legend.hidden.size;
    put(this.count, hidden ? `${text}, ${format.integer(hidden)} ${hidden === 1 ? "simulation" : "simulations"} hidden` : text);
    this.empty.hidden = points.n > 0;
    this.count.dataset.sampled = String(partly);
    this.count.title = partly ? "Sampled: not every frame is drawn. “Points at most” is among the options." : "Every frame is drawn.";
  }

  #shade(theme) {
    const { run, points, config } = this;
    return shadeOf(config.colour, {
      points, theme, ui: this.context.ui, ranges: this.#ranges, map: config.map, columns: run.columns,
      timeUnit: points.meta.time_unit ?? run.time_unit ?? "",
    });
  }

  // Which simulations are drawn; null for all.
  #shown() {
    const { figure, points } = this;
    const names = points.meta.simulations ?? [];
    figure.shown = this.legend.hidden.size ? Uint8Array.from({ length: Math.max(1, names.length) }, (_, i) => (this.legend.hidden.has(names[i]) ? 0 : 1)) : null;
  }

  // The newest point of each simulation.
  #heads(from = 0) {
    const { points, figure } = this;
    if (from === 0) this.#newest.clear();
    const stamps = points.has.stamp ? points.stamp : points.time;
    for (let i = from; i < points.n; i += 1) {
      const before = this.#newest.get(points.simulation[i]);
      if (before === undefined || !(stamps[i] < stamps[before])) this.#newest.set(points.simulation[i], i);
    }
    const colours = simulationColours(this.context.ui, points.meta.simulations ?? [], figure.theme ?? PAPER);
    figure.heads = this.config.heads && this.config.mode === "points"
      ? [...this.#newest].filter(([number]) => !figure.shown || figure.shown[number]).map(([number, i]) => ({ i, colour: colours[number] }))
      : [];
  }

  #marks(now = false) {
    const { config, figure, points, context } = this;
    if (!config.decisions || !context.ledger) {
      figure.marks = [];
      return;
    }
    const wait = this.#marked + MARKS_EVERY - Date.now();
    if (!now && wait > 0) {
      this.#marksTimer ||= setTimeout(() => {
        this.#marksTimer = 0;
        this.#marks(true);
      }, wait);
      return;
    }
    this.#marked = Date.now();
    figure.marks = marksOf(context.ledger.lines, points, context.ui.format);
    figure.drawOver();
  }

  // -- chosen frames -----------------------------------------------------------------------------

  #choose(list, more, region = false) {
    const { points, context } = this;
    const taken = list.filter((i) => points.offset[i] >= 0);
    if (list.length && !taken.length) {
      context.ui.put(this.readout, "This point's frame is no longer there: its simulation began anew.");
      return;
    }
    const part = taken.length > MOST_CHOSEN ? taken.filter((_, k) => Math.floor((k * MOST_CHOSEN) / taken.length) !== Math.floor(((k - 1) * MOST_CHOSEN) / taken.length)) : taken;
    if (part.length < taken.length) context.ui.toast(`${context.ui.format.integer(part.length)} of the ${context.ui.format.integer(taken.length)} frames in the region were chosen, evenly.`);
    const frames = part.map((i) => ({ simulation: points.name(i), offset: points.offset[i] }));
    const before = more ? framesOf(context) : [];
    const known = new Set(before.map((one) => `${one.offset} ${one.simulation}`));
    context.store.set("frames", [...before, ...frames.filter((one) => !known.has(`${one.offset} ${one.simulation}`))]);
    if (frames.length) context.store.set("simulation", frames[0].simulation);
    const { put } = context.ui;
    if (list.length === 1) put(this.readout, this.#describe(taken[0]).join(" · "));
    else if (region && list.length) put(this.readout, `${context.ui.format.integer(list.length)} points in the region.`);
    else put(this.readout, "");
  }

  // The frame after or before the one that is chosen, in its simulation.
  #next(by) {
    const { points } = this;
    const chosen = framesOf(this.context).at(-1);
    if (!chosen) return;
    const number = points.meta.simulations?.indexOf(chosen.simulation) ?? -1;
    let best = -1;
    for (let i = 0; i < points.n; i += 1) {
      if (points.simulation[i] !== number) continue;
      const far = (points.offset[i] - chosen.offset) * by;
      if (far > 0 && (best < 0 || far < (points.offset[best] - chosen.offset) * by)) best = i;
    }
    if (best >= 0) this.#choose([best], false);
  }

  #locate(from = 0) {
    const { figure, points } = this;
    const found = points.find(framesOf(this.context), from);
    figure.chosen = from === 0 ? found : figure.chosen.concat(found);
  }

  #chosen() {
    const { context } = this;
    const { ui } = context;
    const frames = framesOf(context);
    this.#locate();
    if (this.figure.width) this.figure.drawOver();
    this.chosenBar.replaceChildren();
    if (!frames.length) return;
    const save = (format) => async () => {
      try {
        await saveFrames(frames, format);
      } catch (error) {
        ui.toast(error.message, { level: "error" });
      }
    };
    this.chosenBar.append(
      ui.h("span", { testid: "embedding-chosen-count" }, `${ui.format.integer(frames.length)} ${frames.length === 1 ? "frame" : "frames"} chosen`),
      ui.h("a", { class: "button primary", href: "#/molecule", testid: "embedding-show-molecule" }, "Show molecule"),
      ui.button("PDB", save("pdb"), { kind: "quiet", testid: "embedding-save-pdb", title: "Save these frames as PDB" }),
      ui.button("XTC", save("xtc"), { kind: "quiet", testid: "embedding-save-xtc", title: "Save these frames as XTC" }),
      ui.button("Clear", () => this.#choose([], false), { kind: "quiet", testid: "embedding-clear" }));
  }

  // -- words -------------------------------------------------------------------------------------

  #describe(i) {
    const { points, config, run, context } = this;
    const { format } = context.ui;
    const lines = [points.name(i)];
    if (Number.isFinite(points.step[i])) lines.push(`step ${format.integer(points.step[i])}${points.offset[i] >= 0 ? `, frame ${format.integer(points.offset[i])}` : ""}`);
    else if (points.offset[i] >= 0) lines.push(`frame ${format.integer(points.offset[i])}`);
    if (Number.isFinite(points.time[i])) lines.push(format.time(points.time[i], points.meta.time_unit ?? run.time_unit ?? ""));
    const { x, y } = this.figure.axes;
    lines.push(`${config.x} ${valueOf(format, points.x[i], x)}, ${config.y} ${valueOf(format, points.y[i], y)}`);
    if (!config.colour.startsWith(":")) lines.push(`${config.colour} ${valueOf(format, points.colour[i], shownOf(run.columns, config.colour))}`);
    if (points.has.stamp) lines.push(format.clock((points.meta.stamp0 ?? 0) + points.stamp[i]));
    if (points.newest > 0) {
      const old = points.version[i] < points.newest ? ` (newest is ${versionName(points.newest)})` : "";
      lines.push(`model ${versionName(points.version[i])}${old}`);
    }
    return lines;
  }

  #strip() {
    const { points } = this;
    const newest = (points.meta.stamp0 ?? 0) + (this.#ranges.stamp?.[1] ?? 0);
    this.strip.show(points.versions, newest);
  }

  #legends() {
    const { config, figure } = this;
    this.legend.show(config.mode === "points" ? figure.shade?.classes : null, config.colour === ":simulation");
  }

  // -- files -------------------------------------------------------------------------------------

  async #png() {
    const { figure, run, config } = this;
    const classes = config.mode === "points" ? figure.shade?.classes ?? [] : [];
    await savePng({
      name: `${run.name ?? "run"}-${config.x}-${config.y}`,
      title: run.title || run.name || "Embedding",
      subtitle: `${this.count.textContent}, ${config.mode === "density" ? "density" : `colour: ${config.colour.replace(":", "")}`}`,
      legend: classes.slice(0, 24).map(({ name, colour }) => ({ label: name, colour })),
      draw: (theme) => figure.picture(theme),
      element: figure.element,
    });
  }

  async #csv() {
    const { points, config, run } = this;
    const { n } = points;
    const { x, y } = this.figure.axes;
    const column = (name) => points[name].subarray(0, n);
    const columns = [
      ["simulation", Array.from({ length: n }, (_, i) => points.name(i))],
      ["offset", column("offset")],
      ["step", column("step")],
      [withUnit("time", points.meta.time_unit ?? run.time_unit ?? ""), column("time")],
      ["unix_time", Array.from(column("stamp"), (value) => value + (points.meta.stamp0 ?? 0))],
      [withUnit(config.x, x.unit), scaled(column("x"), x.factor)],
      [withUnit(config.y, y.unit), scaled(column("y"), y.factor)],
    ];
    if (!config.colour.startsWith(":")) {
      const { unit, factor } = shownOf(run.columns, config.colour);
      columns.push([withUnit(config.colour, unit), scaled(column("colour"), factor)]);
    }
    if (points.newest > 0) columns.push(["model_version", column("version")]);
    await saveCsv(`${run.name ?? "run"}-${config.x}-${config.y}`, columns);
  }
}

function merged(before, range) {
  if (!range) return before;
  return before ? [Math.min(before[0], range[0]), Math.max(before[1], range[1])] : range;
}

function framesOf({ store }) {
  return store.get("frames") ?? [];
}
