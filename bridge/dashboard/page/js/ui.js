// What all views are made of. Data only ever becomes text nodes and attributes: a simulation called
// "<script>" is shown as such.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on") && typeof value === "function") {
      node.addEventListener(name.slice(2).toLowerCase(), value);
    } else if (name === "class") {
      node.setAttribute("class", Array.isArray(value) ? value.filter(Boolean).join(" ") : value);
    } else if (name === "style") {
      // Through the CSSOM: the content-security policy forbids style attributes.
      for (const [key, text] of Object.entries(value)) node.style.setProperty(key, text);
    } else if (name === "dataset") {
      for (const [key, text] of Object.entries(value)) node.dataset[key] = text;
    } else if (name === "testid") {
      node.setAttribute("data-testid", value);
    } else if (name === "value" || name === "checked" || name === "disabled" || name === "selected") {
      node[name] = value;
    } else {
      node.setAttribute(name, value === true ? "" : String(value));
    }
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** An HTML element: `h("button", {class: "quiet", testid: "go", onclick: f}, "Go")`. */
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Set the text of `node` in place, if it has changed. */
export function put(node, text) {
  const next = text === null || text === undefined ? "" : String(text);
  if (node.headraceText === next) return;
  node.headraceText = next;
  if (node.firstChild?.nodeType === Node.TEXT_NODE && node.childNodes.length === 1) node.firstChild.data = next;
  else node.textContent = next;
}

/** Set an attribute, if it has changed; null removes it. */
export function attribute(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) {
    node.setAttribute(name, value);
  }
}

/**
 * Make the children of `parent` be one node for each item, reusing those that are there.
 * `nodes` is a Map that the caller keeps: key to {node, ...}; `make(item)` returns such an object,
 * `update(object, item)` brings it up to date. Nodes move only where the order has changed.
 */
export function keyed(parent, nodes, items, key, make, update) {
  const wanted = new Set();
  let before = null;
  for (const item of items) {
    const name = key(item);
    if (wanted.has(name)) continue;
    wanted.add(name);
    let object = nodes.get(name);
    if (!object) {
      object = make(item);
      nodes.set(name, object);
    }
    update?.(object, item);
    const next = before ? before.nextSibling : parent.firstChild;
    if (object.node !== next) parent.insertBefore(object.node, next);
    before = object.node;
  }
  for (const [name, object] of nodes) {
    if (wanted.has(name)) continue;
    object.node.remove();
    nodes.delete(name);
  }
}

// -- colours -----------------------------------------------------------------------------------

// Okabe and Ito (2008), in an order that keeps neighbours apart; the yellow, which is lost on
// white, comes last. https://jfly.uni-koeln.de/color/
const OKABE_ITO = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8c8c8c", "#c7b200"];
const VIRIDIS = [
  [68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141],
  [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37],
];

/** Viridis at `fraction` in [0, 1], as [red, green, blue] from 0 to 255. */
export function viridis(fraction) {
  const place = Math.min(1, Math.max(0, Number.isFinite(fraction) ? fraction : 0)) * (VIRIDIS.length - 1);
  const left = Math.min(VIRIDIS.length - 2, Math.floor(place));
  const share = place - left;
  return VIRIDIS[left].map((value, i) => Math.round(value + (VIRIDIS[left + 1][i] - value) * share));
}

/** `n` colours that the colour-blind tell apart: Okabe–Ito up to eight, else viridis by rank. */
export function palette(n) {
  if (n <= OKABE_ITO.length) return OKABE_ITO.slice(0, Math.max(0, n));
  return Array.from({ length: n }, (_, i) => {
    const [red, green, blue] = viridis(0.04 + (0.9 * i) / (n - 1));
    return `rgb(${red}, ${green}, ${blue})`;
  });
}

/** Present value of a design token of style.css: `token("--accent")`, for canvases. */
export function token(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// -- numbers and times -------------------------------------------------------------------------

const NONE = "–";
const THIN = "\u202f";
const finite = (value) => typeof value === "number" && Number.isFinite(value);

function integer(value) {
  if (!finite(value)) return NONE;
  const digits = String(Math.abs(Math.round(value)));
  const text = digits.length > 4 ? digits.replace(/\B(?=(\d{3})+$)/g, THIN) : digits;
  return (Math.round(value) < 0 ? "−" : "") + text;
}

function number(value, digits = 3) {
  if (value === null || value === undefined) return NONE;
  if (typeof value !== "number") return String(value);
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) {
    const [mantissa, power] = value.toExponential(Math.max(0, digits - 1)).split("e");
    return `${mantissa.replace("-", "−")}e${power.replace("+", "").replace("-", "−")}`;
  }
  const places = Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
  const text = value.toFixed(Math.min(6, places));
  const [whole, rest] = text.split(".");
  const head = integer(Number(whole));
  const sign = whole.startsWith("-") && !head.startsWith("−") ? "−" : "";
  return rest === undefined ? integer(value) : `${sign}${head}.${rest}`;
}

