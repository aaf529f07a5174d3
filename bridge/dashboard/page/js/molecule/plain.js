// Molecules on a plain canvas: for browsers without WebGL, and for those that draw it in software,
// too slowly.

import { css, table } from "../viridis.js";
import { elementColour } from "./colours.js";
import { edges } from "./model.js";
import { Solids } from "./solids.js";

const SMOOTH = 4;
const HUES = 24;
// Radii in nm.
const STICK = 0.04;
const THIN = 0.022;
const TUBE = 0.075;
const DOT = 0.03;
const BALL = 0.27;

export class PlainViewer {
  name = "plain";
  style = { representation: "licorice", box: false };
  #turn = [1, 0, 0, 0, 1, 0, 0, 0, 1];
  #zoom = 1;
  #shift = [0, 0];
  #reach = 1;
  #frame = 0;
  #solids = new Solids();
  #model = null;
  #positions = null;
  #box = null;

  constructor(ui, theme) {
    this.theme = theme;
    this.element = ui.h("canvas", {
      class: "mol-canvas", tabindex: 0, role: "application", testid: "molecule-canvas",
      "aria-label": "Molecule: drag turns it, wheel or + and − zoom, arrows turn, 0 shows all",
    });
    this.#listen();
  }

  get ready() {
    return this.#model !== null;
  }

