// Molecules by NGL (A. S. Rose and P. W. Hildebrand (2015), 10.1093/nar/gkv402), with positions
// replaced in place; the library is loaded when the first molecule is shown.

import { base } from "../api.js";
import { channels } from "../viridis.js";
import { edges } from "./model.js";
import { pdbText } from "./pdb.js";

let library = null;

/** Load NGL; its script defines the global NGL. Rejects where it cannot be had. */
export function loadNgl() {
  library ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = new URL("static/vendor/ngl/ngl.js", base).href;
    script.onload = () => resolve(window.NGL);
    script.onerror = () => {
      library = null;
      reject(new Error("NGL could not be loaded from the server."));
    };
    document.head.append(script);
  });
  return library;
}

let known = null;

/** What draws WebGL here: "hardware", "software", or "none". Asked once: in software, it takes seconds. */
export function webgl() {
  known ??= probe();
  return known;
}

function probe() {
  try {
    const gl = document.createElement("canvas").getContext("webgl2");
    if (!gl) return "none";
    const names = gl.getExtension("WEBGL_debug_renderer_info");
    const renderer = String(names ? gl.getParameter(names.UNMASKED_RENDERER_WEBGL) : gl.getParameter(gl.RENDERER));
    gl.getExtension("WEBGL_lose_context")?.loseContext();
    return /swiftshader|llvmpipe|softpipe|software|basic render/i.test(renderer) ? "software" : "hardware";
  } catch {
    return "none";
  }
}

const REPRESENTATIONS = {
  cartoon: [
    ["cartoon", { sele: "polymer", colorScheme: "residueindex", colorScale: "viridis", quality: "low" }],
    ["ball+stick", { sele: "not polymer and not water", quality: "low" }],
  ],
  trace: [["tube", { colorScheme: "residueindex", colorScale: "viridis", radiusScale: 2.2, quality: "low" }]],
  licorice: [["licorice", { quality: "low" }]],
  "ball+stick": [["ball+stick", { quality: "low" }]],
  spheres: [["spacefill", { quality: "low" }]],
  points: [["point", { pointSize: 3, sizeAttenuation: false }]],
};

export class NglViewer {
  name = "webgl";
  style = { representation: "cartoon", box: false };
  #stage = null;
  #component = null;
  #model = null;
  #boxed = null;
  #boxText = "";
  #angstrom = null;
  #costs = [];

  static async make(ui, theme) {
    const NGL = await loadNgl();
    NGL.setDebug?.(false);
    return new NglViewer(ui, theme, NGL);
  }