function duration(seconds) {
  if (!finite(seconds)) return NONE;
  const size = Math.abs(seconds);
  if (size < 1e-3) return `${number(seconds * 1e6, 2)}${THIN}µs`;
  if (size < 1) return `${number(seconds * 1e3, 3)}${THIN}ms`;
  if (size < 60) return `${seconds.toFixed(size < 10 ? 1 : 0)}${THIN}s`;
  const whole = Math.round(size);
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  const two = (value) => String(value).padStart(2, "0");
  if (days) return `${days}${THIN}d ${two(hours)}${THIN}h`;
  if (hours) return `${hours}${THIN}h ${two(minutes)}${THIN}min`;
  return `${minutes}:${two(whole % 60)}${THIN}min`;
}

function bytes(value) {
  if (!finite(value)) return NONE;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let power = 0;
  while (Math.abs(value) >= 1000 && power < units.length - 1) {
    value /= 1000;
    power += 1;
  }
  return `${power ? number(value, 3) : integer(value)}${THIN}${units[power]}`;
}

const clocks = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const dates = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false,
});

export const format = {
  none: NONE,
  integer,
  /** `digits` significant ones. */
  number,
  /** The same without zeros at the end: 250, 0.5, 3.1416. */
  short: (value, digits = 5) => (finite(value) && Math.abs(value) < 1e6 && (value === 0 || Math.abs(value) >= 1e-4)
    ? number(value, digits).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "") : number(value, digits)),
  /** 1 234 frames/s, 0.52 frames/s. */
  rate: (value) => (finite(value) ? number(value, value >= 100 ? 4 : 3) : NONE),
  percent: (share) => (finite(share) ? `${(share * 100).toFixed(share < 0.0995 ? 1 : 0)}${THIN}%` : NONE),
  bytes,
  duration,
  /** 12.3 ns: simulated time with its unit; ps become ns and µs where that is shorter. */
  time: (value, unit = "") => {
    if (!finite(value)) return NONE;
    if (unit === "ps" && Math.abs(value) >= 1e6) return `${number(value / 1e6, 4)}${THIN}µs`;
    if (unit === "ps" && Math.abs(value) >= 1e3) return `${number(value / 1e3, 4)}${THIN}ns`;
    return unit ? `${number(value, 4)}${THIN}${unit}` : number(value, 4);
  },
  value: (value, unit = "") => (unit ? `${format.short(value)}${THIN}${unit}` : format.short(value)),
  /** 14:03:22, of Unix seconds. */
  clock: (stamp) => (finite(stamp) && stamp > 0 ? clocks.format(stamp * 1000) : NONE),
  date: (stamp) => (finite(stamp) && stamp > 0 ? dates.format(stamp * 1000) : NONE),
  words: (name) => String(name ?? "").replaceAll("_", " "),
};

// -- small parts -------------------------------------------------------------------------------

