// What all views are made of; handed to them as `context.ui`.

import { attribute, h, put, s } from "./dom.js";
import { format } from "./format.js";

export { palette, viridis } from "./colours.js";
export { attribute, h, keyed, put, s } from "./dom.js";
export { format };

/** Present value of a design token of style.css: `token("--accent")`, for canvases. */
export function token(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// -- small parts -------------------------------------------------------------------------------

// 16 x 16, drawn for this page.
const ICONS = {
  overview: "M2 2h5v5H2zM9 2h5v5H9zM2 9h5v5H2zM9 9h5v5H9z",
  embedding: "M2 2v12h12M5.5 9.5h.01M8 6.5h.01M9.5 10h.01M11.5 5h.01M7 11.5h.01M12.5 8h.01",
  molecule:
    "M5 9.8l5.2-4.2M5.3 11.4l4.4 1.2M5.5 11a2 2 0 1 1-4 0 2 2 0 0 1 4 0zM14 4a2.3 2.3 0 1 1-4.6 0A2.3 2.3 0 0 1 14 4zM13 13a1.7 1.7 0 1 1-3.4 0 1.7 1.7 0 0 1 3.4 0z",
  observables: "M2 2v12h12M4 10.5l3-4 2.5 2.5L13.500 4",
  pipeline: "M1.500 6h4v4h-4zM10.500 2h4v4h-4zM10.500 10h4v4h-4zM5.500 8h2.500V4h2.500M8 8v4h2.500",
  steering:
    "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM8 10a2 2 0 1 0 0-4 2 2 0 0 0 0 4zM2.200 7l3.900.4M13.800 7l-3.900.4M8 10v4",
  events:
    "M8 2c-2.600 0-4 1.800-4 4.200 0 3-1 4.300-1.700 5.300h11.400C13 10.500 12 9.200 12 6.200 12 3.800 10.600 2 8 2zM6.500 13.700c.3.500.8.800 1.500.8s1.200-.3 1.500-.8",
  play: "M4.500 2.500v11l9-5.500z",
  pause: "M4 2.500h3v11H4zM9 2.500h3v11H9z",
  stop: "M3.500 3.500h9v9h-9z",
  sun: "M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM8 1v1.500M8 13.500V15M1 8h1.500M13.500 8H15M3 3l1.100 1.100M11.900 11.900L13 13M13 3l-1.100 1.100M4.100 11.900L3 13",
  moon: "M13.500 9.700A6 6 0 0 1 6.300 2.500a6 6 0 1 0 7.200 7.200z",
  help: "M8 14.500a6.500 6.500 0 1 0 0-13 6.500 6.500 0 0 0 0 13zM6.200 6.300c.1-1.200.9-1.800 1.900-1.800s1.900.6 1.900 1.700c0 1.400-2 1.500-2 3M8 11.500h.01",
  bell: "M8 2c-2.600 0-4 1.800-4 4.200 0 3-1 4.300-1.700 5.300h11.400C13 10.500 12 9.200 12 6.200 12 3.800 10.600 2 8 2z",
  mute: "M8 2c-2.600 0-4 1.800-4 4.200 0 3-1 4.300-1.700 5.300h11.400C13 10.500 12 9.200 12 6.200 12 3.800 10.600 2 8 2zM2 2l12 12",
  cards: "M2 2.500h5v4H2zM9 2.500h5v4H9zM2 9.500h5v4H2zM9 9.500h5v4H9z",
  rows: "M2 4h12M2 8h12M2 12h12",
  grid: "M2 2h3v3H2zM6.500 2h3v3h-3zM11 2h3v3h-3zM2 6.500h3v3H2zM6.500 6.500h3v3h-3zM11 6.500h3v3h-3zM2 11h3v3H2zM6.500 11h3v3h-3zM11 11h3v3h-3z",
  close: "M3.500 3.500l9 9M12.500 3.500l-9 9",
  check: "M2.500 8.500l3.500 3.500 7.500-8",
  export: "M8 1.500v8.500M4.800 6.800L8 10l3.200-3.200M2.500 11v3h11v-3",
  link: "M6.500 3H3v10h10V9.500M9.500 2.500h4v4M13 3L7.500 8.500",
};

/** An icon by name; decoration only, so give the button that holds it a label. */
export function icon(name, size = 16) {
  return s(
    "svg",
    {
      class: "icon",
      viewBox: "0 0 16 16",
      width: size,
      height: size,
      "aria-hidden": "true",
      focusable: "false",
    },
    s("path", { d: ICONS[name] ?? "" }),
  );
}

/** A button with a label; `kind`: "", "primary", "danger", "quiet". */
export function button(
  label,
  onclick,
  { kind = "", testid = null, icon: picture = null, title = null, ...rest } = {},
) {
  return h(
    "button",
    { type: "button", class: ["button", kind], testid, title, onclick, ...rest },
    picture && icon(picture),
    label && h("span", {}, label),
  );
}

/** A button that is an icon alone, with a label for those who do not see it. */
export function iconButton(name, label, onclick, { testid = null, ...rest } = {}) {
  return h(
    "button",
    {
      type: "button",
      class: "button icon-only",
      "aria-label": label,
      title: label,
      testid,
      onclick,
      ...rest,
    },
    icon(name),
  );
}

/**
 * A framed part of a view. Returns the element, with three more properties: `body` (put contents
 * there), `header`, and `setTitle(text)`. `actions`: elements at the right of the title.
 */
export function panel(title, { testid = null, actions = [], class: extra = "" } = {}) {
  const heading = h("h2", {}, title);
  const header = h(
    "header",
    { class: "panel-header" },
    heading,
    h("div", { class: "actions" }, actions),
  );
  const body = h("div", { class: "panel-body" });
  const element = h(
    "section",
    { class: ["panel", extra], testid, "aria-label": title },
    header,
    body,
  );
  return Object.assign(element, { body, header, setTitle: (text) => put(heading, text) });
}

/** Choices side by side: `choices` [{value, label, icon?, title?}]; returns the element, with `set(value)`. */
export function segmented(label, choices, value, onchange, { testid = null } = {}) {
  const group = h("div", { class: "segmented", role: "radiogroup", "aria-label": label, testid });
  const buttons = choices.map((choice) =>
    h(
      "button",
      {
        type: "button",
        role: "radio",
        title: choice.title ?? choice.label,
        "aria-label": choice.title ?? choice.label,
        testid: testid && `${testid}-${choice.value}`,
        onclick: () => {
          group.set(choice.value);
          onchange(choice.value);
        },
      },
      choice.icon ? icon(choice.icon) : choice.label,
    ),
  );
  group.append(...buttons);
  group.set = (next) => {
    // Where none is chosen, the keyboard comes in at the first one.
    const at = Math.max(
      0,
      choices.findIndex((choice) => choice.value === next),
    );
    choices.forEach((choice, i) => {
      buttons[i].setAttribute("aria-checked", String(choice.value === next));
      buttons[i].tabIndex = i === at ? 0 : -1;
    });
  };
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
  return h(
    "select",
    {
      "aria-label": label,
      title: label,
      testid,
      onchange: (event) => onchange(event.target.value),
    },
    choices
      .map((choice) => (typeof choice === "object" ? choice : { value: choice, label: choice }))
      .map((choice) =>
        h("option", { value: choice.value, selected: choice.value === value }, choice.label),
      ),
  );
}

const GLYPHS = {
  ok: "●",
  running: "●",
  paused: "❚❚",
  waiting: "○",
  finished: "✓",
  ended: "✓",
  lost: "✕",
  error: "✕",
  warning: "▲",
  info: "ℹ",
};

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
  return h(
    "div",
    { class: "blank", testid: "blank" },
    h("p", { class: "blank-title" }, title),
    text && h("p", {}, text),
    more,
  );
}

