// What happened, newest first; and what raises an alarm.

import { sorted, sound } from "../alarms.js";
import {
  attribute,
  blank,
  format,
  h,
  icon,
  iconButton,
  keyed,
  panel,
  put,
  segmented,
} from "../ui.js";
import { virtualList } from "../virtual.js";
import { evidenceTable, frameButtons, framesOf } from "./evidence.js";

const ROW = 32;
const GRAVITY = { info: 0, warning: 1, error: 2 };
const GLYPH = { info: "ℹ", warning: "▲", error: "✕" };
const LEVELS = [
  { value: "info", label: "All" },
  { value: "warning", label: "Warnings", title: "Warnings and errors" },
  { value: "error", label: "Errors" },
];
const names = new Intl.Collator(undefined, { numeric: true });

// Rules of an `AlarmTable` as sentences; a rule that is not listed here is shown by its name.
const RULES = {
  lag_above: (value) =>
    value
      ? `A simulation is more than ${format.integer(value)} frames ahead of the analysis.`
      : null,
  no_frame_for: (value) => (value ? `No frame has come from a simulation for ${value}.` : null),
  non_finite: (value) =>
    value ? "Frames were set aside, as they hold values that are not finite." : null,
  event_level: (value) =>
    value && value !== "off"
      ? `An event of level ${value}${value === "warning" ? " or above" : ""} was told.`
      : null,
  webhook: (value) => (value ? "Each alarm is also sent to a webhook." : null),
};

function choices(control, all, values, chosen) {
  const list = [...values].sort(names.compare);
  if (
    list.length + 1 === control.options.length &&
    list.every((value, i) => control.options[i + 1].value === value)
  )
    return;
  control.replaceChildren(
    h("option", { value: "" }, all),
    ...list.map((value) => h("option", { value, selected: value === chosen }, format.words(value))),
  );
}

