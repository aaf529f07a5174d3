// The frame around the views: navigation, state of run and connection, alarms, keys, theme.

import * as api from "./api.js";
import { stats } from "./connection.js";
import { connection, events, ledger } from "./context.js";
import { bar } from "./alarms.js";
import { replay } from "./replay.js";
import { store } from "./state.js";
import * as ui from "./ui.js";

const { attribute, badge, blank, dialog, format, h, icon, iconButton, put } = ui;

const VIEWS = [
  ["overview", "Overview"], ["embedding", "Embedding"], ["molecule", "Molecule"], ["observables", "Observables"],
  ["pipeline", "Pipeline"], ["steering", "Steering"], ["events", "Events"],
].map(([name, title], i) => ({ name, title, key: String(i + 1) }));

window.__stats = stats;

// -- theme -------------------------------------------------------------------------------------

const dark = matchMedia("(prefers-color-scheme: dark)");

function theme() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ?? (dark.matches ? "dark" : "light");
}

function setTheme(next) {
  document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem("headrace.theme", next);
  } catch {
    // It holds for this visit.
  }
  themed();
}

const toggleTheme = () => setTheme(theme() === "dark" ? "light" : "dark");
const themeButton = iconButton("moon", "Light or dark (t)", toggleTheme, { testid: "theme-toggle" });

function themed() {
  const now = theme();
  store.set("theme", now);
  themeButton.replaceChildren(icon(now === "dark" ? "sun" : "moon"));
  attribute(themeButton, "aria-pressed", String(now === "dark"));
}

dark.addEventListener("change", themed);

// -- header ------------------------------------------------------------------------------------

const name = h("h1", { class: "run-name", testid: "run-name" }, "Headrace");
const state = badge("waiting", { testid: "run-state" });
const figures = ["simulations", "frames/s", "lag", "dropped", "set aside"].map((label) => {
  const value = h("span", { class: "figure-value" }, format.none);
  return { label, value, node: h("div", { class: "figure", testid: `total-${label.replace(/\W/, "-")}` }, value, h("span", { class: "figure-label" }, label)) };
});
const age = h("span", { class: "muted tabular", testid: "lag", title: "From the server's stamp to the screen, median" });
const link = badge("waiting", { testid: "connection-state" });
link.setAttribute("role", "status");

function header() {
  document.getElementById("top").replaceChildren(
    h("a", { class: "brand", href: "#/overview", "aria-label": "Headrace, overview" },
      h("img", { src: new URL("static/favicon.svg", api.base).href, alt: "", width: 22, height: 22 })),
    h("div", { class: "run" }, name, state),
    h("div", { class: "figures" }, figures.map((figure) => figure.node)),
    h("div", { class: "top-right" }, age, link,
      h("a", { class: "button icon-only", href: api.address("report.html").href, target: "_blank", rel: "noopener", testid: "report", title: "Report of the run, one file that opens without a server", "aria-label": "Report of the run" }, icon("export")), themeButton, iconButton("help", "Keys and help (?)", help, { testid: "help" })),
  );
}

const TEXT = { open: ["ok", "Live"], connecting: ["waiting", "Connecting…"], refused: ["error", "Not allowed"] };

function connected() {
  if (connection.state === "waiting") {
    const left = Math.max(0, Math.ceil((connection.retryAt - Date.now()) / 1000));
    link.set("warning", left > 0 ? `Reconnecting in ${left} s` : "Reconnecting…");
  } else if (connection.state === "open" && connection.at !== null) {
    link.set("info", "Replay");
  } else if (connection.state === "open" && store.get("run")?.state === "lost") {
    link.set("warning", "Run unheard");
  } else if (connection.state === "open" && store.get("run")?.live === false) {
    link.set("ok", "Connected");
  } else {
    link.set(...TEXT[connection.state]);
  }
  document.body.dataset.connection = connection.state;
}

let refusedOnce = false;

function connectionChanged(now) {
  connected();
  if (now === "open") refusedOnce = false;
  if (now === "refused" && !refusedOnce) {
    refusedOnce = true;
    ui.toast("The server no longer takes this page's token: open the address that `headrace dashboard` printed last.", { level: "error", seconds: 60 });
  }
}

function showRun(run) {
  put(name, run?.title || run?.name || "Headrace");
  attribute(name, "title", run?.name);
  const outcome = run?.state === "ended" && run.outcome ? `ended: ${format.words(run.outcome)}` : undefined;
  state.set(run?.state ?? "waiting", outcome);
  titled();
}

function showTotals(data) {
  const list = data.simulations ?? [];
  const totals = data.totals ?? {};
  const sum = (key) => list.reduce((all, one) => all + (one[key] || 0), 0);
  const running = list.filter((one) => one.state === "running").length;
  const texts = [
    running === list.length || list.every((one) => one.state === "finished") ? format.integer(list.length) : `${running} of ${format.integer(list.length)}`,
    format.rate(totals.rate ?? sum("rate")), format.integer(totals.lag ?? sum("lag")),
    format.integer(totals.dropped ?? sum("dropped")), format.integer(totals.quarantined ?? sum("quarantined")),
  ];
  figures.forEach((figure, i) => put(figure.value, texts[i]));
  figures[3].node.dataset.bad = String((totals.dropped ?? sum("dropped")) > 0);
  figures[4].node.dataset.bad = String((totals.quarantined ?? sum("quarantined")) > 0);
}

function titled() {
  const count = (store.get("alarms")?.length ?? 0) + ledger.awaiting.length;
  const run = store.get("run");
  document.title = `${count ? `(${count}) ` : ""}${run?.title || run?.name || "Headrace"}${run ? " · Headrace" : ""}`;
}

// -- navigation --------------------------------------------------------------------------------

