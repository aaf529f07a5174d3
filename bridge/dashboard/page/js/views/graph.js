// The pipeline drawn as a graph: layers from left to right, or from top to bottom where the page is
// narrow. What goes back (commands to the simulations) runs around it.

import { attribute, format, keyed, put, s } from "../ui.js";

const [W, H] = [172, 74];
const LANE = 40;
const MARGIN = 128;
const LABELS = {
  "simulation-group": "simulations",
  stager: "staging",
  operator: "operator",
  policy: "policy",
  trainer: "trainer",
  service: "service",
  guard: "guard",
};

/** Layer of each node: the longest way to it, edges that close a circle left out. */
function layers(nodes, edges) {
  const depth = new Map(nodes.map((node) => [node.id, 0]));
  const back = new Set();
  const out = new Map(nodes.map((node) => [node.id, []]));
  for (const edge of edges) out.get(edge.from)?.push(edge);
  const state = new Map();
  const order = [];
  const visit = (id) => {
    state.set(id, "open");
    for (const edge of out.get(id) ?? []) {
      if (!depth.has(edge.to)) continue;
      if (state.get(edge.to) === "open") back.add(edge);
      else if (!state.has(edge.to)) visit(edge.to);
    }
    state.set(id, "done");
    order.unshift(id);
  };
  for (const node of nodes) if (!state.has(node.id)) visit(node.id);
  for (const id of order) {
    for (const edge of out.get(id)) {
      if (!back.has(edge) && depth.has(edge.to))
        depth.set(edge.to, Math.max(depth.get(edge.to), depth.get(id) + 1));
    }
  }
  return { depth, back };
}

/** Where everything lies: {width, height, at: id -> {x, y}, back}. */
export function arrange(nodes, edges, width) {
  const { depth, back } = layers(nodes, edges);
  const columns = [];
  for (const node of nodes) (columns[depth.get(node.id)] ??= []).push(node.id);
  // The longest chain gets the middle: nodes aside of it (trainers, services) go below.
  const count = columns.length;
  const rows = Math.max(...columns.map((column) => column.length));
  const gap = 92;
  const across = count * W + (count - 1) * gap;
  const vertical = width < 760;
  // A chain that is too long for the width is folded into lines that are read like text.
  const each = vertical
    ? 1
    : Math.max(2, Math.min(count, Math.floor((width + gap - 24) / (W + gap))));
  const lines = Math.ceil(count / each);
  const at = new Map();
  const gapV = 62;
  // Each line is as high as its fullest column needs; the way to the next one runs below it.
  const tops = [];
  let bottom = 28;
  for (let i = 0; i < lines; i += 1) {
    tops.push(bottom);
    bottom +=
      Math.max(...columns.slice(i * each, (i + 1) * each).map((column) => column.length)) *
        (H + 28) +
      44;
  }
  columns.forEach((column, i) => {
    column.forEach((id, j) => {
      if (vertical) at.set(id, { x: MARGIN + j * (W + 56), y: 12 + i * (H + gapV) });
      else
        at.set(id, {
          x: LANE + (i % each) * (W + gap),
          y: tops[Math.floor(i / each)] + j * (H + 28),
        });
    });
  });
  return {
    vertical,
    back,
    at,
    width: vertical
      ? MARGIN + rows * (W + 56)
      : Math.max(LANE + 12 + Math.min(across, each * (W + gap) - gap), 320),
    height: vertical ? 24 + count * (H + gapV) - gapV + 10 : bottom - 30,
  };
}

