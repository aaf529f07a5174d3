// Everything about one simulation, beside the cards.

import { attribute, badge, format, h, icon, iconButton, keyed, put, spark } from "../ui.js";

/** Where frames were lost, as text: "2 queue full, 1 incomplete"; empty if nowhere. */
export function droppedWhere(row) {
  return Object.entries(row?.dropped_by ?? {})
    .filter(([, n]) => n)
    .map(([where, n]) => `${format.integer(n)} ${format.words(where)}`)
    .join(", ");
}

const LINES = [
  ["Engine", (row) => row.engine || format.none],
  ["Time", (row) => format.time(row.time, row.time_unit ?? "")],
  ["Step", (row) => format.integer(row.step < 0 ? null : row.step)],
  ["Frames", (row) => format.integer(row.frames)],
  [
    "Speed",
    (row) =>
      typeof row.ns_per_day === "number"
        ? `${format.number(row.ns_per_day, 3)} ns/day`
        : format.none,
  ],
  ["Frames/s", (row) => format.rate(row.rate)],
  ["Lag", (row) => `${format.integer(row.lag)} frames`],
  ["Dropped", (row) => droppedWhere(row) || format.integer(row.dropped)],
  ["Set aside", (row) => format.integer(row.quarantined)],
  [
    "Queue",
    (row) =>
      typeof row.pressure === "number" ? `${format.percent(row.pressure)} full` : format.none,
  ],
  ["Restarts that took effect", (row) => format.integer(row.epoch)],
  ["Life of the producer", (row) => format.integer(row.incarnation)],
  ["Connected", (row) => (row.connected ? "yes" : "no")],
];

const LINKS = [
  ["molecule", "Molecule"],
  ["observables", "Series"],
  ["steering", "Steer"],
  ["events", "Events"],
];

/** The panel; `show(row, alarms)` brings it up to date, undefined hides it. */
export function inspector(context, onClose) {
  const title = h("h2", {});
  const state = badge();
  const drawing = spark(280, 48);
  const values = LINES.map(([label]) => ({ label, node: h("dd", {}) }));
  const last = h("p", { class: "inspector-last" });
  const alarms = h("ul", { class: "inspector-alarms" });
  const shown = new Map();
  const element = h(
    "aside",
    {
      class: "inspector panel",
      testid: "simulation-details",
      "aria-label": "The chosen simulation",
      hidden: true,
    },
    h(
      "header",
      { class: "panel-header" },
      title,
      state,
      h("div", { class: "actions" }, iconButton("close", "Close", onClose)),
    ),
    h(
      "div",
      { class: "panel-body stack" },
      alarms,
      drawing,
      h(
        "dl",
        { class: "facts" },
        values.map(({ label, node }) => [h("dt", {}, label), node]),
      ),
      h("div", {}, h("h3", {}, "Last command"), last),
      h(
        "div",
        { class: "inspector-links" },
        LINKS.map(([view, label]) =>
          h("a", { class: "button small", href: `#/${view}` }, icon(view, 14), label),
        ),
      ),
    ),
  );

  function show(row, about = []) {
    element.hidden = !row;
    if (!row) return;
    put(title, row.name);
    attribute(title, "title", row.name);
    state.set(row.state);
    drawing.set(row.spark);
    values.forEach(({ node }, i) => put(node, LINES[i][1](row)));
    const command = row.last_command;
    put(
      last,
      command
        ? `${command.what}: ${format.words(command.state)}${Number.isFinite(command.step) && command.step >= 0 ? ` at step ${format.integer(command.step)}` : ""}`
        : "None yet.",
    );
    keyed(
      alarms,
      shown,
      about,
      (alarm) => alarm.key,
      () => ({ node: h("li", {}) }),
      (parts, alarm) => {
        put(parts.node, alarm.message);
        attribute(parts.node, "data-level", alarm.level);
      },
    );
  }

  return { element, show };
}
