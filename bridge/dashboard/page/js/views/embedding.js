// The reduced space, live.

import { OWN, readable, shadeOf, simulationColours, versionName } from "../embedding/colouring.js";
import { marksOf } from "../embedding/decisions.js";
import { Figure } from "../embedding/figure.js";
import { Points } from "../embedding/points.js";
import { memory } from "../state.js";
import { numbersOf, unitOf, withUnit } from "../plots/columns.js";
import { onTheme } from "../plots/theme.js";
import { MAP_NAMES } from "../viridis.js";
import { backgroundChoice, exportButtons, saveCsv, saveFrames, savePng } from "./export.js";

const EVERY = 0.1;
const MOST_CHOSEN = 1000;
const MOST_LISTED = 60;
const LIMITS = [20_000, 100_000, 250_000, 500_000];
const MOST_PIECES = 16;
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

/** Pairs of columns that make a map: what the run names first, then whatever has two numbers. */
function spacesOf(run) {
  const spaces = [];
  const add = (title, x, y, more = {}) => {
    if (x && y && !spaces.some((one) => one.x === x && one.y === y)) spaces.push({ title, x, y, ...more });
  };
  const map = (one) => add(one.title || one.name || `${one.x}, ${one.y}`, one.x, one.y, { labels: one.labels, degrees: one.degrees, version: one.version });
  const { embedding } = run;
  if (embedding) map((run.maps ?? []).find((one) => one.x === embedding.x && one.y === embedding.y) ?? embedding);
  for (const one of run.maps ?? []) map(one);
  for (const { name, size = 1 } of run.columns ?? []) if (size >= 2) add(name, `${name}[0]`, `${name}[1]`);
  const numbers = numbersOf(run.columns);
  if (!spaces.length && numbers.length >= 2) add(`${numbers[0].text}, ${numbers[1].text}`, numbers[0].text, numbers[1].text);
  return spaces;
}