  setModel(model, positions) {
    // The first is shown from where most of it can be seen; later ones as somebody has turned it.
    if (!this.#model) this.#turn = facing(positions) ?? this.#turn;
    this.#model = model;
    this.#positions = positions;
    this.fit();
  }

  /** Positions in nm about the origin; `box` {vectors, origin} or null. */
  update(positions, box) {
    this.#positions = positions;
    this.#box = box;
    this.draw();
  }

  setStyle(style) {
    Object.assign(this.style, style);
    this.later();
  }

  themed(theme) {
    this.theme = theme;
    this.later();
  }

  fit() {
    const p = this.#positions;
    let most = 0;
    for (let i = 0; i < p.length; i += 3) most = Math.max(most, Math.hypot(p[i], p[i + 1], p[i + 2]));
    if (this.style.box && this.#box) {
      for (const [corner] of edges(this.#box.vectors, this.#box.origin)) most = Math.max(most, Math.hypot(...corner) * 0.8);
    }
    this.#reach = Math.max(0.15, most) + 0.1;
    this.#zoom = 1;
    this.#shift = [0, 0];
    this.later();
  }

  resize() {
    const { clientWidth, clientHeight } = this.element;
    if (!clientWidth || !clientHeight) return;
    const scale = Math.min(2, devicePixelRatio || 1);
    this.element.width = Math.round(clientWidth * scale);
    this.element.height = Math.round(clientHeight * scale);
    this.draw();
  }

  close() {
    cancelAnimationFrame(this.#frame);
  }

  later() {
    this.#frame ||= requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const { width, height } = this.element;
    if (!width || !this.#model) return;
    this.#paint(this.element.getContext("2d"), width, height, this.theme);
  }

  async picture(theme) {
    const canvas = document.createElement("canvas");
    canvas.width = this.element.clientWidth * 2;
    canvas.height = this.element.clientHeight * 2;
    canvas.scale = 2;
    this.#paint(canvas.getContext("2d"), canvas.width, canvas.height, theme);
    return canvas;
  }

  // -- drawing -----------------------------------------------------------------------------------

  #paint(ctx, width, height, theme) {
    const places = this.#project(this.#positions, width, height);
    const { scale } = places;
    const solids = this.#solids;
    solids.begin(width, height, theme.background, this.#reach * scale, -this.#reach * scale);
    const { representation } = this.style;
    const bound = this.#model.bonds.length > 0;
    if (representation === "points") this.#balls(places, theme, () => DOT);
    else if (representation === "spheres" || !bound) this.#balls(places, theme, (i) => this.#model.radius(i));
    else if (representation === "cartoon" && this.#model.ribbon) this.#ribbon(places);
    else if (representation === "licorice") this.#rods(places, theme, STICK);
    else {
      this.#rods(places, theme, THIN);
      this.#balls(places, theme, (i) => BALL * this.#model.radius(i));
    }
    ctx.putImageData(solids.image, 0, 0);
    if (this.style.box && this.#box) this.#drawBox(ctx, width, height, theme);
  }

  // Places on the canvas, and depths, in its pixels.
  #project(positions, width, height) {
    const n = positions.length / 3;
    const [x, y, z] = [new Float32Array(n), new Float32Array(n), new Float32Array(n)];
    const t = this.#turn;
    const scale = ((Math.min(width, height) / 2) / this.#reach) * this.#zoom;
    const cx = width / 2 + this.#shift[0] * width;
    const cy = height / 2 + this.#shift[1] * height;
    const bend = 0.25 / this.#reach;
    for (let i = 0; i < n; i += 1) {
      const [a, b, c] = [positions[3 * i], positions[3 * i + 1], positions[3 * i + 2]];
      const depth = t[6] * a + t[7] * b + t[8] * c;
      const nearer = scale * (1 + bend * depth);
      x[i] = cx + (t[0] * a + t[1] * b + t[2] * c) * nearer;
      y[i] = cy - (t[3] * a + t[4] * b + t[5] * c) * nearer;
      z[i] = depth * scale;
    }
    return { x, y, z, scale };
  }

  #tables(theme) {
    return this.#model.elements.map((element) => this.#solids.table(elementColour(element, theme.dark)));
  }

  #rods({ x, y, z, scale }, theme, radius) {
    const { bonds, metric } = this.#model;
    const tables = this.#tables(theme);
    const wide = Math.max(1.2, radius * scale);
    // A bond through the whole box is one that was not made whole.
    const most = metric ? 0.5 * scale : Infinity;
    for (let k = 0; k < bonds.length; k += 2) {
      const [a, b] = [bonds[k], bonds[k + 1]];
      if (Math.abs(x[a] - x[b]) > most || Math.abs(y[a] - y[b]) > most) continue;
      this.#solids.rod(x[a], y[a], z[a], x[b], y[b], z[b], wide, tables[a], tables[b]);
    }
  }

  #balls({ x, y, z, scale }, theme, radius) {
    const tables = this.#tables(theme);
    for (let i = 0; i < x.length; i += 1) this.#solids.ball(x[i], y[i], z[i], Math.max(1.5, radius(i) * scale), tables[i]);
  }

  // A tube through the alpha carbons, smoothed after Catmull and Rom.
  #ribbon({ x, y, z, scale }) {
    const { backbone, chains } = this.#model;
    const hues = table();
    const wide = Math.max(1.5, TUBE * scale);
    const most = 0.8 * scale;
    const last = backbone.length - 1;
    for (let k = 0; k < last; k += 1) {
      const [b, c] = [backbone[k], backbone[k + 1]];
      if (chains[b] !== chains[c] || Math.hypot(x[b] - x[c], y[b] - y[c]) > most) continue;
      const a = k > 0 && chains[backbone[k - 1]] === chains[b] ? backbone[k - 1] : b;
      const d = k < last - 1 && chains[backbone[k + 2]] === chains[c] ? backbone[k + 2] : c;
      const hue = Math.round((k / last) * HUES) / HUES;
      const colours = this.#solids.table(css(hues[Math.round(20 + hue * 215)]));
      let before = [x[b], y[b], z[b]];
      for (let s = 1; s <= SMOOTH; s += 1) {
        const t = s / SMOOTH;
        const next = [spline(x[a], x[b], x[c], x[d], t), spline(y[a], y[b], y[c], y[d], t), spline(z[a], z[b], z[c], z[d], t)];
        this.#solids.rod(...before, ...next, wide, colours, colours);
        before = next;
      }
    }
  }

  #drawBox(ctx, width, height, theme) {
    const corners = Float32Array.from(edges(this.#box.vectors, this.#box.origin).flat(2));
    const { x, y } = this.#project(corners, width, height);
    ctx.strokeStyle = theme.muted;
    ctx.lineWidth = 1.25;
    ctx.beginPath();
    for (let k = 0; k < x.length; k += 2) {
      ctx.moveTo(x[k], y[k]);
      ctx.lineTo(x[k + 1], y[k + 1]);
    }
    ctx.stroke();
  }

  // -- hands -------------------------------------------------------------------------------------

  #rotate(dx, dy) {
    const [a, b] = [dx, dy];
    const around = [Math.cos(a), 0, Math.sin(a), 0, 1, 0, -Math.sin(a), 0, Math.cos(a)];
    const over = [1, 0, 0, 0, Math.cos(b), -Math.sin(b), 0, Math.sin(b), Math.cos(b)];
    this.#turn = multiply(over, multiply(around, this.#turn));
    this.later();
  }

  #scale(factor) {
    this.#zoom = Math.max(0.1, Math.min(50, this.#zoom * factor));
    this.later();
  }

  #listen() {
    const { element } = this;
    let last = null;
    element.addEventListener("pointerdown", (event) => {
      last = [event.clientX, event.clientY];
      element.setPointerCapture?.(event.pointerId);
    });
    element.addEventListener("pointermove", (event) => {
      if (!last) return;
      const [dx, dy] = [event.clientX - last[0], event.clientY - last[1]];
      last = [event.clientX, event.clientY];
      if (event.shiftKey || event.buttons === 2) {
        this.#shift = [this.#shift[0] + dx / element.clientWidth, this.#shift[1] + dy / element.clientHeight];
        this.later();
      } else {
        this.#rotate(dx * 0.009, dy * 0.009);
      }
    });
    for (const name of ["pointerup", "pointercancel"]) element.addEventListener(name, () => { last = null; });
    element.addEventListener("contextmenu", (event) => event.preventDefault());
    element.addEventListener("dblclick", () => this.fit());
    element.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.#scale(Math.exp(-Math.max(-1, Math.min(1, event.deltaY * 0.0016))));
    }, { passive: false });
    element.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const action = {
        ArrowLeft: () => this.#rotate(-0.15, 0), ArrowRight: () => this.#rotate(0.15, 0),
        ArrowUp: () => this.#rotate(0, -0.15), ArrowDown: () => this.#rotate(0, 0.15),
        "+": () => this.#scale(1.2), "=": () => this.#scale(1.2), "-": () => this.#scale(1 / 1.2),
        0: () => this.fit(), Home: () => this.fit(),
      }[event.key];
      if (!action) return;
      event.preventDefault();
      event.stopPropagation();
      action();
    });
  }
}

