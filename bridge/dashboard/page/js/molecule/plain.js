// Molecules on a plain canvas: for browsers without WebGL, and for those that draw it in software,
// too slowly. Sorted by depth into layers; what is far is paler.

import { channels, css, mix, pixel, table } from "../viridis.js";
import { elementColour } from "./colours.js";
import { edges } from "./model.js";

const LAYERS = 40;
const FOG = 0.72;
const SMOOTH = 4;
const HUES = 24;
const SPRITE = 48;

export class PlainViewer {
  name = "plain";
  style = { representation: "licorice", box: false };
  #turn = [1, 0, 0, 0, 1, 0, 0, 0, 1];
  #zoom = 1;
  #shift = [0, 0];
  #reach = 1;
  #frame = 0;
  #sprites = new Map();
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
    this.#sprites.clear();
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
    this.#sprites.clear();
    this.#paint(canvas.getContext("2d"), canvas.width, canvas.height, theme);
    this.#sprites.clear();
    return canvas;
  }

  // -- drawing -----------------------------------------------------------------------------------

  #paint(ctx, width, height, theme) {
    ctx.fillStyle = theme.background;
    ctx.fillRect(0, 0, width, height);
    const view = this.#project(this.#positions, width, height);
    if (this.style.box && this.#box) this.#drawBox(ctx, width, height, theme);
    const { representation } = this.style;
    const ground = pixel(channels(theme.background));
    if (representation === "cartoon" && this.#model.ribbon) this.#ribbon(ctx, view, ground, theme);
    else if (representation === "spheres" || this.#model.bonds.length === 0) this.#spheres(ctx, view, ground, theme, 1);
    else if (representation === "points") this.#dots(ctx, view, ground, theme);
    else {
      this.#sticks(ctx, view, ground, theme, representation === "ball+stick" ? 0.035 : 0.06);
      if (representation === "ball+stick") this.#spheres(ctx, view, ground, theme, 0.28);
    }
  }

  // Places on the canvas, and depth as a layer, 0 behind.
  #project(positions, width, height) {
    const n = positions.length / 3;
    const [x, y] = [new Float32Array(n), new Float32Array(n)];
    const layer = new Uint8Array(n);
    const t = this.#turn;
    const scale = ((Math.min(width, height) / 2) / this.#reach) * this.#zoom;
    const cx = width / 2 + this.#shift[0] * width;
    const cy = height / 2 + this.#shift[1] * height;
    const gain = (LAYERS - 1) / (2 * this.#reach);
    for (let i = 0; i < n; i += 1) {
      const [a, b, c] = [positions[3 * i], positions[3 * i + 1], positions[3 * i + 2]];
      const z = t[6] * a + t[7] * b + t[8] * c;
      const nearer = 1 + (0.25 * z) / this.#reach;
      x[i] = cx + (t[0] * a + t[1] * b + t[2] * c) * scale * nearer;
      y[i] = cy - (t[3] * a + t[4] * b + t[5] * c) * scale * nearer;
      const depth = (z + this.#reach) * gain;
      layer[i] = depth <= 0 ? 0 : depth >= LAYERS - 1 ? LAYERS - 1 : depth;
    }
    return { x, y, layer, scale };
  }

  #fogged(colour, ground, layer) {
    return css(mix(ground, pixel(channels(colour)), 1 - FOG * (1 - layer / (LAYERS - 1)) ** 1.4));
  }

  // Lines of one colour and layer are one path: a few hundred strokes instead of ten thousand.
  #stroke(ctx, batches, ground, width, theme) {
    ctx.lineCap = "round";
    for (let layer = 0; layer < LAYERS; layer += 1) {
      const mine = batches[layer];
      if (!mine) continue;
      const wide = width * (0.8 + (0.4 * layer) / LAYERS);
      const whole = new Path2D();
      const paths = [...mine].map(([colour, list]) => {
        const path = new Path2D();
        for (let k = 0; k < list.length; k += 4) {
          path.moveTo(list[k], list[k + 1]);
          path.lineTo(list[k + 2], list[k + 3]);
        }
        whole.addPath(path);
        return [colour, path];
      });
      if (wide > 3) {
        ctx.lineWidth = wide + 1.5;
        ctx.strokeStyle = this.#fogged(theme.dark ? "#000000" : "#2b2f36", ground, layer * 0.8);
        ctx.stroke(whole);
      }
      ctx.lineWidth = Math.max(1, wide);
      for (const [colour, path] of paths) {
        ctx.strokeStyle = this.#fogged(colour, ground, layer);
        ctx.stroke(path);
      }
    }
  }

  #sticks(ctx, { x, y, layer, scale }, ground, theme, radius) {
    const batches = new Array(LAYERS);
    const { bonds, elements } = this.#model;
    const most = this.#model.metric ? 0.5 * scale : Infinity;
    for (let k = 0; k < bonds.length; k += 2) {
      const [a, b] = [bonds[k], bonds[k + 1]];
      // A bond through the whole box is one that was not made whole.
      if (Math.abs(x[a] - x[b]) > most || Math.abs(y[a] - y[b]) > most) continue;
      const [mx, my] = [(x[a] + x[b]) / 2, (y[a] + y[b]) / 2];
      add(batches, layer[a], elementColour(elements[a], theme.dark), x[a], y[a], mx, my);
      add(batches, layer[b], elementColour(elements[b], theme.dark), mx, my, x[b], y[b]);
    }
    this.#stroke(ctx, batches, ground, 2 * radius * scale, theme);
  }

  // A tube through the alpha carbons, smoothed after Catmull and Rom.
  #ribbon(ctx, { x, y, layer, scale }, ground, theme) {
    const batches = new Array(LAYERS);
    const { backbone, chains } = this.#model;
    const hues = table();
    const most = 0.8 * scale;
    const last = backbone.length - 1;
    for (let k = 0; k < last; k += 1) {
      const [b, c] = [backbone[k], backbone[k + 1]];
      if (chains[b] !== chains[c] || Math.hypot(x[b] - x[c], y[b] - y[c]) > most) continue;
      const before = k > 0 && chains[backbone[k - 1]] === chains[b] ? backbone[k - 1] : b;
      const after = k < last - 1 && chains[backbone[k + 2]] === chains[c] ? backbone[k + 2] : c;
      const hue = Math.round((k / last) * HUES) / HUES;
      const colour = css(hues[Math.round(20 + hue * 215)]);
      let [px, py] = [x[b], y[b]];
      for (let s = 1; s <= SMOOTH; s += 1) {
        const t = s / SMOOTH;
        const qx = spline(x[before], x[b], x[c], x[after], t);
        const qy = spline(y[before], y[b], y[c], y[after], t);
        add(batches, Math.round(layer[b] + (layer[c] - layer[b]) * t), colour, px, py, qx, qy);
        [px, py] = [qx, qy];
      }
    }
    this.#stroke(ctx, batches, ground, 0.24 * scale, theme);
  }

  #dots(ctx, { x, y, layer, scale }, ground, theme) {
    const size = Math.max(2, 0.06 * scale);
    for (const i of byLayer(layer)) {
      ctx.fillStyle = this.#fogged(elementColour(this.#model.elements[i], theme.dark), ground, layer[i]);
      ctx.fillRect(x[i] - size / 2, y[i] - size / 2, size, size);
    }
  }

  #spheres(ctx, { x, y, layer, scale }, ground, theme, share) {
    const { elements } = this.#model;
    for (const i of byLayer(layer)) {
      const radius = Math.max(2, this.#model.radius(i) * share * scale * (0.8 + (0.4 * layer[i]) / LAYERS));
      const sprite = this.#sprite(elementColour(elements[i], theme.dark), layer[i] >> 2, ground);
      ctx.drawImage(sprite, x[i] - radius, y[i] - radius, 2 * radius, 2 * radius);
    }
  }

  #sprite(colour, depth, ground) {
    const key = `${colour}${depth}`;
    let canvas = this.#sprites.get(key);
    if (canvas) return canvas;
    canvas = document.createElement("canvas");
    canvas.width = canvas.height = SPRITE;
    const ctx = canvas.getContext("2d");
    const half = SPRITE / 2;
    const flat = pixel(channels(this.#fogged(colour, ground, depth * 4 + 3)));
    const shade = ctx.createRadialGradient(half * 0.7, half * 0.65, half * 0.1, half, half, half);
    shade.addColorStop(0, css(mix(flat, 0xffffffff, 0.45)));
    shade.addColorStop(0.45, css(flat));
    shade.addColorStop(1, css(mix(flat, 0xff000000, 0.45)));
    ctx.fillStyle = shade;
    ctx.beginPath();
    ctx.arc(half, half, half - 0.5, 0, 2 * Math.PI);
    ctx.fill();
    this.#sprites.set(key, canvas);
    return canvas;
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

function add(batches, layer, colour, ...line) {
  const mine = (batches[layer] ??= new Map());
  const list = mine.get(colour);
  if (list) list.push(...line);
  else mine.set(colour, line);
}

// Numbers of the atoms, those behind first.
function byLayer(layer) {
  const starts = new Uint32Array(LAYERS + 1);
  for (const value of layer) starts[value + 1] += 1;
  for (let k = 0; k < LAYERS; k += 1) starts[k + 1] += starts[k];
  const order = new Uint32Array(layer.length);
  for (let i = 0; i < layer.length; i += 1) order[starts[layer[i]]++] = i;
  return order;
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
