// The operators as a graph, with what flows and what waits; the engine, and the models.

import { attribute, blank, format, h, icon, keyed, panel, put } from "../ui.js";
import { graph } from "./graph.js";

const COLUMNS = ["Operator", "Kind", "Frames/s", "Share of time", "Time spent", "State", "Model"];
const TITLES = {
  "Share of time": "Of the time since the last few statuses, how much this operator took",
  State: "What it keeps, of all simulations together, when it was last saved",
};
const dash = (value, show) => (value === null || value === undefined ? format.none : show(value));

const ENGINE = [
  ["Engine", (one) => format.words(one.engine)],
  ["State", (one) => format.words(one.state)],
  ["Frames", (one) => format.integer(one.frames)],
  ["Frames/s", (one) => format.rate(one.rate)],
  ["Latency, median", (one) => format.duration(one.latency)],
  ["Latency, 99 %", (one) => format.duration(one.latency_99)],
  ["Lag", (one) => dash(one.lag, (lag) => `${format.integer(lag)} frames`)],
  ["Batches", (one) => format.integer(one.batches)],
  ["Decisions", (one) => format.integer(one.decisions)],
  ["Sent", (one) => format.integer(one.sent)],
  ["Events", (one) => format.integer(one.events)],
  ["Set aside", (one) => format.integer(one.quarantined)],
  ["Analysed again", (one) => format.integer(one.replayed)],
  ["Checkpoints", (one) => format.integer(one.checkpoints)],
  [
    "State of all operators",
    (one) =>
      Object.keys(one.states ?? {}).length
        ? format.bytes(Object.values(one.states).reduce((a, b) => a + b, 0))
        : format.none,
  ],
  ["Up for", (one) => format.duration(one.uptime)],
  ["Last heard", (one) => format.clock(one.stamp)],
];

/** What an operator keeps, saved with each checkpoint. */
function stateOf(node) {
  if (node.scope === "frame") return "none";
  if (node.state_bytes === 0) return "none";
  return dash(node.state_bytes, format.bytes);
}

