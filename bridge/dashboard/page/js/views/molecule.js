// One simulation, live, or a frame that was chosen elsewhere; a field is shown as a slice.

import { FieldView } from "../molecule/field.js";
import { middle, Model } from "../molecule/model.js";
import { PlainViewer } from "../molecule/plain.js";
import { NglViewer, webgl } from "../molecule/webgl.js";
import { shownOf } from "../plots/columns.js";
import { onTheme, themeOf } from "../plots/theme.js";
import { memory } from "../state.js";
import { exportButtons, saveCsv, saveFrames, savePng } from "./export.js";

const ATOMS = [["solute", "Solute"], ["ca", "C-alpha"], ["all", "All atoms"]];
const SHAPES = [["cartoon", "Cartoon"], ["licorice", "Licorice"], ["ball+stick", "Ball and stick"], ["spheres", "Spheres"], ["points", "Points"]];
const RATES = [[0.5, "2 a second"], [0.2, "5 a second"]];
const LIMIT = 5000;
const MOST_LISTED = 200;
const KEY = "molecule";

export function mount(root, context) {
  const view = new MoleculeView(root, context);
  return { unmount: () => view.close(), resize: () => view.resize() };
}

class MoleculeView {
  #subscription = null;
  #viewer = null;
  #model = null;
  #topology = null;
  #shown = null;
  #turn = 0;
  #webgl = webgl();
  #slow = "";
  #field = null;
  #fields = [];
  #list = new Map();