  constructor(ui, theme, NGL) {
    this.NGL = NGL;
    this.element = ui.h("div", {
      class: "mol-canvas", testid: "molecule-canvas", tabindex: 0, role: "application",
      "aria-label": "Molecule: drag turns it, wheel or + and − zoom, arrows turn, 0 shows all",
    });
    this.theme = theme;
    this.element.addEventListener("keydown", (event) => this.#key(event));
    this.element.addEventListener("dblclick", () => this.fit());
  }

  get ready() {
    return this.#component !== null;
  }

  /** Median milliseconds of the last updates, NaN before there are some. */
  get cost() {
    if (this.#costs.length < 5) return NaN;
    return [...this.#costs].sort((a, b) => a - b)[this.#costs.length >> 1];
  }

  async setModel(model, positions) {
    // The stage wants its element in the page, with a size.
    this.#stage ??= new this.NGL.Stage(this.element, {
      backgroundColor: hex(this.theme), tooltip: false, hoverTimeout: -1, workerDefault: false, sampleLevel: -1,
      quality: "low", fogNear: 40, fogFar: 100,
    });
    this.#model = model;
    this.#component = null;
    this.#boxed = null;
    this.#stage.removeAllComponents();
    const text = new Blob([pdbText(model, positions)], { type: "text/plain" });
    const component = await this.#stage.loadFile(text, { ext: "pdb", defaultRepresentation: false, name: "molecule" });
    if (this.#model !== model) return;
    this.#component = component;
    this.#angstrom = new Float32Array(3 * model.n);
    this.#costs = [];
    this.#place(positions);
    this.#represent();
    this.fit();
  }

  update(positions, box) {
    if (!this.#component || positions.length !== this.#angstrom.length) return;
    const start = performance.now();
    this.#place(positions);
    this.#component.updateRepresentations({ position: true });
    this.#drawBox(box);
    const { viewer } = this.#stage;
    viewer.render();
    // Reading one pixel waits for the picture: without it only the handing over would be timed.
    const gl = viewer.renderer.getContext();
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
    this.#costs.push(performance.now() - start);
    if (this.#costs.length > 9) this.#costs.shift();
  }

  setStyle(style) {
    const before = this.style.representation;
    Object.assign(this.style, style);
    if (this.#component && before !== this.style.representation) this.#represent();
    if (!this.style.box) this.#drawBox(null);
  }

  themed(theme) {
    this.theme = theme;
    this.#stage?.setParameters({ backgroundColor: hex(theme) });
    this.#boxText = "";
  }

  fit() {
    this.#component?.autoView();
  }

  resize() {
    this.#stage?.handleResize();
  }

  async picture(theme) {
    const before = this.theme;
    this.themed(theme);
    const blob = await this.#stage.makeImage({ factor: 2, antialias: true, transparent: false });
    this.themed(before);
    const image = await createImageBitmap(blob);
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height, canvas.scale] = [image.width, image.height, 2];
    canvas.getContext("2d").drawImage(image, 0, 0);
    return canvas;
  }

  close() {
    this.#model = null;
    this.#component = null;
    this.#stage?.dispose();
    // Browsers keep few WebGL contexts; a stage that is gone would hold its own until collected.
    this.#stage?.viewer.renderer.forceContextLoss?.();
    this.#stage = null;
  }

  #place(positions) {
    for (let i = 0; i < positions.length; i += 1) this.#angstrom[i] = positions[i] * 10;
    this.#component.structure.updatePosition(this.#angstrom);
  }

  #represent() {
    this.#component.removeAllRepresentations();
    let name = this.style.representation;
    if (name === "cartoon" && !this.#model.ribbon) name = "ball+stick";
    if (name === "cartoon" && this.#model.trace) name = "trace";
    if (this.#model.bonds.length === 0 && name !== "points") name = "spheres";
    for (const [kind, options] of REPRESENTATIONS[name] ?? REPRESENTATIONS.licorice) this.#component.addRepresentation(kind, { ...options });
  }

  #drawBox(box) {
    const text = this.style.box && box ? JSON.stringify([[...box.vectors].map((v) => v.toFixed(3)), box.origin.map((v) => v.toFixed(2))]) : "";
    if (text === this.#boxText) return;
    this.#boxText = text;
    if (this.#boxed) this.#stage.removeComponent(this.#boxed);
    this.#boxed = null;
    if (!text) return;
    const shape = new this.NGL.Shape("box");
    const colour = channels(this.theme.muted).map((v) => v / 255);
    for (const [a, b] of edges(box.vectors, box.origin)) {
      shape.addCylinder(a.map((v) => v * 10), b.map((v) => v * 10), colour, 0.15);
    }
    this.#boxed = this.#stage.addComponentFromObject(shape);
    this.#boxed.addRepresentation("buffer");
  }

  #key(event) {
    if (!this.#stage || event.ctrlKey || event.metaKey || event.altKey) return;
    const controls = this.#stage.trackballControls;
    const action = {
      ArrowLeft: () => controls.rotate(-30, 0), ArrowRight: () => controls.rotate(30, 0),
      ArrowUp: () => controls.rotate(0, -30), ArrowDown: () => controls.rotate(0, 30),
      "+": () => controls.zoom(0.5), "=": () => controls.zoom(0.5), "-": () => controls.zoom(-0.5),
      0: () => this.fit(), Home: () => this.fit(),
    }[event.key];
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }
}

function hex(theme) {
  return `#${channels(theme.background).map((v) => v.toString(16).padStart(2, "0")).join("")}`;
}
