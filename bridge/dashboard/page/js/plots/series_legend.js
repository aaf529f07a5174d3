// The names of lines: buttons that show and hide them, with their values at the cursor.

import { lineStyle } from "./theme.js";

const BORDERS = { 0: "solid", 7: "dashed", 2: "dotted", 9: "double" };

export class SeriesLegend {
  /** `toggle(series, k)` is called when a line is to come or to go; returns whether it shows now. */
  constructor(h, toggle) {
    this._h = h;
    this._toggle = toggle;
    this._values = [];
    this.element = h("div", { class: "obs-legend", role: "group", "aria-label": "Lines" });
  }

  /** `lines`: [{series, name, shown}]. */
  make(lines, dark) {
    this._values = [];
    this.element.replaceChildren(...lines.map((line, k) => this._button(line, k, dark)));
  }

  /** Show what `valueAt(k)` says of each line. */
  tell(valueAt) {
    this._values.forEach((value, k) => {
      value.textContent = valueAt(k);
    });
  }

  _button({ series, name, shown }, k, dark) {
    const h = this._h;
    const mark = h("span", { class: "obs-mark", "aria-hidden": "true" });
    const { colour, dash } = lineStyle(k, dark);
    mark.style.borderTop = `3px ${BORDERS[dash[0] ?? 0]} ${colour}`;
    const value = h("span", { class: "obs-value" });
    this._values.push(value);
    const button = h(
      "button",
      { type: "button", class: "obs-line", "aria-pressed": String(shown) },
      mark, h("span", {}, name), value,
    );
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(this._toggle(series, k)));
    });
    return button;
  }
}