// 16 x 16, drawn for this page.
const ICONS = {
  overview: "M2 2h5v5H2zM9 2h5v5H9zM2 9h5v5H2zM9 9h5v5H9z",
  embedding: "M2 2v12h12M5.5 9.5h.01M8 6.5h.01M9.5 10h.01M11.5 5h.01M7 11.5h.01M12.5 8h.01",
  molecule: "M5 9.8l5.2-4.2M5.3 11.4l4.4 1.2M5.5 11a2 2 0 1 1-4 0 2 2 0 0 1 4 0zM14 4a2.3 2.3 0 1 1-4.6 0A2.3 2.3 0 0 1 14 4zM13 13a1.7 1.7 0 1 1-3.4 0 1.7 1.7 0 0 1 3.4 0z",
  observables: "M2 2v12h12M4 10.5l3-4 2.5 2.5L13.500 4",
  pipeline: "M1.500 6h4v4h-4zM10.500 2h4v4h-4zM10.500 10h4v4h-4zM5.500 8h2.500V4h2.500M8 8v4h2.500",
  steering: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM8 10a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM2.200 7l3.900.4M13.800 7l-3.900.4M8 10v4",
  events: "M8 2c-2.600 0-4 1.800-4 4.200 0 3-1 4.300-1.700 5.300h11.400C13 10.500 12 9.200 12 6.200 12 3.800 10.600 2 8 2zM6.500 13.700c.3.500.8.800 1.500.8s1.200-.3 1.500-.8",
  play: "M4.500 2.500v11l9-5.500z", pause: "M4 2.500h3v11H4zM9 2.500h3v11H9z", stop: "M3.500 3.500h9v9h-9z",
  sun: "M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM8 1v1.500M8 13.500V15M1 8h1.500M13.500 8H15M3 3l1.100 1.100M11.900 11.900L13 13M13 3l-1.100 1.100M4.100 11.900L3 13",
  moon: "M13.500 9.700A6 6 0 0 1 6.300 2.500a6 6 0 1 0 7.200 7.200z",
  help: "M8 14.500a6.500 6.500 0 1 0 0-13 6.500 6.500 0 0 0 0 13zM6.200 6.300c.1-1.200.9-1.800 1.900-1.800s1.900.6 1.900 1.700c0 1.400-2 1.500-2 3M8 11.500h.01",
  bell: "M8 2c-2.600 0-4 1.800-4 4.200 0 3-1 4.300-1.700 5.300h11.400C13 10.500 12 9.200 12 6.200 12 3.800 10.600 2 8 2z",
  mute: "M8 2c-2.600 0-4 1.800-4 4.200 0 3-1 4.300-1.700 5.300h11.400C13 10.500 12 9.200 12 6.200 12 3.800 10.600 2 8 2zM2 2l12 12",
  cards: "M2 2.500h5v4H2zM9 2.500h5v4H9zM2 9.500h5v4H2zM9 9.500h5v4H9z", rows: "M2 4h12M2 8h12M2 12h12",
  grid: "M2 2h3v3H2zM6.500 2h3v3h-3zM11 2h3v3h-3zM2 6.500h3v3H2zM6.500 6.500h3v3h-3zM11 6.500h3v3h-3zM2 11h3v3H2zM6.500 11h3v3h-3zM11 11h3v3h-3z",
  close: "M3.500 3.500l9 9M12.500 3.500l-9 9", check: "M2.500 8.500l3.500 3.500 7.500-8", export: "M8 1.500v8.500M4.800 6.800L8 10l3.200-3.200M2.500 11v3h11v-3",
  link: "M6.500 3H3v10h10V9.500M9.500 2.500h4v4M13 3L7.500 8.500",
};

/** An icon by name; decoration only, so give the button that holds it a label. */
export function icon(name, size = 16) {
  return s("svg", { class: "icon", viewBox: "0 0 16 16", width: size, height: size, "aria-hidden": "true", focusable: "false" },
    s("path", { d: ICONS[name] ?? "" }));
}

/** A button with a label; `kind`: "", "primary", "danger", "quiet". */
export function button(label, onclick, { kind = "", testid = null, icon: picture = null, title = null, ...rest } = {}) {
  return h("button", { type: "button", class: ["button", kind], testid, title, onclick, ...rest },
    picture && icon(picture), label && h("span", {}, label));
}

/** A button that is an icon alone, with a label for those who do not see it. */
export function iconButton(name, label, onclick, { testid = null, ...rest } = {}) {
  return h("button", { type: "button", class: "button icon-only", "aria-label": label, title: label, testid, onclick, ...rest }, icon(name));
}

/**
 * A framed part of a view. Returns the element, with three more properties: `body` (put contents
 * there), `header`, and `setTitle(text)`. `actions`: elements at the right of the title.
 */
export function panel(title, { testid = null, actions = [], class: extra = "" } = {}) {
  const heading = h("h2", {}, title);
  const header = h("header", { class: "panel-header" }, heading, h("div", { class: "actions" }, actions));
  const body = h("div", { class: "panel-body" });
  const element = h("section", { class: ["panel", extra], testid, "aria-label": title }, header, body);
  return Object.assign(element, { body, header, setTitle: (text) => put(heading, text) });
}

/** Choices side by side: `choices` [{value, label, icon?, title?}]; returns the element, with `set(value)`. */
export function segmented(label, choices, value, onchange, { testid = null } = {}) {
  const group = h("div", { class: "segmented", role: "radiogroup", "aria-label": label, testid });
  const buttons = choices.map((choice) => h("button", {
    type: "button", role: "radio", title: choice.title ?? choice.label, "aria-label": choice.title ?? choice.label,
    testid: testid && `${testid}-${choice.value}`,
    onclick: () => { group.set(choice.value); onchange(choice.value); },
  }, choice.icon ? icon(choice.icon) : choice.label));
  group.append(...buttons);
  group.set = (next) => choices.forEach((choice, i) => {
    const on = choice.value === next;
    buttons[i].setAttribute("aria-checked", String(on));
    buttons[i].tabIndex = on ? 0 : -1;
  });
  group.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const here = buttons.indexOf(document.activeElement);
    if (!step || here < 0) return;
    event.preventDefault();
    const next = buttons[(here + step + buttons.length) % buttons.length];
    next.focus();
    next.click();
  });
  group.set(value);
  return group;
}

/** A drop-down list: `choices` [{value, label}] or strings. */
export function select(label, choices, value, onchange, { testid = null } = {}) {
  return h("select", { "aria-label": label, title: label, testid, onchange: (event) => onchange(event.target.value) },
    choices.map((choice) => (typeof choice === "object" ? choice : { value: choice, label: choice })).map((choice) =>
      h("option", { value: choice.value, selected: choice.value === value }, choice.label)));
}

