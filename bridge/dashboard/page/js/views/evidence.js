// The numbers behind a decision, and the frames that they came from.

import { store } from "../state.js";
import { format, h, icon } from "../ui.js";

const scalar = (value) => value === null || typeof value !== "object";

function show(value) {
  if (typeof value === "number")
    return Number.isInteger(value) ? format.integer(value) : format.short(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (value === null || value === undefined) return format.none;
  if (Array.isArray(value)) {
    const some = value
      .slice(0, 12)
      .map((one) => (scalar(one) ? show(one) : "{…}"))
      .join(", ");
    return value.length > 12 ? `${some}, … (${value.length} in all)` : some;
  }
  if (typeof value === "object")
    return Object.entries(value)
      .slice(0, 12)
      .map(([key, one]) => `${format.words(key)} ${scalar(one) ? show(one) : "{…}"}`)
      .join(", ");
  return String(value);
}

/** A table of names and values, or null where there are none. */
export function evidenceTable(data, { testid = null } = {}) {
  // Frames have buttons of their own.
  const entries = Object.entries(data ?? {}).filter(
    ([, value]) =>
      !reference(value) && !(Array.isArray(value) && value.length && value.every(reference)),
  );
  if (!entries.length) return null;
  return h(
    "table",
    { class: "evidence", testid },
    h(
      "tbody",
      {},
      entries.map(([key, value]) =>
        h("tr", {}, h("th", { scope: "row" }, format.words(key)), h("td", {}, show(value))),
      ),
    ),
  );
}

function reference(value) {
  return (
    value &&
    typeof value === "object" &&
    typeof value.simulation === "string" &&
    Number.isInteger(value.offset) &&
    value.offset >= 0
  );
}

/** Frames that a command or an event names: [{simulation, offset}], each once. */
export function framesOf(frame, data, simulation) {
  const found = new Map();
  const add = (one) =>
    found.set(`${one.simulation}:${one.offset}`, {
      simulation: one.simulation,
      offset: one.offset,
    });
  const search = (value, depth) => {
    if (depth > 4 || !value || typeof value !== "object" || found.size >= 24) return;
    if (reference(value)) return add(value);
    for (const one of Array.isArray(value) ? value : Object.values(value)) search(one, depth + 1);
  };
  if (reference(frame)) add(frame);
  search(data, 0);
  for (const key of ["offset", "frame", "frame_offset"]) {
    if (simulation && Number.isInteger(data?.[key]) && data[key] >= 0)
      add({ simulation: data?.simulation ?? simulation, offset: data[key] });
  }
  return [...found.values()];
}

/** Show frames in the molecule view. */
export function lookAt(frames) {
  store.set("frames", frames);
  if (frames.length) store.set("simulation", frames[0].simulation);
  location.hash = "#/molecule";
}

/** Buttons that show frames, or null where there are none. */
export function frameButtons(frames, { testid = null, most = 6 } = {}) {
  if (!frames.length) return null;
  return h(
    "div",
    { class: "line frames" },
    frames.slice(0, most).map((frame) =>
      h(
        "button",
        {
          type: "button",
          class: "button small",
          testid: testid && `${testid}-${frame.offset}`,
          title: "Show in the molecule view",
          onclick: (event) => {
            event.stopPropagation();
            lookAt([frame]);
          },
        },
        icon("molecule", 14),
        `${frame.simulation} · frame ${format.integer(frame.offset)}`,
      ),
    ),
    frames.length > 1 &&
      h(
        "button",
        { type: "button", class: "button small quiet", onclick: () => lookAt(frames) },
        `all ${frames.length} frames`,
      ),
  );
}