const links = new Map();
const counts = new Map();

function rail() {
  document.getElementById("rail").replaceChildren(h("ul", {}, VIEWS.map((view) => {
    const count = h("span", { class: "count", hidden: true });
    counts.set(view.name, count);
    const anchor = h("a", { href: `#/${view.name}`, testid: `nav-${view.name}`, title: `${view.title} (${view.key})`, "aria-keyshortcuts": view.key },
      icon(view.name, 18), h("span", { class: "nav-label" }, view.title), count);
    links.set(view.name, anchor);
    return h("li", {}, anchor);
  })));
}

function count(view, number, level, label) {
  const node = counts.get(view);
  node.hidden = !number;
  put(node, number > 99 ? "99+" : number);
  node.dataset.level = level;
  attribute(node, "aria-label", number ? `${number} ${label}` : null);
}

const root = document.getElementById("view");
const context = { connection, api, store, ui, ledger, events, get run() { return store.get("run"); } };
let [mounted, current, turn] = [null, null, 0];

function wanted() {
  const [path] = location.hash.replace(/^#\/?/, "").split("?");
  return VIEWS.find((view) => view.name === path) ?? VIEWS[0];
}

async function route() {
  const view = wanted();
  if (view === current) return;
  current = view;
  const mine = ++turn;
  for (const [other, anchor] of links) attribute(anchor, "aria-current", other === view.name ? "page" : null);
  leave();
  follow(view.name === "overview" ? 0.4 : 1);
  let module;
  try {
    module = await import(`./views/${view.name}.js`);
  } catch (error) {
    console.warn(`The view "${view.name}" could not be loaded.`, error);
    if (mine !== turn) return;
    current = null;
    place(view, blank(`${view.title} is not here`,
      "This part of the page could not be loaded from the server. The other views work without it.",
      ui.button("Try again", () => route(), { kind: "primary" })));
    return;
  }
  if (mine !== turn) return;
  const holder = place(view);
  try {
    mounted = module.mount(holder, context) ?? {};
  } catch (error) {
    console.error(`The view "${view.name}" failed.`, error);
    holder.replaceChildren(blank(`${view.title} cannot be shown`, String(error.message ?? error)));
  }
}

function leave() {
  try {
    mounted?.unmount?.();
  } catch (error) {
    console.error("A view could not be left in good order.", error);
  }
  mounted = null;
  root.replaceChildren();
}

function place(view, ...children) {
  const holder = h("div", { class: `view-root view-${view.name}`, testid: `view-${view.name}`, role: "region", "aria-label": view.title }, children);
  root.replaceChildren(holder);
  root.scrollTop = 0;
  return holder;
}

new ResizeObserver(() => mounted?.resize?.()).observe(root);

// -- what everybody needs ----------------------------------------------------------------------

let overview = null;

function follow(every) {
  overview?.close();
  overview = connection.subscribe("overview", {}, ({ data }) => store.set("overview", data), { every });
}

connection.subscribe("run", {}, ({ data }) => store.set("run", data), { every: 1, live: true });
store.on("run", showRun);
store.on("run", connected);
store.on("overview", showTotals);
store.on("at", connected);
function waiting() {
  count("steering", ledger.awaiting.length, "warning", "wait for approval");
  titled();
}

ledger.on(waiting);
store.on("run", (run, before) => run?.state !== before?.state && waiting());
store.on("alarms", (alarms) => {
  count("overview", alarms.length, alarms.some((alarm) => alarm.level === "error") ? "error" : "warning", "alarms");
  titled();
});

// -- keys --------------------------------------------------------------------------------------

const KEYS = [
  ["1 – 7", "Views"], ["t", "Light or dark"], ["/", "Filter of the view"], ["Space", "Play or pause the replay"],
  ["l", "Back to the present"], ["?", "This help"], ["Esc", "Close, or leave a field"],
];

function help() {
  if (document.querySelector("dialog[open]")) return;
  dialog("Keys", () => h("div", { class: "stack" },
    h("dl", { class: "keys" }, KEYS.map(([key, text]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, text)])),
    h("p", { class: "muted" }, "Everything on this page can also be asked for by a program: ",
      h("a", { href: api.address("openapi.json").href, target: "_blank", rel: "noopener" }, "description of the interface"), ", ",
      h("a", { href: api.address("/metrics").href, target: "_blank", rel: "noopener" }, "figures for Prometheus"), ", ",
      h("a", { href: api.address("report.html").href, target: "_blank", rel: "noopener" }, "report that opens without a server"), "."),
  ), { testid: "help-dialog" });
}

const bottom = replay(document.getElementById("replay"));

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const target = event.target;
  const typing = target.matches?.("input:not([type=range]):not([type=checkbox]), textarea, select");
  if (event.key === "Escape" && typing) return target.blur();
  if (typing || document.querySelector("dialog[open]")) return;
  const view = VIEWS.find((one) => one.key === event.key);
  if (view) location.hash = `#/${view.name}`;
  else if (event.key === "t") toggleTheme();
  else if (event.key === "?") help();
  else if (event.key === "l") bottom.live();
  else if (event.key === "/") document.querySelector("[data-filter]")?.focus();
  else if (event.key === " " && !target.matches?.("button, a, summary, input, [role=button]")) bottom.toggle();
  else return;
  event.preventDefault();
}

document.addEventListener("keydown", pressed);

// -- begin -------------------------------------------------------------------------------------

header();
rail();
themed();
bar(document.getElementById("alarms"));
connection.onState(connectionChanged);
setInterval(() => {
  connected();
  put(age, connection.state === "open" ? `${format.number(stats.lag_ms, 2)} ms` : "");
}, 1000);
addEventListener("hashchange", route);
route();