function path(from, to, { vertical, back, height }, edge) {
  if (back.has(edge)) {
    if (vertical) {
      const x = Math.max(from.x, to.x) + W + 34;
      return {
        d: `M${from.x + W} ${from.y + H / 2}C${x} ${from.y + H / 2} ${x} ${from.y} ${x} ${from.y - 20}L${x} ${to.y + H + 20}C${x} ${to.y + H / 2} ${x} ${to.y + H / 2} ${to.x + W + 5} ${to.y + H / 2}`,
        x: x - 4,
        y: (from.y + to.y + H) / 2,
        turned: true,
      };
    }
    // Out below, along the bottom, up at the left, and in from there.
    const [x, y, a, end] = [12, height - 10, from.x + W / 2, to.y + H / 2];
    return {
      d: `M${a} ${from.y + H}L${a} ${y - 14}Q${a} ${y} ${a - 14} ${y}L${x + 14} ${y}Q${x} ${y} ${x} ${y - 14}L${x} ${end + 14}Q${x} ${end} ${x + 14} ${end}L${to.x - 5} ${end}`,
      x: a / 2 + x,
      y: y - 6,
    };
  }
  if (vertical) {
    const [a, b] = [from.x + W / 2, to.x + W / 2];
    const [top, end] = [from.y + H, to.y - 5];
    const bend = Math.max(14, (end - top) / 2);
    return {
      d: `M${a} ${top}C${a} ${top + bend} ${b} ${end - bend} ${b} ${end}`,
      x: a === b ? a - 10 : b + 10,
      y: a === b ? (top + end) / 2 - 1 : end - 12,
      beside: true,
      anchor: a === b ? "end" : "start",
    };
  }
  if (to.x <= from.x) {
    // To the next line.
    const [a, b, middle] = [from.x + W / 2, to.x + W / 2, to.y - 28];
    return {
      d: `M${a} ${from.y + H}L${a} ${middle - 14}Q${a} ${middle} ${a - 14} ${middle}L${b + 14} ${middle}Q${b} ${middle} ${b} ${middle + 14}L${b} ${to.y - 5}`,
      x: (a + b) / 2,
      y: middle - 6,
      beside: false,
      along: true,
    };
  }
  const [a, b] = [from.x + W, to.x - 5];
  const [y, end] = [from.y + H / 2, to.y + H / 2];
  const bend = Math.max(20, (b - a) / 2);
  return {
    d: `M${a} ${y}C${a + bend} ${y} ${b - bend} ${end} ${b} ${end}`,
    x: y === end ? (a + b) / 2 : b - 4,
    y: y === end ? y - 22 : end + 15,
    aside: y !== end,
  };
}

/** What is counted on an edge that has a total. */
function totalOf(edge) {
  if (edge.to === "guard") return edge.total === 1 ? "decision" : "decisions";
  if (edge.from === "guard") return "sent";
  return edge.to.startsWith("service/") ? "answers" : "in all";
}

function facts(edge) {
  const lines = [];
  if (Number.isFinite(edge.rate) && edge.rate !== null) lines.push(`${format.rate(edge.rate)}/s`);
  if (Number.isFinite(edge.latency) && edge.latency !== null && edge.latency > 0)
    lines.push(format.duration(edge.latency));
  if (Number.isFinite(edge.lag) && edge.lag !== null) lines.push(`lag ${format.integer(edge.lag)}`);
  if (Number.isFinite(edge.total) && edge.total !== null)
    lines.push(`${format.integer(edge.total)} ${totalOf(edge)}`);
  return lines;
}

/** How full what is behind an edge is, in one of four words. */
export function pressure(edge) {
  const value = edge.pressure ?? 0;
  return value >= 0.9 ? "full" : value >= 0.5 ? "high" : value > 0.05 ? "some" : "none";
}