/** Links to the engine's own pages: [{label, href}], http and https alone. */
function pages(engine) {
  const given = engine?.links ?? [];
  const list = Array.isArray(given)
    ? given.map((one) =>
        typeof one === "string"
          ? { href: one }
          : { href: one.url ?? one.href, label: one.name ?? one.label },
      )
    : Object.entries(given).map(([label, href]) => ({ label, href }));
  return list.filter(({ href }) => /^https?:\/\//i.test(href ?? ""));
}

export function mount(root, context) {
  const { connection } = context;
  let [data, chosen] = [null, null];
  const rows = new Map();
  const facts = new Map();
  const models = new Map();

  const picture = graph((id) => {
    chosen = chosen === id ? null : id;
    picture.select(chosen);
    draw();
  });
  const drawing = panel("Flow", { testid: "pipeline-flow" });
  const empty = blank(
    "No pipeline yet",
    "The graph appears once an engine has told of its operators.",
  );
  drawing.body.classList.add("graph-body");
  drawing.body.append(picture.element, empty);
  const legend = h(
    "div",
    { class: "legend", "aria-label": "Back pressure" },
    h("span", { class: "muted" }, "Queue"),
    [
      ["none", "free"],
      ["some", "some"],
      ["high", "half full"],
      ["full", "full"],
    ].map(([value, label]) =>
      h("span", { class: "legend-item", dataset: { pressure: value } }, h("i", {}), label),
    ),
  );
  drawing.header.querySelector(".actions").append(legend);

  const body = h("tbody", {});
  const heads = COLUMNS.map((label, i) =>
    h("th", { scope: "col", class: i > 1 && i < 6 ? "right" : null, title: TITLES[label] }, label),
  );
  const operators = panel("Operators", { testid: "pipeline-operators" });
  operators.body.classList.add("flush", "scroll-x");
  operators.body.append(
    h(
      "table",
      { class: "table" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          heads,
        ),
      ),
      body,
    ),
  );

  const engine = panel("Engine", { testid: "pipeline-engine" });
  const list = h("dl", { class: "facts" });
  const links = h("div", { class: "line" });
  const without = h("p", { class: "muted", hidden: true });
  const none = h("p", { class: "muted" }, "The engine has not told of itself yet.");
  engine.body.append(h("div", { class: "stack" }, none, list, links, without));

  const learned = panel("Models", { testid: "pipeline-models" });
  const cards = h("div", { class: "stack" });
  learned.body.append(cards);
  learned.hidden = true;

  root.append(
    h(
      "div",
      { class: "stack pipeline" },
      drawing,
      h(
        "div",
        { class: "split" },
        h("div", { class: "split-main stack" }, operators, learned),
        h("div", { class: "side stack" }, engine),
      ),
    ),
  );

  function makeRow(node) {
    const parts = {
      cells: COLUMNS.map((_, i) =>
        h(i ? "td" : "th", { class: i > 1 && i < 6 ? "right" : null, scope: i ? null : "row" }),
      ),
    };
    parts.use = h("span", { class: "muted clip" });
    parts.name = h("span", {});
    parts.cells[0].append(parts.name, " ", parts.use);
    parts.node = h("tr", { testid: `operator-row-${node.name}` }, parts.cells);
    return parts;
  }

  function updateRow(parts, node) {
    put(parts.name, node.name);
    put(parts.use, node.use && node.use !== node.name ? node.use : "");
    const texts = [
      format.words(node.kind),
      dash(node.rate, format.rate),
      dash(node.share, format.percent),
      dash(node.seconds, format.duration),
      stateOf(node),
      node.version === null || node.version === undefined
        ? format.none
        : `${node.version}${node.drift ? " ▲ drift" : ""}`,
    ];
    texts.forEach((text, i) => put(parts.cells[i + 1], text));
    attribute(parts.node, "data-chosen", node.id === chosen ? "true" : null);
  }

  function makeModel(model) {
    const parts = {
      title: h("strong", {}),
      version: h("span", { class: "badge", "data-state": "info" }),
      drift: h("p", { class: "drift" }),
      history: h("ol", { class: "history" }),
    };
    parts.node = h(
      "article",
      { class: "model", testid: `model-${model.name}` },
      h("header", { class: "line" }, parts.title, parts.version),
      parts.drift,
      parts.history,
    );
    return parts;
  }

  function updateModel(parts, model) {
    put(parts.title, model.name);
    put(
      parts.version,
      model.version === null || model.version === undefined
        ? "no version yet"
        : `version ${model.version}`,
    );
    put(
      parts.drift,
      typeof model.drift === "number" ? `Drift ${format.number(model.drift)}` : (model.drift ?? ""),
    );
    parts.drift.hidden = !model.drift;
    const signature = JSON.stringify(model.events ?? []);
    if (parts.signature === signature) return;
    parts.signature = signature;
    parts.history.replaceChildren(
      ...[...(model.events ?? [])]
        .reverse()
        .slice(0, 6)
        .map((event) =>
          h(
            "li",
            {},
            h("span", { class: "muted tabular" }, format.clock(event.stamp)),
            h("span", {}, event.message || format.words(event.kind)),
          ),
        ),
    );
  }

  function draw() {
    if (!data) return;
    const nodes = data.nodes ?? [];
    const some = nodes.length > 0;
    empty.hidden = some;
    picture.element.toggleAttribute("hidden", !some);
    if (some) picture.draw(data, drawing.body.clientWidth - 24);
    picture.select(chosen);
    keyed(
      body,
      rows,
      nodes.filter((node) => ["operator", "policy", "trainer", "service"].includes(node.kind)),
      (node) => node.id,
      makeRow,
      updateRow,
    );
    operators.hidden = body.children.length === 0;
    const told = data.engine;
    none.hidden = Boolean(told);
    const shown = told ? [...ENGINE] : [];
    const size = data.checkpoints?.bytes;
    put(heads[2], data.mean ? "Frames/s, mean" : "Frames/s");
    keyed(
      list,
      facts,
      [
        ...shown.map(([label, show]) => ({
          label: label === "Frames/s" && data.mean ? "Frames/s, mean" : label,
          text: show(told),
        })),
        ...(Number.isFinite(size) ? [{ label: "Newest checkpoint", text: format.bytes(size) }] : []),
      ],
      (fact) => fact.label,
      (fact) => {
        const value = h("dd", {});
        return { node: h("div", { class: "fact" }, h("dt", {}, fact.label), value), value };
      },
      (parts, fact) => put(parts.value, fact.text),
    );
    put(without, told?.engine === "spark" && told.state === "running" && !pages(told).length
      ? "Spark shows no page here: without a cluster it runs inside the engine's process, where its page is off (spark.ui.enabled)."
      : "");
    without.hidden = !without.headraceText;
    const signature = JSON.stringify(pages(told));
    if (links.dataset.shown !== signature) {
      links.dataset.shown = signature;
      links.replaceChildren(
        ...pages(told).map(({ href, label }) =>
          h(
            "a",
            {
              class: "button small",
              href,
              target: "_blank",
              rel: "noopener noreferrer",
              testid: "engine-link",
            },
            icon("link", 14),
            label ?? "Engine's own page",
          ),
        ),
      );
    }
    learned.hidden = !(data.models?.length > 0);
    keyed(cards, models, data.models ?? [], (model) => model.name, makeModel, updateModel);
  }

  const subscription = connection.subscribe(
    "pipeline",
    {},
    (message) => {
      data = message.data;
      draw();
    },
    { every: 0.5 },
  );
  return { unmount: () => subscription.close(), resize: draw };
}