const GLYPHS = { ok: "●", running: "●", paused: "❚❚", waiting: "○", finished: "✓", ended: "✓", lost: "✕", error: "✕", warning: "▲", info: "ℹ" };

/** A state with a shape as well as a colour; returns the element, with `set(state, label?)`. */
export function badge(state = "", { testid = null } = {}) {
  const glyph = h("span", { class: "glyph", "aria-hidden": "true" });
  const label = h("span", { class: "label" });
  const element = h("span", { class: "badge", testid }, glyph, label);
  element.set = (next, text = format.words(next)) => {
    attribute(element, "data-state", next);
    put(glyph, GLYPHS[next] ?? "●");
    put(label, text);
  };
  element.set(state);
  return element;
}

/** What stands where there is nothing yet. */
export function blank(title, text = "", ...more) {
  return h("div", { class: "blank", testid: "blank" }, h("p", { class: "blank-title" }, title), text && h("p", {}, text), more);
}

/** A small line drawing of recent values; returns the SVG, with `set(values)`. */
export function spark(width = 120, height = 24) {
  const area = s("path", { class: "spark-area" });
  const line = s("path", { class: "spark-line" });
  const drawing = s("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" }, area, line);
  let shown = "";
  drawing.set = (values) => {
    const list = values ?? [];
    const top = Math.max(1e-9, ...list.filter(finite));
    let path = "";
    for (let i = 0; i < list.length; i += 1) {
      if (!finite(list[i])) continue;
      const x = list.length > 1 ? (i * width) / (list.length - 1) : width;
      const y = height - 1.5 - (Math.max(0, list[i]) / top) * (height - 3);
      path += `${path ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    }
    if (path === shown) return;
    shown = path;
    line.setAttribute("d", path);
    area.setAttribute("d", path ? `${path}L${width} ${height}L0 ${height}Z` : "");
  };
  return drawing;
}

// -- toasts and dialogs ------------------------------------------------------------------------

/** Tell something for a few seconds; `level`: "info", "ok", "warning", "error". */
export function toast(message, { level = "info", seconds = level === "error" ? 10 : 5 } = {}) {
  const holder = document.getElementById("toasts");
  const close = () => element.remove();
  const element = h("div", { class: "toast", dataset: { level }, testid: "toast" },
    h("span", { class: "glyph", "aria-hidden": "true" }, { ok: "✓", error: "✕", warning: "▲" }[level] ?? "ℹ"),
    h("span", {}, String(message)), iconButton("close", "Dismiss", close));
  while (holder.children.length >= 4) holder.firstChild.remove();
  holder.append(element);
  setTimeout(close, seconds * 1000);
  return element;
}

/** A dialog over the page; resolves to what `close(value)` was called with, null when left. */
export function dialog(title, build, { testid = null } = {}) {
  return new Promise((resolve) => {
    let result = null;
    const close = (value = null) => {
      result = value;
      element.close();
    };
    const element = h("dialog", { class: "dialog", testid, "aria-label": title },
      h("header", {}, h("h2", {}, title), iconButton("close", "Close", () => close())));
    element.append(...[build(close)].flat());
    element.addEventListener("close", () => {
      element.remove();
      resolve(result);
    });
    element.addEventListener("click", (event) => {
      if (event.target === element) close();
    });
    document.body.append(element);
    element.showModal();
  });
}

/** Ask whether to go on; with `typed`, the word has to be typed first. Resolves to {reason} or null. */
export function confirm(title, text, { action, kind = "danger", typed = null, testid = null, reason = true } = {}) {
  return dialog(title, (close) => {
    const why = h("input", { type: "text", maxlength: 500, autocomplete: "off", testid: testid && `${testid}-reason` });
    const word = typed && h("input", { type: "text", autocomplete: "off", spellcheck: "false", testid: testid && `${testid}-word` });
    const go = button(action, null, { kind, testid, disabled: Boolean(typed), type: "submit" });
    word?.addEventListener("input", () => { go.disabled = word.value.trim().toLowerCase() !== typed.toLowerCase(); });
    return h("form", { class: "stack", method: "dialog", onsubmit: (event) => {
      event.preventDefault();
      if (!go.disabled) close({ reason: why.value.trim() });
    } },
      h("p", {}, text),
      typed && h("label", { class: "field" }, h("span", {}, "Type ", h("strong", {}, typed), " to confirm"), word),
      reason && h("label", { class: "field" }, h("span", {}, "Reason, for the ledger"), why),
      h("div", { class: "dialog-actions" }, button("Cancel", () => close(), { testid: testid && `${testid}-cancel` }), go));
  }, { testid: testid && `${testid}-dialog` });
}