class EmbeddingView {
  #subscription = null;
  #hidden = new Set();
  #ranges = {};
  #newest = new Map();
  #marked = 0;
  #marksTimer = 0;
  #versions = "";
  #legend = "";

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
      moved: () => { this.fitButton.disabled = false; },
      densityTable: (theme) => readable(this.config.map, theme),
      shade: (theme) => this.#shade(theme),
    });
    this.#build();
    this.#apply();
    this.ends = [
      onTheme(() => this.figure.themed()),
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
    this.spaceSelect = h("select", { "aria-label": "Map", testid: "embedding-map", onchange: (event) => {
      const space = this.spaces[Number(event.target.value)];
      if (space) this.#space(space.x, space.y);
    } });
    this.xSelect = h("select", { "aria-label": "Horizontal axis", testid: "embedding-x", onchange: (event) => this.#space(event.target.value, config.y) });
    this.ySelect = h("select", { "aria-label": "Vertical axis", testid: "embedding-y", onchange: (event) => this.#space(config.x, event.target.value) });
    this.colourSelect = h("select", { "aria-label": "Colour by", testid: "embedding-colour", onchange: (event) => this.#set({ colour: event.target.value }) });
    this.#choices();
    const check = (label, name, testid, title) => h("label", { class: "emb-check", title },
      h("input", { type: "checkbox", checked: config[name], testid, onchange: (event) => this.#set({ [name]: event.target.checked }) }), label);
    const field = (label, control) => h("label", { class: "emb-field" }, h("span", {}, label), control);
    this.fitButton = ui.button("Fit", () => this.figure.fit(), { kind: "quiet", testid: "embedding-fit", title: "Show everything (0, or a double click)" });
    const controls = h("div", { class: "emb-controls", role: "toolbar", "aria-label": "How points are shown" },
      field("Map", this.spaceSelect),
      field("x", this.xSelect), field("y", this.ySelect),
      field("Colour", this.colourSelect),
      ui.segmented("Shown as", [{ value: "points", label: "Points" }, { value: "density", label: "Density" }], config.mode, (mode) => this.#set({ mode }), { testid: "embedding-mode" }),
      h("details", { class: "emb-more" }, h("summary", { testid: "embedding-more" }, "Options"), h("div", { class: "emb-menu" },
        field("Size", ui.segmented("Size of points", [1, 2, 3].map((value) => ({ value, label: `${value}`, title: `${value} pixels` })), config.size, (size) => this.#set({ size }), { testid: "embedding-size" })),
        field("Colour map", ui.select("Colour map", MAP_NAMES, config.map, (map) => this.#set({ map }))),
        field("Points at most", ui.select("Points at most", LIMITS.map((value) => ({ value, label: ui.format.integer(value) })), config.limit, (limit) => this.#set({ limit: Number(limit) }), { testid: "embedding-limit" })),
        field("Region", ui.segmented("Region", [{ value: "box", label: "Box" }, { value: "lasso", label: "Lasso" }], config.region, (region) => this.#set({ region }), { testid: "embedding-region" })),
        check("Drag chooses frames", "selecting", "embedding-selecting", "As with Shift held down"),
        check("Translucent", "translucent", "embedding-translucent", "Points let others shine through"),
        check("Older versions pale", "dim", "embedding-dim", "Points of older model versions are drawn pale, behind the others"),
        check("Newest of each simulation", "heads", "embedding-heads", "A dot at the newest point of each simulation"),
        check("Decisions", "decisions", "embedding-decisions", "Restarts as triangles, other commands as diamonds"),
        h("label", { class: "emb-check" }, "Pictures ", backgroundChoice(ui)),
      )),
      this.fitButton,
    );
    this.count = h("span", { class: "emb-count", role: "status", testid: "embedding-count" });
    this.strip = h("div", { class: "emb-strip", role: "group", "aria-label": "Model versions", testid: "embedding-versions", hidden: true });
    this.legend = h("div", { class: "emb-legend", role: "group", "aria-label": "Legend", testid: "embedding-legend", hidden: true });
    this.readout = h("div", { class: "emb-readout", role: "status", "aria-live": "polite", testid: "embedding-readout" });
    this.chosenBar = h("div", { class: "emb-chosen", testid: "embedding-chosen" });
    const keys = h("p", { id: "emb-keys", class: "emb-keys" },
      "Wheel or + and − zoom, drag or arrows move, double click or 0 shows all. Click chooses a frame, Shift and drag a region, . and , the next and previous frame.");
    const panel = ui.panel("Embedding", { testid: "embedding-panel", class: "emb-panel", actions: [this.count, exportButtons(ui, "embedding", {
      png: () => this.#png(), csv: () => this.#csv(),
    })] });
    this.empty = h("p", { class: "emb-empty", testid: "embedding-empty" }, "No points yet.");
    this.figure.element.append(this.empty);
    panel.body.append(controls, h("div", { class: "emb-middle" }, this.figure.element, this.legend), this.strip,
      h("div", { class: "emb-foot" }, this.readout, this.chosenBar), keys);
    this.root.append(panel);
    this.#chosen();
  }

  #choices() {
    const { h } = this.context.ui;
    const numbers = numbersOf(this.run.columns);
    const options = (list, value) => list.map((one) => h("option", { value: one.value, selected: one.value === value }, one.label));
    // A map may be known before its columns are.
    for (const text of [this.config.x, this.config.y]) if (!numbers.some((one) => one.text === text)) numbers.push({ text });
    const named = numbers.map((one) => ({ value: one.text, label: one.text }));
    const space = this.spaces.findIndex((one) => one.x === this.config.x && one.y === this.config.y);
    this.spaceSelect.replaceChildren(...options([...this.spaces.map((one, i) => ({ value: String(i), label: one.title })), ...(space < 0 ? [{ value: "-1", label: "own choice" }] : [])], String(space)));
    this.xSelect.replaceChildren(...options(named, this.config.x));
    this.ySelect.replaceChildren(...options(named, this.config.y));
    this.colourSelect.replaceChildren(
      ...options(OWN, this.config.colour),
      h("optgroup", { label: "Results" }, options([...named].sort((a, b) => liking(b.value) - liking(a.value)), this.config.colour)));
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
      const unit = unitOf(run.columns, name);
      const degrees = Boolean(space?.degrees) || (unit === "rad" && /phi|psi|omega|chi|dihedral|torsion/i.test(name));
      const title = space?.labels?.[k] || name;
      const radians = degrees && unit !== "deg" && unit !== "°";
      return {
        title: degrees ? `${title} / °` : withUnit(title, unit),
        factor: radians ? 180 / Math.PI : 1,
        limits: degrees ? (radians ? [-Math.PI, Math.PI] : [-180, 180]) : null,
      };
    };
    figure.axes = { x: axis(config.x, 0), y: axis(config.y, 1) };
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
    const first = points.take({ ...meta, reset }, arrays, this.config.limit);
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
    const partly = sampled || total > points.n;
    const text = partly
      ? `${format.integer(points.n)} of ${format.integer(total)} points${stride > 1 ? ` (1 in ${format.integer(stride)})` : ""}`
      : `${format.integer(points.n)} ${points.n === 1 ? "point" : "points"}`;
    put(this.count, text);
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
    figure.shown = this.#hidden.size ? Uint8Array.from({ length: Math.max(1, names.length) }, (_, i) => (this.#hidden.has(names[i]) ? 0 : 1)) : null;
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
    const colours = simulationColours(this.context.ui, points.meta.simulations ?? []);
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
        await saveFrames(context.api, frames, format);
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
    lines.push(`${config.x} ${format.number(points.x[i] * x.factor, 4)}, ${config.y} ${format.number(points.y[i] * y.factor, 4)}`);
    if (!config.colour.startsWith(":")) lines.push(`${config.colour} ${format.value(points.colour[i], unitOf(run.columns, config.colour))}`);
    if (points.has.stamp) lines.push(format.clock((points.meta.base ?? 0) + points.stamp[i]));
    if (points.newest > 0) {
      const old = points.version[i] < points.newest ? ` (newest is ${versionName(points.newest)})` : "";
      lines.push(`model ${versionName(points.version[i])}${old}`);
    }
    return lines;
  }

  // Versions along the time of the run: each begins where its first points came.
  #strip() {
    const { ui } = this.context;
    const { points, strip } = this;
    const { versions } = points;
    strip.hidden = !versions.some((one) => one.version > 0);
    if (strip.hidden) return;
    const end = Math.max(versions.at(-1).stamp, (points.meta.base ?? 0) + (this.#ranges.stamp?.[1] ?? 0));
    const colours = ui.palette(versions.length);
    // Of hundreds of versions, several share a piece.
    const size = Math.ceil(versions.length / MOST_PIECES);
    const pieces = [];
    for (let k = 0; k < versions.length; k += size) pieces.push({ k, of: versions.slice(k, k + size), until: versions[k + size]?.stamp ?? end });
    strip.replaceChildren(ui.h("span", { class: "emb-strip-title" }, "Model"), ...pieces.map(({ k, of, until }) => {
      const [first, last] = [of[0], of.at(-1)];
      const name = first === last ? versionName(first.version) : `${versionName(first.version)}–${last.version}`;
      const count = of.reduce((sum, one) => sum + one.count, 0);
      const words = `Model ${name}, since ${ui.format.clock(first.stamp)}, ${ui.format.integer(count)} of the points shown. Points of different versions are comparable as far as the versions are aligned.`;
      return ui.h("span", {
        class: "emb-version", tabindex: 0, title: words, "aria-label": words, testid: `embedding-version-${first.version}`,
        style: { "flex-grow": String(Math.max(0.02 * (end - versions[0].stamp), until - first.stamp) || 1), "border-color": colours[k] },
      }, name);
    }));
  }

  // -- legend ------------------------------------------------------------------------------------

  #legends() {
    const { ui } = this.context;
    const classes = this.config.mode === "points" ? this.figure.shade?.classes : null;
    const text = classes ? JSON.stringify([classes, this.config.colour]) : "";
    if (text === this.#legend) return;
    this.#legend = text;
    this.legend.hidden = !classes;
    if (!classes) return;
    const bySimulation = this.config.colour === ":simulation";
    const redraw = () => {
      this.#shown();
      this.#heads();
      this.figure.later();
      for (const node of this.legend.querySelectorAll("[data-name]")) ui.attribute(node, "aria-pressed", String(!this.#hidden.has(node.dataset.name)));
    };
    const entries = classes.slice(0, MOST_LISTED).map(({ name, colour }) => {
      const parts = [ui.h("span", { class: "emb-swatch", style: { background: colour } }), ui.h("span", { class: "clip" }, name)];
      return bySimulation
        ? ui.h("button", {
          type: "button", class: "emb-entry", "aria-pressed": String(!this.#hidden.has(name)), dataset: { name }, title: `${name}: click to hide or show, double click for this one alone`,
          onclick: () => {
            if (!this.#hidden.delete(name)) this.#hidden.add(name);
            redraw();
          },
          ondblclick: () => {
            const alone = this.#hidden.size === classes.length - 1 && !this.#hidden.has(name);
            this.#hidden = new Set(alone ? [] : classes.map((one) => one.name).filter((other) => other !== name));
            redraw();
          },
        }, parts)
        : ui.h("span", { class: "emb-entry" }, parts);
    });
    const more = classes.length - entries.length;
    this.legend.replaceChildren(...entries, ...(more > 0 ? [ui.h("span", { class: "muted" }, `and ${more} more`)] : []));
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
    const column = (name) => points[name].subarray(0, n);
    const columns = [
      ["simulation", Array.from({ length: n }, (_, i) => points.name(i))],
      ["offset", column("offset")],
      ["step", column("step")],
      [withUnit("time", points.meta.time_unit ?? run.time_unit ?? ""), column("time")],
      ["unix_time", Array.from(column("stamp"), (value) => value + (points.meta.base ?? 0))],
      [withUnit(config.x, unitOf(run.columns, config.x)), column("x")],
      [withUnit(config.y, unitOf(run.columns, config.y)), column("y")],
    ];
    if (!config.colour.startsWith(":")) columns.push([withUnit(config.colour, unitOf(run.columns, config.colour)), column("colour")]);
    if (points.newest > 0) columns.push(["model_version", column("version")]);
    await saveCsv(`${run.name ?? "run"}-${config.x}-${config.y}`, columns);
  }
}

// Columns that people colour by come first.
function liking(name) {
  return /novel|outlier/i.test(name) ? 2 : /energy|epot|potential/i.test(name) ? 1 : 0;
}

function merged(before, range) {
  if (!range) return before;
  return before ? [Math.min(before[0], range[0]), Math.max(before[1], range[1])] : range;
}

function framesOf({ store }) {
  return store.get("frames") ?? [];
}