/** Returns {element, draw(data, width), select(id)}. */
export function graph(onSelect) {
  const nodeParts = new Map();
  const edgeParts = new Map();
  const lines = s("g", {});
  const boxes = s("g", {});
  const arrow = s(
    "marker",
    {
      id: "arrow",
      viewBox: "0 0 8 8",
      refX: 6,
      refY: 4,
      markerWidth: 7,
      markerHeight: 7,
      markerUnits: "userSpaceOnUse",
      orient: "auto-start-reverse",
    },
    s("path", { d: "M0 0.500L7 4L0 7.500z", class: "arrow" }),
  );
  const element = s(
    "svg",
    { class: "graph", role: "group", "aria-label": "Pipeline", "data-testid": "pipeline-graph" },
    s("defs", {}, arrow),
    lines,
    boxes,
  );
  let [shape, signature, chosen] = [null, "", null];

  function makeNode(node) {
    const parts = {
      kind: s("text", { class: "node-kind", x: 10, y: 16 }),
      name: s("text", { class: "node-name", x: 10, y: 35 }),
      line: s("text", { class: "node-line", x: 10, y: 51 }),
      more: s("text", { class: "node-line", x: 10, y: 66 }),
      title: s("title", {}),
      share: s("rect", { class: "node-share", x: 0, y: H - 3, height: 3, rx: 1 }),
    };
    parts.node = s(
      "g",
      {
        class: "graph-node",
        tabindex: 0,
        role: "button",
        "data-kind": node.kind,
        "data-testid": `pipeline-node-${node.name}`,
        onclick: () => onSelect(node.id),
        onkeydown: (event) => {
          if (event.key === "Enter" || event.key === " ") {
            event.preventDefault();
            onSelect(node.id);
          }
        },
      },
      parts.title,
      s("rect", { class: "node-box", width: W, height: H, rx: 6 }),
      parts.share,
      parts.kind,
      parts.name,
      parts.line,
      parts.more,
    );
    return parts;
  }

  const cut = (text, letters) => (text.length > letters ? `${text.slice(0, letters - 1)}…` : text);

  function updateNode(parts, node) {
    const { x, y } = shape.at.get(node.id);
    attribute(parts.node, "transform", `translate(${x} ${y})`);
    attribute(parts.node, "data-chosen", node.id === chosen ? "true" : null);
    attribute(parts.node, "data-drift", node.drift ? "true" : null);
    put(parts.kind, `${LABELS[node.kind] ?? node.kind}${node.scope ? ` · ${node.scope}` : ""}`);
    put(parts.name, cut(node.name, 22));
    put(parts.title, node.use ? `${node.name}: ${node.use}` : node.name);
    const first = [];
    if (Number.isFinite(node.rate) && node.rate !== null) first.push(`${format.rate(node.rate)}/s`);
    if (Number.isFinite(node.share) && node.share !== null)
      first.push(`${format.percent(node.share)} of the time`);
    if (Number.isFinite(node.answers)) first.push(`${format.integer(node.answers)} answers`);
    const second = [];
    if (node.version !== null && node.version !== undefined)
      second.push(`${node.drift ? "▲ drift, " : ""}model ${node.version}`);
    if (Number.isFinite(node.state_bytes) && node.state_bytes > 0)
      second.push(`${format.bytes(node.state_bytes)} ${node.kind === "stager" ? "held" : "state"}`);
    put(parts.line, cut(first.join(" · "), 28));
    put(parts.more, cut(second.join(" · "), 28));
    attribute(parts.share, "width", (Math.min(1, Math.max(0, node.share ?? 0)) * W).toFixed(1));
    attribute(
      parts.node,
      "aria-label",
      [LABELS[node.kind] ?? node.kind, node.name, ...first, ...second].join(", "),
    );
  }

  function makeEdge() {
    const parts = {
      line: s("path", { class: "edge-line", "marker-end": "url(#arrow)" }),
      texts: [0, 1, 2, 3].map(() => s("text", { class: "edge-text" })),
      title: s("title", {}),
    };
    parts.node = s("g", { class: "edge" }, parts.title, parts.line, parts.texts);
    return parts;
  }

  function updateEdge(parts, edge) {
    const place = path(shape.at.get(edge.from), shape.at.get(edge.to), shape, edge);
    attribute(parts.line, "d", place.d);
    attribute(parts.node, "data-pressure", pressure(edge));
    parts.line.style.setProperty(
      "stroke-width",
      String(1.2 + Math.min(3, Math.log10(1 + Math.max(0, edge.rate ?? 0)))),
    );
    const texts = facts(edge);
    if (edge.pressure > 0.05) texts.push(`${format.percent(edge.pressure)} full`);
    const single = shape.back.has(edge) || place.beside || place.along || place.aside;
    const shown =
      place.anchor === "end" && texts.length > 2
        ? [texts.slice(0, 2).join(" · "), texts.slice(2).join(" · ")]
        : single
          ? [texts.join(" · ")]
          : texts;
    parts.texts.forEach((node, i) => {
      put(node, shown[i] ?? "");
      const y = single ? place.y : place.y + 14 - (shown.length - 1 - i) * 13;
      attribute(node, "x", place.x);
      attribute(node, "y", place.beside ? place.y + i * 13 : y);
      attribute(node, "text-anchor", place.anchor ?? (place.aside ? "end" : "middle"));
      attribute(node, "transform", place.turned ? `rotate(-90 ${place.x} ${place.y})` : null);
    });
    put(parts.title, `${edge.from} → ${edge.to}: ${texts.join(", ") || "nothing known"}`);
  }

  return {
    element,
    draw(data, width) {
      const nodes = data.nodes ?? [];
      const known = new Set(nodes.map((node) => node.id));
      const edges = (data.edges ?? []).filter((edge) => known.has(edge.from) && known.has(edge.to));
      shape = arrange(nodes, edges, width);
      const now = `${shape.width} ${shape.height}`;
      if (now !== signature) {
        signature = now;
        element.setAttribute("viewBox", `0 0 ${shape.width} ${shape.height}`);
        element.style.setProperty("width", `${shape.width}px`);
        element.style.setProperty("height", "auto");
      }
      keyed(lines, edgeParts, edges, (edge) => `${edge.from}>${edge.to}`, makeEdge, updateEdge);
      keyed(boxes, nodeParts, nodes, (node) => node.id, makeNode, updateNode);
    },
    select(id) {
      chosen = id;
      for (const [name, parts] of nodeParts)
        attribute(parts.node, "data-chosen", name === id ? "true" : null);
    },
  };
}
