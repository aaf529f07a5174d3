// What can be chosen about the picture.

import { numbersOf } from "../plots/columns.js";
import { MAP_NAMES } from "../viridis.js";
import { backgroundChoice } from "../views/export.js";
import { OWN } from "./colouring.js";

const LIMITS = [20_000, 100_000, 250_000, 500_000];

export class Controls {
  /** `on`: {space(k), axes(x, y), set({name: value}), fit()}; `config` is read, never written. */
  constructor(ui, config, on) {
    const { h } = ui;
    this.ui = ui;
    const choice = (label, testid, change) => h("select", { "aria-label": label, testid, onchange: (event) => change(event.target.value) });
    this.space = choice("Map", "embedding-map", (value) => on.space(Number(value)));
    this.x = choice("Horizontal axis", "embedding-x", (value) => on.axes(value, null));
    this.y = choice("Vertical axis", "embedding-y", (value) => on.axes(null, value));
    this.colour = choice("Colour by", "embedding-colour", (colour) => on.set({ colour }));
    const field = (label, control) => h("label", { class: "emb-field" }, h("span", {}, label), control);
    const check = (label, name, title) => h("label", { class: "emb-check", title },
      h("input", { type: "checkbox", checked: config[name], testid: `embedding-${name}`, onchange: (event) => on.set({ [name]: event.target.checked }) }), label);
    const segmented = (label, name, choices) => ui.segmented(label, choices, config[name], (value) => on.set({ [name]: value }), { testid: `embedding-${name}` });
    const limits = LIMITS.map((value) => ({ value, label: ui.format.integer(value) }));
    this.element = h("div", { class: "emb-controls", role: "toolbar", "aria-label": "How points are shown" },
      field("Map", this.space), field("x", this.x), field("y", this.y), field("Colour", this.colour),
      segmented("Shown as", "mode", [{ value: "points", label: "Points" }, { value: "density", label: "Density" }]),
      h("details", { class: "emb-more", ontoggle: unfold }, h("summary", { testid: "embedding-more" }, "Options"), h("div", { class: "emb-menu" },
        field("Size", segmented("Size of points", "size", [1, 2, 3].map((value) => ({ value, label: `${value}`, title: `${value} pixels` })))),
        field("Colour map", ui.select("Colour map", MAP_NAMES, config.map, (map) => on.set({ map }), { testid: "embedding-colours" })),
        field("Points at most", ui.select("Points at most", limits, config.limit, (limit) => on.set({ limit: Number(limit) }), { testid: "embedding-limit" })),
        field("Region", segmented("Region", "region", [{ value: "box", label: "Box" }, { value: "lasso", label: "Lasso" }])),
        check("Drag chooses frames", "selecting", "As with Shift held down"),
        check("Translucent", "translucent", "Points let others shine through"),
        check("Older versions pale", "dim", "Points of older model versions are drawn pale, behind the others"),
        check("Newest of each simulation", "heads", "A dot at the newest point of each simulation"),
        check("Decisions", "decisions", "Restarts as triangles, other commands as diamonds"),
        h("label", { class: "emb-check" }, "Pictures ", backgroundChoice(ui)),
      )),
      ui.button("Fit", on.fit, { kind: "quiet", testid: "embedding-fit", title: "Show everything (0, or a double click)" }),
    );
  }

  /** Fill the lists. */
  choices(columns, spaces, config) {
    const { h } = this.ui;
    const options = (list, value) => list.map((one) => h("option", { value: one.value, selected: one.value === value }, one.label));
    const numbers = numbersOf(columns);
    // A map may be known before its columns are.
    for (const text of [config.x, config.y]) if (!numbers.some((one) => one.text === text)) numbers.push({ text });
    const named = numbers.map(({ text }) => ({ value: text, label: text }));
    const now = spaces.findIndex((one) => one.x === config.x && one.y === config.y);
    const maps = spaces.map((one, k) => ({ value: String(k), label: one.title }));
    if (now < 0) maps.push({ value: "-1", label: "own choice" });
    this.space.replaceChildren(...options(maps, String(now)));
    this.x.replaceChildren(...options(named, config.x));
    this.y.replaceChildren(...options(named, config.y));
    named.sort((a, b) => liking(b.value) - liking(a.value));
    this.colour.replaceChildren(...options(OWN, config.colour), h("optgroup", { label: "Results" }, options(named, config.colour)));
  }
}

// Columns that people colour by come first.
function liking(name) {
  return /novel|outlier/i.test(name) ? 2 : /energy|epot|potential/i.test(name) ? 1 : 0;
}

// The menu hangs from the right end of its title, unless that leaves too little room at the left.
function unfold({ currentTarget: fold }) {
  const room = fold.closest(".emb-panel")?.getBoundingClientRect();
  const menu = fold.lastElementChild;
  fold.removeAttribute("data-left");
  if (fold.open && room && menu.getBoundingClientRect().left < room.left) fold.dataset.left = "true";
}
