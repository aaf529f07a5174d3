// A card for each simulation. The same elements are laid out as cards, rows or tiles by the style
// sheet alone; numbers change in place, and only where the card is on the screen.

import { sorted } from "../alarms.js";
import { memory } from "../state.js";
import { attribute, badge, blank, format, h, keyed, put, segmented, select, spark } from "../ui.js";
import { droppedWhere, inspector } from "./simulation.js";

const GRAVITY = { lost: 0, paused: 1, waiting: 2, running: 3, finished: 4 };
const RESORT = 2000;
const ORDERS = [
  { value: "attention", label: "Needs attention" },
  { value: "name", label: "Name" },
  { value: "rate", label: "Frames/s" },
  { value: "ns_per_day", label: "ns/day" },
  { value: "lag", label: "Lag" },
  { value: "dropped", label: "Dropped" },
  { value: "time", label: "Time" },
];
const DENSITIES = [
  { value: "cards", label: "Cards", icon: "cards" },
  { value: "rows", label: "Rows", icon: "rows" },
  { value: "tiles", label: "Tiles", icon: "grid" },
];
const names = new Intl.Collator(undefined, { numeric: true });

export function mount(root, context) {
  const { store } = context;
  const cards = new Map();
  let [query, shownState, order, density] = [
    "",
    "all",
    memory.get("order", "attention"),
    memory.get("density", null),
  ];
  let [rows, sequence, arranged, arrangement] = [[], [], 0, ""];
  let concerned = new Map();
  // Of a run that is over, speeds are means of all of it.
  let mean = false;

  const search = h("input", {
    type: "search",
    placeholder: "Filter simulations  /",
    "aria-label": "Filter simulations",
    "data-filter": true,
    testid: "overview-filter",
    oninput: (event) => {
      query = event.target.value.trim().toLowerCase();
      arrange(true);
    },
  });
  const states = select(
    "State",
    [
      { value: "all", label: "All states" },
      "running",
      "paused",
      "waiting",
      "finished",
      "lost",
      { value: "attention", label: "with an alarm" },
    ],
    shownState,
    (value) => {
      shownState = value;
      arrange(true);
    },
    { testid: "overview-state" },
  );
  const sorting = select(
    "Order",
    ORDERS,
    order,
    (value) => {
      order = value;
      memory.set("order", value);
      arrange(true);
    },
    { testid: "overview-order" },
  );
  const dense = segmented(
    "Size of the cards",
    DENSITIES,
    density,
    (value) => {
      density = value;
      memory.set("density", value);
      arrange(true);
    },
    { testid: "overview-density" },
  );
  const shown = h("span", { class: "muted", testid: "overview-shown", "aria-live": "polite" });
  const toolbar = h(
    "div",
    { class: "toolbar" },
    search,
    states,
    h("label", { class: "line" }, h("span", { class: "muted" }, "Sort"), sorting),
    dense,
    shown,
  );
  const head = h(
    "div",
    { class: "cards-head", "aria-hidden": "true" },
    [
      "State",
      "Simulation",
      "Engine",
      "Time",
      "Step",
      "Speed",
      "Frames/s",
      "",
      "Lag",
      "Dropped",
      "Last command",
    ].map((label) => h("span", {}, label)),
  );
  const list = h("div", { class: "cards", role: "list", "aria-label": "Simulations" });
  const empty = blank("No simulation yet", "Cards appear here as simulations connect to the run.");
  const details = inspector(context, () => store.set("simulation", null));
  root.append(
    h(
      "div",
      { class: "overview" },
      h("div", { class: "overview-main" }, toolbar, head, list, empty),
      details.element,
    ),
  );

  const seen = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        const card = entry.target.headraceCard;
        card.visible = entry.isIntersecting;
        if (card.visible) refresh(card);
      }
    },
    { root: root.parentElement, rootMargin: "200px" },
  );

  function make(row) {
    const parts = { visible: true, row };
    const cell = (name, label) => {
      const value = h("span", { class: "value" });
      parts[name] = value;
      parts[`${name}Label`] = label && h("span", { class: "label" }, label);
      const node = h("span", { class: `cell ${name}` }, value, parts[`${name}Label`]);
      parts[`${name}Cell`] = node;
      return node;
    };
    parts.state = badge();
    parts.name = h("span", { class: "name" });
    parts.engine = h("span", { class: "engine" });
    parts.spark = spark(160, 28);
    parts.last = h("span", { class: "last" });
    parts.node = h(
      "article",
      {
        class: "card",
        role: "listitem",
        tabindex: 0,
        testid: `card-${row.name}`,
        "aria-label": `Simulation ${row.name}`,
        onclick: () => choose(row.name),
        onkeydown: (event) => {
          if (event.key !== "Enter" && event.key !== " ") return;
          event.preventDefault();
          choose(row.name);
        },
      },
      parts.state,
      parts.name,
      parts.engine,
      cell("time"),
      cell("step", "step"),
      cell("speed"),
      cell("rate", "frames/s"),
      parts.spark,
      cell("lag", "lag"),
      cell("drop", "dropped"),
      parts.last,
    );
    parts.node.headraceCard = parts;
    seen.observe(parts.node);
    return parts;
  }

  function choose(name) {
    store.set("simulation", store.get("simulation") === name ? null : name);
  }

  function refresh(parts) {
    const { row } = parts;
    parts.state.set(row.state);
    put(parts.name, row.name);
    attribute(parts.name, "title", row.name);
    put(parts.engine, row.engine);
    const unit = row.time_unit ?? "";
    put(parts.time, unit ? format.time(row.time, unit) : `t ${format.time(row.time)}`);
    put(parts.step, format.integer(row.step < 0 ? null : row.step));
    put(
      parts.speed,
      row.ns_per_day === null || row.ns_per_day === undefined
        ? ""
        : `${format.number(row.ns_per_day, 3)} ns/day`,
    );
    put(parts.rate, format.rate(row.rate));
    put(parts.rateLabel, mean ? "/s mean" : "frames/s");
    put(parts.lag, format.integer(row.lag));
    put(parts.drop, format.integer(row.dropped));
    const where = droppedWhere(row);
    attribute(parts.dropCell, "title", where || null);
    attribute(parts.dropCell, "data-bad", row.dropped > 0 || where ? "true" : null);
    attribute(parts.lagCell, "data-bad", concerned.get(row.name)?.late ? "true" : null);
    const command = row.last_command;
    put(
      parts.last,
      command
        ? `${command.what} · ${format.words(command.state)}${command.step >= 0 && command.step !== null ? ` at step ${format.integer(command.step)}` : ""}`
        : "no command yet",
    );
    attribute(parts.last, "data-none", command ? null : "true");
    attribute(parts.last, "title", parts.last.headraceText);
    parts.spark.set(row.spark);
    const alarmed = concerned.has(row.name) ? ", with an alarm" : "";
    attribute(
      parts.node,
      "aria-label",
      `Simulation ${row.name}, ${format.words(row.state)}${alarmed}`,
    );
    attribute(parts.node, "data-state", row.state);
    attribute(parts.node, "data-late", concerned.get(row.name)?.late ? "true" : null);
    attribute(parts.node, "data-alarm", concerned.get(row.name)?.level ?? null);
    attribute(parts.node, "aria-current", store.get("simulation") === row.name ? "true" : null);
  }

  const compare = {
    attention: (a, b) => rank(a) - rank(b) || names.compare(a.name, b.name),
    name: (a, b) => names.compare(a.name, b.name),
  };

  function rank(row) {
    const level = concerned.get(row.name)?.level;
    return level === "error"
      ? -2
      : level
        ? -1
        : (GRAVITY[row.state] ?? 3) === 3
          ? 3
          : GRAVITY[row.state];
  }

  function keep(row) {
    if (query && !`${row.name} ${row.engine ?? ""} ${row.state}`.toLowerCase().includes(query))
      return false;
    if (shownState === "attention") return concerned.has(row.name) || row.state === "lost";
    return shownState === "all" || row.state === shownState;
  }

  // The order of what changes all the time is taken anew every two seconds only, and never while
  // somebody points at a card, so that nothing jumps away.
  function arrange(force = false) {
    const fresh = `${rows.length}`;
    if (
      force ||
      fresh !== arrangement ||
      (performance.now() - arranged > RESORT && !list.matches(":hover"))
    ) {
      const by =
        compare[order] ??
        ((a, b) =>
          (b[order] ?? -Infinity) - (a[order] ?? -Infinity) || names.compare(a.name, b.name));
      sequence = [...rows].sort(by).map((row) => row.name);
      [arranged, arrangement] = [performance.now(), fresh];
    }
    const byName = new Map(rows.map((row) => [row.name, row]));
    const visible = sequence.map((name) => byName.get(name)).filter((row) => row && keep(row));
    const how = density ?? (rows.length <= 12 ? "cards" : rows.length <= 60 ? "rows" : "tiles");
    dense.set(how);
    attribute(list, "data-density", how);
    attribute(head, "data-density", how);
    head.hidden = how !== "rows" || visible.length === 0;
    keyed(
      list,
      cards,
      visible,
      (row) => row.name,
      make,
      (parts, row) => {
        parts.row = row;
        if (parts.visible) refresh(parts);
      },
    );
    for (const parts of cards.values()) if (!parts.node.isConnected) seen.unobserve(parts.node);
    empty.hidden = visible.length > 0;
    put(empty.firstChild, rows.length ? "No simulation fits the filter" : "No simulation yet");
    put(
      shown,
      visible.length === rows.length
        ? `${format.integer(rows.length)} simulation${rows.length === 1 ? "" : "s"}`
        : `${visible.length} of ${format.integer(rows.length)}`,
    );
  }

  function draw(data) {
    if (!data) return;
    rows = data.simulations ?? [];
    mean = Boolean(data.totals?.mean);
    put(head.children[5], mean ? "Mean speed" : "Speed");
    put(head.children[6], mean ? "Mean /s" : "Frames/s");
    concerned = new Map();
    for (const alarm of sorted(data.alarms)) {
      if (!alarm.simulation) continue;
      // Sorted: the first is the gravest.
      const known = concerned.get(alarm.simulation) ?? { level: alarm.level, late: false };
      known.late ||= alarm.kind.includes("lag");
      concerned.set(alarm.simulation, known);
    }
    arrange();
    inspect();
  }

  function inspect() {
    const name = store.get("simulation");
    const row = rows.find((one) => one.name === name);
    details.show(
      row,
      row && sorted(store.get("overview")?.alarms).filter((alarm) => alarm.simulation === name),
    );
    for (const parts of cards.values())
      attribute(parts.node, "aria-current", parts.row.name === name ? "true" : null);
  }

  const ends = [store.on("overview", draw), store.on("simulation", inspect)];
  draw(store.get("overview"));
  return {
    unmount() {
      ends.forEach((end) => end());
      seen.disconnect();
    },
  };
}