  constructor(root, context) {
    Object.assign(this, { root, context });
    this.config = { atoms: "solute", shape: "cartoon", every: 0.2, drawing: "auto", box: false, centre: true, ...memory.get(KEY, {}) };
    const { store } = context;
    const frames = store.get("frames") ?? [];
    this.frame = frames.at(-1) ?? null;
    this.simulation = this.frame?.simulation ?? store.get("simulation") ?? store.get("run")?.simulations?.[0] ?? null;
    this.#build();
    this.theme = themeOf(this.stage);
    this.ends = [
      store.on("run", () => this.#names()),
      store.on("frames", (list) => this.#frames(list ?? [])),
      store.on("simulation", (name) => { if (name && name !== this.simulation && !this.frame) this.#choose(name); }),
      onTheme(() => this.#themed()),
    ];
    this.#names();
    this.#show();
  }

  close() {
    this.#turn += 1;
    this.#subscription?.close();
    this.#viewer?.close();
    for (const end of this.ends) end();
  }

  resize() {
    this.#viewer?.resize();
  }

  // -- parts -------------------------------------------------------------------------------------

  #build() {
    const { ui } = this.context;
    const { h } = ui;
    const { config } = this;
    const field = (label, control) => h("label", { class: "mol-control" }, h("span", {}, label), control);
    const pairs = (list) => list.map(([value, label]) => ({ value, label }));
    this.select = h("select", { "aria-label": "Simulation", testid: "molecule-simulation", onchange: (event) => this.#choose(event.target.value) });
    this.liveButton = ui.button("Live", () => this.#live(), { testid: "molecule-live", icon: "play", title: "Follow the newest frame" });
    this.atomControls = h("span", { class: "mol-group" },
      field("Atoms", ui.select("Atoms", pairs(ATOMS), config.atoms, (atoms) => this.#set({ atoms }), { testid: "molecule-atoms" })),
      field("Shown as", this.shapeSelect = ui.select("Shown as", pairs(SHAPES), config.shape, (shape) => this.#set({ shape }), { testid: "molecule-shape" })));
    this.boxInput = h("input", { type: "checkbox", checked: config.box, testid: "molecule-box", onchange: (event) => this.#set({ box: event.target.checked }) });
    this.atomOptions = h("span", { class: "mol-group" },
      h("label", { class: "mol-check" }, this.boxInput, "Box"),
      h("label", { class: "mol-check", title: "Keep the molecule in the middle, whole across the faces of the box" },
        h("input", { type: "checkbox", checked: config.centre, testid: "molecule-centre", onchange: (event) => this.#set({ centre: event.target.checked }) }), "Centred"),
      field("Drawn by", ui.select("Drawn by", [{ value: "auto", label: "what suits" }, { value: "webgl", label: "WebGL" }, { value: "plain", label: "plain canvas" }], config.drawing, (drawing) => {
        this.#slow = "";
        this.#set({ drawing });
      }, { testid: "molecule-drawing" })));
    this.fieldControls = h("span", { class: "mol-group", hidden: true });
    const controls = h("div", { class: "mol-controls", role: "toolbar", "aria-label": "What is shown" },
      field("Simulation", this.select), this.liveButton,
      field("Rate", ui.select("Rate", RATES.map(([value, label]) => ({ value, label })), config.every, (every) => this.#set({ every: Number(every) }), { testid: "molecule-rate" })),
      this.atomControls, this.fieldControls, this.atomOptions,
      ui.button("Fit", () => this.#viewer?.fit(), { kind: "quiet", testid: "molecule-fit", title: "Show everything (0, or a double click)" }));
    this.stage = h("div", { class: "mol-stage" });
    this.caption = h("div", { class: "mol-caption", testid: "molecule-caption" });
    this.note = h("div", { class: "mol-note", testid: "molecule-note" });
    const panel = ui.panel("Molecule", { testid: "molecule-panel", class: "mol-panel", actions: exportButtons(ui, "molecule", {
      png: () => this.#png(), csv: () => this.#csv(),
    }) });
    panel.body.append(controls, h("div", { class: "mol-figure" }, this.stage, h("div", { class: "mol-words" }, this.caption, this.note)));
    this.values = h("dl", { class: "mol-values", testid: "molecule-values" });
    const numbers = ui.panel("This frame", { testid: "molecule-frame", class: "mol-side" });
    numbers.body.append(this.values);
    this.listNode = h("ul", { class: "mol-list", testid: "molecule-frames", tabindex: 0, "aria-label": "Chosen frames; arrows up and down show another one" });
    this.listNode.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.#step(step);
    });
    const save = (format) => ui.button(format.toUpperCase(), () => this.#save(format), { kind: "quiet", testid: `molecule-save-${format}`, title: `Save these frames as ${format.toUpperCase()}` });
    this.saves = h("div", { class: "mol-group mol-saves" }, save("pdb"), save("xtc"), save("csv"), ui.button("Clear", () => this.context.store.set("frames", []), { kind: "quiet", testid: "molecule-clear" }));
    this.chosen = ui.panel("Chosen frames", { testid: "molecule-chosen", class: "mol-side mol-chosen" });
    this.empty = h("p", { class: "muted" }, "Frames that are chosen in the embedding or in the ledger are listed here.");
    this.chosen.body.append(this.empty, this.listNode, this.saves);
    this.root.append(h("div", { class: "mol-layout" }, panel, h("div", { class: "mol-right" }, this.chosen, numbers)));
    this.#listed();
  }

  #names() {
    const { h } = this.context.ui;
    const names = this.context.store.get("run")?.simulations ?? [];
    if (!this.simulation && names.length) {
      [this.simulation] = names;
      this.#show();
    }
    const text = JSON.stringify(names);
    if (text === this.namesText) return;
    this.namesText = text;
    this.select.replaceChildren(...names.map((name) => h("option", { value: name, selected: name === this.simulation }, name)));
  }

  #set(changed) {
    Object.assign(this.config, changed);
    memory.set(KEY, this.config);
    if ("atoms" in changed || "drawing" in changed || "every" in changed) this.#show();
    else {
      this.#viewer?.setStyle?.({ representation: this.config.shape, box: this.config.box });
      this.#draw();
      if (this.#model && this.#shown?.positions) this.#notes();
      if ("box" in changed || "centre" in changed) this.#viewer?.fit();
    }
  }

  // -- what is shown -----------------------------------------------------------------------------

  #choose(name) {
    this.simulation = name;
    this.frame = null;
    this.context.store.set("simulation", name);
    this.#show();
  }

  #live() {
    this.frame = null;
    this.#show();
  }

  #frames(list) {
    this.#listed();
    const next = list.at(-1) ?? null;
    if (next) this.#pin(next);
    else if (this.frame) this.#live();
  }

  #pin(frame) {
    this.frame = frame;
    this.simulation = frame.simulation;
    this.#show();
  }

  #step(by) {
    const frames = this.context.store.get("frames") ?? [];
    const at = frames.findIndex((one) => same(one, this.frame));
    const next = frames[Math.max(0, Math.min(frames.length - 1, at + by))];
    if (next && !same(next, this.frame)) this.#pin(next);
  }

  async #show() {
    const turn = ++this.#turn;
    const { connection, api, ui } = this.context;
    this.#subscription?.close();
    this.#subscription = null;
    this.select.value = this.simulation ?? "";
    this.#listed();
    ui.attribute(this.liveButton, "aria-pressed", String(!this.frame));
    this.liveButton.dataset.on = String(!this.frame);
    if (!this.simulation) {
      this.#fault("Waiting for the first simulation.");
      return;
    }
    const about = JSON.stringify([this.simulation, this.config.atoms]);
    if (about !== this.about || !this.#topology) {
      try {
        const topology = await api.get(`topology/${encodeURIComponent(this.simulation)}`, { atoms: this.config.atoms, limit: LIMIT });
        if (turn !== this.#turn) return;
        this.about = about;
        this.#topology = topology;
        this.#model = null;
        this.#fieldChoices();
      } catch (error) {
        if (turn !== this.#turn) return;
        this.#topology = null;
        this.#fault(error.message);
        // The simulation may not have said yet what it is made of.
        setTimeout(() => { if (turn === this.#turn) this.#show(); }, 2000);
        return;
      }
    }
    const { field, axis, index } = this.#field ?? {};
    const options = { simulation: this.simulation, offset: this.frame ? this.frame.offset : "latest", atoms: this.config.atoms, limit: LIMIT, ...(this.#field ? { field, axis, ...(index === null ? {} : { index }) } : {}) };
    this.#subscription = connection.subscribe("molecule", options, (message) => turn === this.#turn && this.#take(message, turn), {
      every: this.frame ? 0.5 : this.config.every, onError: (sentence) => turn === this.#turn && this.#fault(sentence),
    });
  }

  #fieldChoices() {
    const { h, select } = this.context.ui;
    this.#fields = this.#topology.fields ?? [];
    const atoms = (this.#topology.n_atoms ?? 0) > 0;
    this.#field = atoms || !this.#fields.length ? null : { field: this.#fields[0].name, axis: 0, index: null };
    this.atomControls.hidden = !atoms || Boolean(this.#field);
    this.atomOptions.hidden = this.atomControls.hidden;
    this.fieldControls.hidden = !this.#field;
    this.fieldControls.replaceChildren();
    if (!this.#field) return;
    const shape = () => this.#fields.find((one) => one.name === this.#field.field)?.shape ?? [];
    const slider = h("input", { type: "range", min: 0, max: 0, "aria-label": "Plane", testid: "molecule-index", class: "mol-index" });
    const where = h("output", { class: "tabular" });
    const planes = () => {
      slider.max = String(Math.max(0, (shape()[this.#field.axis] ?? 1) - 1));
      slider.value = String(this.#field.index ?? Math.floor(Number(slider.max) / 2));
      where.textContent = `${Number(slider.value)} of ${Number(slider.max) + 1}`;
      flat.hidden = shape().length < 3;
    };
    const change = (changed) => {
      Object.assign(this.#field, changed);
      planes();
      const { field, axis, index } = this.#field;
      this.#subscription?.update({ field, axis, index });
    };
    slider.addEventListener("input", () => change({ index: Number(slider.value) }));
    const flat = h("span", { class: "mol-group" },
      h("label", { class: "mol-control" }, h("span", {}, "Across"), select("Axis", [0, 1, 2].map((value) => ({ value, label: "xyz"[value] })), 0, (axis) => change({ axis: Number(axis), index: null }), { testid: "molecule-axis" })),
      h("label", { class: "mol-control" }, h("span", {}, "Plane"), slider, where));
    this.fieldControls.append(
      h("label", { class: "mol-control" }, h("span", {}, "Field"), select("Field", this.#fields.map((one) => one.name), this.#field.field, (field) => change({ field, index: null }), { testid: "molecule-field-name" })),
      flat);
    planes();
  }

  async #take({ meta, arrays }, turn) {
    this.#caption(meta);
    const plane = arrays.field ?? arrays.slice;
    if (plane) {
      const viewer = await this.#use("field");
      if (turn !== this.#turn) return;
      this.#shown = { meta };
      viewer.update(plane, plane.shape, meta);
      if (!this.over) this.#fieldNote();
      return;
    }
    const { positions, box = null } = arrays;
    if (!positions) return;
    if (!this.#model || 3 * this.#model.n !== positions.length) this.#model = new Model(this.#topology, positions);
    this.#shown = { meta, positions: Float32Array.from(positions), box };
    const viewer = await this.#use(this.#suits());
    if (turn !== this.#turn || !viewer) return;
    if (viewer.model !== this.#model) {
      viewer.model = this.#model;
      viewer.setStyle({ representation: this.config.shape, box: this.config.box });
      const { placed } = this.#placed();
      await viewer.setModel(this.#model, placed);
      if (turn !== this.#turn) return;
      viewer.resize();
    }
    this.#draw();
    this.#judge(viewer);
    this.#notes();
  }

  // NGL draws the better cartoon; in software it took 0.1 to 0.9 s for 5,000 atoms, where the plain
  // canvas took 2 to 13 ms.
  #suits() {
    if (this.#webgl === "none") return "plain";
    if (this.config.drawing !== "auto") return this.config.drawing;
    return this.#webgl === "software" || this.#slow ? "plain" : "webgl";
  }

  // Positions as they are drawn: whole, about the middle of the molecule or of the box.
  #placed() {
    const { positions, box } = this.#shown;
    const placed = Float32Array.from(positions);
    if (this.config.centre) this.#model.whole(placed, box);
    const origin = this.config.box && box ? [0, 1, 2].map((k) => (box[k] + box[3 + k] + box[6 + k]) / 2) : this.config.centre || !this.origin ? middle(placed) : this.origin;
    this.origin = origin;
    for (let i = 0; i < placed.length; i += 1) placed[i] -= origin[i % 3];
    return { placed, box: box ? { vectors: box, origin } : null };
  }

  #draw() {
    const viewer = this.#viewer;
    if (!viewer?.ready || !this.#shown?.positions || viewer.model !== this.#model) return;
    const { placed, box } = this.#placed();
    viewer.update(placed, box);
  }

  async #use(kind) {
    if (this.#viewer?.kind === kind) return this.#viewer;
    const { ui } = this.context;
    this.#viewer?.close();
    this.#viewer = null;
    let viewer;
    if (kind === "webgl") {
      try {
        viewer = await NglViewer.make(ui, this.theme);
      } catch (error) {
        console.warn("NGL cannot be used.", error);
        this.#webgl = "none";
        return this.#use("plain");
      }
    } else if (kind === "field") {
      viewer = new FieldView(ui, this.theme, (at) => {
        this.over = at;
        if (at) ui.put(this.note, `row ${at.row}, column ${at.column}: ${ui.format.number(at.value, 4)}`);
        else this.#fieldNote();
      });
    } else {
      viewer = new PlainViewer(ui, this.theme);
    }
    viewer.kind = kind;
    this.stage.replaceChildren(viewer.element);
    this.#viewer = viewer;
    viewer.resize();
    return viewer;
  }

  // Where WebGL takes so long that the page would hang behind, the next picture is drawn plainly.
  #judge(viewer) {
    if (this.config.drawing !== "auto" || viewer.kind !== "webgl" || !(viewer.cost > 600 * this.config.every)) return;
    this.#slow = `WebGL took ${Math.round(viewer.cost)} ms for a picture: drawn on a plain canvas.`;
  }

  #fieldNote() {
    const { meta } = this.#shown ?? {};
    const { format, put } = this.context.ui;
    if (meta) put(this.note, `${(meta.whole ?? meta.shape ?? []).join(" × ")}${meta.every > 1 ? `, every ${meta.every}th value` : ""}, ${format.number(meta.min, 4)} to ${format.value(meta.max, meta.unit ?? "")}`);
  }

  #notes() {
    const { ui } = this.context;
    const { every = 1, n_atoms: all = 0, selection } = this.#shown.meta;
    const part = all && all !== this.#model.n ? ` of ${ui.format.integer(all)}` : "";
    const atoms = `${ui.format.integer(this.#model.n)}${part} atoms${every > 1 ? ` (1 in ${every} of ${selection})` : ""}`;
    const why = this.#webgl === "none" ? "Plain canvas: no WebGL here." : this.config.drawing === "webgl" ? "" : this.#webgl === "software" ? "Plain canvas: WebGL is drawn in software here." : this.#slow;
    const missing = this.config.shape === "cartoon" && !this.#model.ribbon ? " No backbone, hence no cartoon." : "";
    ui.put(this.note, `${atoms}.${missing} ${this.config.drawing === "plain" ? "" : why}`.trim());
    ui.attribute(this.note, "title", this.note.textContent);
  }

  #themed() {
    this.theme = themeOf(this.stage);
    this.#viewer?.themed(this.theme);
    this.#draw();
  }

  // -- words -------------------------------------------------------------------------------------

  #say(sentence) {
    this.context.ui.put(this.caption, sentence);
  }

  #newest() {
    const { store } = this.context;
    if (store.get("at")) return "replay";
    return store.get("run")?.live === false ? "the last one" : "live";
  }

  // What is wrong, where the picture would be.
  #fault(sentence) {
    const { ui } = this.context;
    this.#say(this.simulation);
    this.#viewer?.close();
    this.#viewer = null;
    ui.put(this.note, "");
    this.values.replaceChildren();
    this.rowsText = "";
    // Of a run that is over, the server has some of the frames, and says which is the nearest.
    const near = this.frame && /recorded is (\d+)\.$/.exec(sentence);
    const { simulation } = this;
    this.stage.replaceChildren(ui.blank(this.frame ? "This frame cannot be shown" : "Nothing to show", sentence,
      near && ui.button(`Show frame ${near[1]}`, () => this.#pin({ simulation, offset: Number(near[1]) }), { testid: "molecule-nearest" })));
  }

  #caption(meta) {
    const { ui } = this.context;
    const { format } = ui;
    const place = [meta.simulation ?? this.simulation];
    if (Number.isFinite(meta.step)) place.push(`step ${format.integer(meta.step)}`);
    if (Number.isFinite(meta.time)) place.push(meta.time_unit ? format.time(meta.time, meta.time_unit) : `t ${format.time(meta.time)}`);
    place.push(`frame ${format.integer(meta.offset)}`, this.frame ? "chosen" : this.#newest());
    this.#say(place.join(" · "));
    const rows = [];
    if (this.#topology?.n_atoms) rows.push(["atoms", format.integer(this.#topology.n_atoms)]);
    if (meta.epoch) rows.push(["epoch", format.integer(meta.epoch)]);
    if (meta.version) rows.push(["model", `v${meta.version}`]);
    if (meta.stamp) rows.push(["stored", format.clock(meta.stamp)]);
    for (const [name, value] of Object.entries(meta.results ?? {}).slice(0, 24)) {
      const { unit, factor } = shownOf(this.context.run?.columns, name);
      const numbers = (Array.isArray(value) ? value : [value]).map((one) => typeof one === "number" ? one * factor : one);
      const few = numbers.slice(0, 4).map((one) => Number.isInteger(one) ? format.integer(one) : format.number(one, 4)).join(", ");
      rows.push([name, `${few}${numbers.length > 4 ? ", …" : ""}${unit === "°" ? unit : unit && ` ${unit}`}`]);
    }
    const text = JSON.stringify(rows.map(([name]) => name));
    if (text !== this.rowsText) {
      this.rowsText = text;
      this.values.replaceChildren(...rows.flatMap(([name]) => [ui.h("dt", { class: "clip", title: name }, name), ui.h("dd", {})]));
    }
    rows.forEach(([, value], i) => ui.put(this.values.children[2 * i + 1], value));
  }

  #listed() {
    const { ui, store } = this.context;
    const frames = (store.get("frames") ?? []).slice(0, MOST_LISTED);
    this.empty.hidden = frames.length > 0;
    this.listNode.hidden = !frames.length;
    this.saves.hidden = !frames.length;
    const all = store.get("frames")?.length ?? 0;
    this.chosen.setTitle(all ? `Chosen frames (${ui.format.integer(all)})` : "Chosen frames");
    ui.keyed(this.listNode, this.#list, frames, (one) => `${one.offset} ${one.simulation}`, (one) => ({
      node: ui.h("li", {}, ui.h("button", { type: "button", class: "mol-entry", testid: "molecule-frame-entry", onclick: () => this.#pin(one) },
        ui.h("span", { class: "clip" }, one.simulation), ui.h("span", { class: "tabular muted" }, ui.format.integer(one.offset)))),
    }), (entry, one) => ui.attribute(entry.node.firstChild, "aria-current", same(one, this.frame) ? "true" : null));
  }

  // -- files -------------------------------------------------------------------------------------

  async #save(format) {
    try {
      await saveFrames(this.context.store.get("frames") ?? [], format);
    } catch (error) {
      this.context.ui.toast(error.message, { level: "error" });
    }
  }

  async #png() {
    if (!this.#viewer) throw new Error("there is no picture yet.");
    const { run } = this.context;
    await savePng({
      name: `${this.simulation}-${this.#shown?.meta.offset ?? ""}`, title: run?.title || run?.name || "Molecule", subtitle: this.caption.textContent,
      draw: (theme) => this.#viewer.picture(theme), element: this.stage,
    });
  }

  async #csv() {
    const shown = this.#shown;
    if (!shown) throw new Error("there is no frame yet.");
    const name = `${this.simulation}-${shown.meta.offset}`;
    if (!shown.positions) {
      const { values, columns, field } = this.#viewer.values;
      await saveCsv(name, [["row", Array.from(values, (_, i) => Math.floor(i / columns))], ["column", Array.from(values, (_, i) => i % columns)], [field, values]]);
      return;
    }
    const axis = (k) => shown.positions.filter((_, i) => i % 3 === k);
    const unit = this.#topology.unit ? ` / ${this.#topology.unit}` : "";
    await saveCsv(name, [["atom", this.#topology.indices ?? this.#model.names.map((_, i) => i)], ["name", this.#model.names], ["residue", this.#model.residues], ["residue_id", this.#model.ids],
      ...["x", "y", "z"].map((label, k) => [`${label}${unit}`, axis(k)])]);
  }
}

function same(one, other) {
  return Boolean(one && other) && one.simulation === other.simulation && one.offset === other.offset;
}