export function mount(root, context) {
  const { events, store } = context;
  let [query, level, kind, simulation] = ["", "info", "", ""];

  const search = h("input", {
    type: "search",
    placeholder: "Filter events  /",
    "aria-label": "Filter events",
    "data-filter": true,
    testid: "events-filter",
    oninput: (event) => {
      query = event.target.value.trim().toLowerCase();
      draw();
    },
  });
  const levels = segmented(
    "Level",
    LEVELS,
    level,
    (value) => {
      level = value;
      draw();
    },
    { testid: "events-level" },
  );
  const kinds = h(
    "select",
    {
      "aria-label": "Kind",
      testid: "events-kind",
      onchange: () => {
        kind = kinds.value;
        draw();
      },
    },
    h("option", { value: "" }, "All kinds"),
  );
  const who = h(
    "select",
    {
      "aria-label": "Simulation",
      testid: "events-simulation",
      onchange: () => {
        simulation = who.value;
        draw();
      },
    },
    h("option", { value: "" }, "All simulations"),
  );
  const shown = h("span", { class: "muted" });
  const list = virtualList({
    label: "Events, newest first",
    testid: "events",
    rowHeight: ROW,
    narrowHeight: 54,
    key: (event) => event.number,
    onSelect: choose,
    make() {
      const parts = {
        time: h("span", { class: "muted tabular" }),
        glyph: h("span", { class: "glyph" }),
        kind: h("span", { class: "clip event-kind" }),
        who: h("span", { class: "clip event-who" }),
        text: h("span", { class: "clip" }),
        source: h("span", { class: "clip muted event-source" }),
      };
      parts.node = h(
        "div",
        { class: "event-row", testid: "event-row" },
        parts.time,
        parts.glyph,
        parts.kind,
        parts.who,
        parts.text,
        parts.source,
      );
      return parts;
    },
    update(parts, event) {
      put(parts.time, format.clock(event.stamp));
      put(parts.glyph, GLYPH[event.level] ?? "ℹ");
      attribute(parts.glyph, "aria-label", event.level);
      put(parts.kind, format.words(event.kind));
      put(parts.who, event.simulation);
      put(parts.text, event.message);
      put(parts.source, event.source);
      attribute(parts.node, "data-level", event.level);
    },
  });
  const empty = blank(
    "Nothing happened yet",
    "Drops, gaps, restarts, failures and new models are told here.",
  );
  const main = panel("Events", { testid: "events-panel", class: "ledger-panel", actions: [shown] });
  main.body.classList.add("flush");
  main.body.append(
    h("div", { class: "toolbar inside" }, search, levels, kinds, who),
    list.element,
    empty,
  );

  // -- beside it: alarms, rules, and the chosen event
  const ring = iconButton(
    "mute",
    "Sound of alarms",
    () => {
      sound.on = !sound.on;
      heard();
    },
    { testid: "sound-toggle" },
  );
  function heard() {
    ring.replaceChildren(icon(sound.on ? "bell" : "mute"));
    attribute(ring, "aria-pressed", String(sound.on));
    attribute(
      ring,
      "title",
      sound.on ? "Alarms are heard; click for silence" : "Alarms are silent; click to hear them",
    );
  }
  const alarms = panel("Alarms", { testid: "alarms-panel", actions: [ring] });
  const on = h("ul", { class: "inspector-alarms", testid: "alarms-on" });
  const quiet = h("p", { class: "muted" }, "All quiet.");
  const rules = h("ul", { class: "rules", testid: "alarm-rules" });
  alarms.body.append(
    h(
      "div",
      { class: "stack" },
      on,
      quiet,
      h("div", { class: "rules-box" }, h("h3", {}, "An alarm is raised when"), rules),
    ),
  );
  const details = panel("Event", {
    testid: "event-details",
    class: "details",
    actions: [
      iconButton("close", "Close", () => {
        list.select(null);
        choose(null);
      }),
    ],
  });
  details.body.classList.add("stack");
  details.hidden = true;
  root.append(
    h(
      "div",
      { class: "split" },
      h("div", { class: "split-main" }, main),
      h("div", { class: "side stack" }, details, alarms),
    ),
  );
  const alarmNodes = new Map();

  function choose(event) {
    details.hidden = !event;
    if (!event) return;
    details.setTitle(format.words(event.kind));
    details.body.replaceChildren(
      ...[
        h("p", { class: "reason" }, event.message),
        frameButtons(framesOf(null, event.data, event.simulation)),
        evidenceTable(event.data),
        h(
          "dl",
          { class: "facts" },
          [
            ["Time", format.date(event.stamp)],
            ["Level", event.level],
            ["Simulation", event.simulation || format.none],
            ["Told by", event.source || format.none],
            ["Number", format.integer(event.number)],
          ].map(([label, value]) => [h("dt", {}, label), h("dd", {}, value)]),
        ),
      ].filter(Boolean),
    );
  }

  function keep(event, at) {
    if (at !== null && event.stamp > at) return false;
    if ((GRAVITY[event.level] ?? 0) < GRAVITY[level]) return false;
    if (kind && event.kind !== kind) return false;
    if (simulation && event.simulation !== simulation) return false;
    return (
      !query ||
      `${event.kind} ${event.simulation} ${event.message} ${event.source}`
        .toLowerCase()
        .includes(query)
    );
  }

  function draw() {
    const at = store.get("at") ?? null;
    const found = [];
    for (let i = events.list.length - 1; i >= 0; i -= 1)
      if (keep(events.list[i], at)) found.push(events.list[i]);
    list.set(found);
    list.element.hidden = found.length === 0;
    empty.hidden = found.length > 0;
    put(empty.firstChild, events.list.length ? "No event fits the filter" : "Nothing happened yet");
    put(
      shown,
      found.length === events.list.length
        ? `${format.integer(found.length)} event${found.length === 1 ? "" : "s"}`
        : `${format.integer(found.length)} of ${format.integer(events.list.length)}`,
    );
    choices(kinds, "All kinds", new Set(events.list.map((event) => event.kind)), kind);
    choices(
      who,
      "All simulations",
      new Set(events.list.map((event) => event.simulation).filter(Boolean)),
      simulation,
    );
  }

  function drawAlarms() {
    const active = sorted(store.get("alarms"));
    quiet.hidden = active.length > 0;
    keyed(
      on,
      alarmNodes,
      active,
      (alarm) => alarm.key,
      () => ({ node: h("li", {}) }),
      (parts, alarm) => {
        put(
          parts.node,
          alarm.since ? `${alarm.message} Since ${format.clock(alarm.since)}.` : alarm.message,
        );
        attribute(parts.node, "data-level", alarm.level);
      },
    );
  }

  function drawRules() {
    const table = store.get("run")?.alarms ?? store.get("overview")?.rules ?? {};
    const texts = Object.entries(table)
      .map(([rule, value]) => (rule in RULES ? RULES[rule](value) : null))
      .filter(Boolean);
    rules.replaceChildren(
      ...(texts.length
        ? texts
        : ["a rule of the run says so: the table alarms of its configuration has them."]
      ).map((text) => h("li", {}, text)),
    );
  }

  heard();
  draw();
  drawAlarms();
  drawRules();
  const ends = [
    events.on(draw),
    store.on("at", draw),
    store.on("alarms", drawAlarms),
    store.on("run", drawRules),
  ];
  return {
    unmount() {
      ends.forEach((end) => end());
      list.close();
    },
  };
}