/** A small line drawing of recent values; returns the SVG, with `set(values)`. */
export function spark(width = 120, height = 24) {
  const area = s("path", { class: "spark-area" });
  const line = s("path", { class: "spark-line" });
  const drawing = s(
    "svg",
    {
      class: "spark",
      viewBox: `0 0 ${width} ${height}`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    },
    area,
    line,
  );
  let shown = "";
  drawing.set = (values) => {
    const list = values ?? [];
    const top = Math.max(1e-9, ...list.filter(Number.isFinite));
    let path = "";
    for (let i = 0; i < list.length; i += 1) {
      if (!Number.isFinite(list[i])) continue;
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
  const element = h(
    "div",
    { class: "toast", dataset: { level }, testid: "toast" },
    h(
      "span",
      { class: "glyph", "aria-hidden": "true" },
      { ok: "✓", error: "✕", warning: "▲" }[level] ?? "ℹ",
    ),
    h("span", {}, String(message)),
    iconButton("close", "Dismiss", close),
  );
  while (holder.children.length >= 4) holder.firstChild.remove();
  holder.append(element);
  setTimeout(close, seconds * 1000);
  return element;
}

/** A dialog over the page; resolves to what `close(value)` was called with, null when left. */
export function dialog(title, build, { testid = null, wide = false } = {}) {
  return new Promise((resolve) => {
    let result = null;
    const close = (value = null) => {
      result = value;
      element.close();
    };
    const element = h(
      "dialog",
      { class: ["dialog", wide && "wide"], testid, "aria-label": title },
      h(
        "header",
        {},
        h("h2", {}, title),
        iconButton("close", "Close", () => close()),
      ),
    );
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
export function confirm(
  title,
  text,
  { action, kind = "danger", typed = null, testid = null, reason = true } = {},
) {
  return dialog(
    title,
    (close) => {
      const why = h("input", {
        type: "text",
        maxlength: 500,
        autocomplete: "off",
        testid: testid && `${testid}-reason`,
      });
      const word =
        typed &&
        h("input", {
          type: "text",
          autocomplete: "off",
          spellcheck: "false",
          testid: testid && `${testid}-word`,
        });
      const go = button(action, null, { kind, testid, disabled: Boolean(typed), type: "submit" });
      word?.addEventListener("input", () => {
        go.disabled = word.value.trim().toLowerCase() !== typed.toLowerCase();
      });
      return h(
        "form",
        {
          class: "stack",
          method: "dialog",
          onsubmit: (event) => {
            event.preventDefault();
            if (!go.disabled) close({ reason: why.value.trim() });
          },
        },
        h("p", {}, text),
        typed &&
          h(
            "label",
            { class: "field" },
            h("span", {}, "Type ", h("strong", {}, typed), " to confirm"),
            word,
          ),
        reason && h("label", { class: "field" }, h("span", {}, "Reason, for the ledger"), why),
        h(
          "div",
          { class: "dialog-actions" },
          button("Cancel", () => close(), { testid: testid && `${testid}-cancel` }),
          go,
        ),
      );
    },
    { testid: testid && `${testid}-dialog` },
  );
}