function spline(a, b, c, d, t) {
  return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)));
}

function multiply(a, b) {
  const out = new Array(9);
  for (let i = 0; i < 3; i += 1) for (let j = 0; j < 3; j += 1) {
    out[3 * i + j] = a[3 * i] * b[j] + a[3 * i + 1] * b[3 + j] + a[3 * i + 2] * b[6 + j];
  }
  return out;
}

// The turn that lays the longest axis of some places across the picture, and the shortest along the
// line of sight; null where they have none.
function facing(p) {
  let rest = [0, 0, 0, 0, 0, 0, 0, 0, 0];
  for (let i = 0; i + 2 < p.length; i += 3)
    for (let k = 0; k < 9; k += 1) rest[k] += p[i + Math.floor(k / 3)] * p[i + (k % 3)];
  const axes = [];
  for (let n = 0; n < 2; n += 1) {
    // Power iteration; what was found is taken out of the matrix for the next one.
    let axis = [0.62, 0.54, 0.57];
    let size = 0;
    for (let turn = 0; turn < 60; turn += 1) {
      const next = [0, 1, 2].map((r) => rest[3 * r] * axis[0] + rest[3 * r + 1] * axis[1] + rest[3 * r + 2] * axis[2]);
      size = Math.hypot(...next);
      if (!(size > 1e-9)) return null;
      axis = next.map((v) => v / size);
    }
    rest = rest.map((v, k) => v - size * axis[Math.floor(k / 3)] * axis[k % 3]);
    axes.push(axis);
  }
  const [a, b] = axes;
  return [...a, ...b, a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
}
