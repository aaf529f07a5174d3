// Beside the picture: what its colours mean; below it: the versions of the model.

import { versionName } from "./colouring.js";

const MOST_LISTED = 250;
const MOST_PIECES = 16;

export class Legend {
  /** Names of simulations that are not drawn. */
  hidden = new Set();
  #text = "";

  /** `changed()` is called when simulations are hidden or shown. */
  constructor(ui, changed) {
    this.ui = ui;
    this.changed = changed;
    this.element = ui.h("div", { class: "emb-legend", role: "group", "aria-label": "Legend", testid: "embedding-legend", hidden: true });
  }

  /** `classes` [{name, colour}], or null for no legend; `choose`: entries hide and show. */
  show(classes, choose) {
    const text = classes ? JSON.stringify([classes, choose]) : "";
    if (text === this.#text) return;
    this.#text = text;
    this.element.hidden = !classes;
    if (!classes) return;
    const entries = classes.slice(0, MOST_LISTED).map((one) => this.#entry(one, choose ? classes : null));
    const more = classes.length - entries.length;
    this.element.replaceChildren(...entries, ...(more > 0 ? [this.ui.h("span", { class: "muted" }, `and ${more} more`)] : []));
  }

  #entry({ name, colour }, all) {
    const { h } = this.ui;
    const parts = [h("span", { class: "emb-swatch", style: { background: colour } }), h("span", { class: "clip" }, name)];
    if (!all) return h("span", { class: "emb-entry" }, parts);
    return h("button", {
      type: "button", class: "emb-entry", "aria-pressed": String(!this.hidden.has(name)), dataset: { name },
      title: `${name}: click to hide or show, double click for this one alone`,
      onclick: () => {
        if (!this.hidden.delete(name)) this.hidden.add(name);
        this.#pressed();
      },
      ondblclick: () => {
        const alone = this.hidden.size === all.length - 1 && !this.hidden.has(name);
        this.hidden = new Set(alone ? [] : all.map((one) => one.name).filter((other) => other !== name));
        this.#pressed();
      },
    }, parts);
  }

  #pressed() {
    for (const node of this.element.querySelectorAll("[data-name]")) {
      this.ui.attribute(node, "aria-pressed", String(!this.hidden.has(node.dataset.name)));
    }
    this.changed();
  }
}

export class Strip {
  constructor(ui) {
    this.ui = ui;
    this.element = ui.h("div", { class: "emb-strip", role: "group", "aria-label": "Model versions", testid: "embedding-versions", hidden: true });
  }

  /** Versions along the time of the run, each from where its first points came; `newest` Unix time. */
  show(versions, newest) {
    const { ui } = this;
    this.element.hidden = !versions.some((one) => one.version > 0);
    if (this.element.hidden) return;
    const end = Math.max(versions.at(-1).stamp, newest);
    const least = 0.02 * (end - versions[0].stamp);
    const colours = ui.palette(versions.length);
    // Of hundreds of versions, several share a piece.
    const size = Math.ceil(versions.length / MOST_PIECES);
    const pieces = [];
    for (let k = 0; k < versions.length; k += size) {
      pieces.push(this.#piece(versions.slice(k, k + size), versions[k + size]?.stamp ?? end, least, colours[k]));
    }
    this.element.replaceChildren(ui.h("span", { class: "emb-strip-title" }, "Model"), ...pieces);
  }

  #piece(versions, until, least, colour) {
    const { format, h } = this.ui;
    const [first, last] = [versions[0], versions.at(-1)];
    const name = first === last ? versionName(first.version) : `${versionName(first.version)}–${last.version}`;
    const count = versions.reduce((sum, one) => sum + one.count, 0);
    const words = `Model ${name}, since ${format.clock(first.stamp)}, ${format.integer(count)} of the points shown. `
      + "Points of different versions are comparable as far as the versions are aligned.";
    return h("span", {
      class: "emb-version", tabindex: 0, title: words, "aria-label": words, testid: `embedding-version-${first.version}`,
      style: { "flex-grow": String(Math.max(least, until - first.stamp) || 1), "border-color": colour },
    }, name);
  }
}
