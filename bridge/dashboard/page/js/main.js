// The frame around the views: navigation, state of run and connection, alarms, keys, theme.

import * as api from "./api.js";
import { stats } from "./connection.js";
import { connection, events, ledger } from "./context.js";
import { bar } from "./alarms.js";
import { header } from "./header.js";
import { replay } from "./replay.js";
import { store } from "./state.js";
import * as ui from "./ui.js";

const { attribute, blank, dialog, h, icon, iconButton, put } = ui;

const VIEWS = [
  ["overview", "Overview"],
  ["embedding", "Embedding"],
  ["molecule", "Molecule"],
  ["observables", "Observables"],
  ["pipeline", "Pipeline"],
  ["steering", "Steering"],
  ["events", "Events"],
].map(([name, title], i) => ({ name, title, key: String(i + 1) }));

// Seconds between two looks at the simulations; more of them than this are looked at slowly.
const [QUICK, SLOW, MANY] = [0.4, 1, 60];

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
const themeButton = iconButton("moon", "Light or dark (t)", toggleTheme, {
  testid: "theme-toggle",
});

function themed() {
  const now = theme();
  store.set("theme", now);
  themeButton.replaceChildren(icon(now === "dark" ? "sun" : "moon"));
  attribute(themeButton, "aria-pressed", String(now === "dark"));
}

dark.addEventListener("change", themed);

// -- navigation --------------------------------------------------------------------------------

const links = new Map();
const counts = new Map();

function rail() {
  document.getElementById("rail").replaceChildren(
    h(
      "ul",
      {},
      VIEWS.map((view) => {
        const count = h("span", { class: "count", hidden: true });
        counts.set(view.name, count);
        const anchor = h(
          "a",
          {
            href: `#/${view.name}`,
            testid: `nav-${view.name}`,
            title: `${view.title} (${view.key})`,
            "aria-keyshortcuts": view.key,
          },
          icon(view.name, 18),
          h("span", { class: "nav-label" }, view.title),
          count,
        );
        links.set(view.name, anchor);
        return h("li", {}, anchor);
      }),
    ),
  );
}

function count(view, number, level, label) {
  const node = counts.get(view);
  node.hidden = !number;
  put(node, number > 99 ? "99+" : number);
  node.dataset.level = level;
  attribute(node, "aria-label", number ? `${number} ${label}` : null);
}

const root = document.getElementById("view");
const context = {
  connection,
  api,
  store,
  ui,
  ledger,
  events,
  get run() {
    return store.get("run");
  },
};
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
  for (const [other, anchor] of links)
    attribute(anchor, "aria-current", other === view.name ? "page" : null);
  leave();
  follow();
  let module;
  try {
    module = await import(`./views/${view.name}.js`);
  } catch (error) {
    console.warn(`The view "${view.name}" could not be loaded.`, error);
    if (mine !== turn) return;
    current = null;
    place(
      view,
      blank(
        `${view.title} is not here`,
        connection.farewell ||
          "This part of the page could not be loaded from the server. The other views work without it.",
        ui.button("Try again", () => route(), { kind: "primary" }),
      ),
    );
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
  const holder = h(
    "div",
    {
      class: `view-root view-${view.name}`,
      testid: `view-${view.name}`,
      role: "region",
      "aria-label": view.title,
    },
    children,
  );
  root.replaceChildren(holder);
  root.scrollTop = 0;
  return holder;
}

new ResizeObserver(() => mounted?.resize?.()).observe(root);

// -- what everybody needs ----------------------------------------------------------------------

let overview = null;

let pace = 0;

/** Follow the simulations: often where they are looked at, unless there are very many of them. */
function follow() {
  const many = (store.get("overview")?.simulations?.length ?? 0) > MANY;
  const every = current?.name === "overview" && !many ? QUICK : SLOW;
  if (every === pace) return;
  pace = every;
  overview?.close();
  const take = ({ data }) => {
    store.set("overview", data);
    follow();
  };
  overview = connection.subscribe("overview", {}, take, { every });
}

connection.subscribe("run", {}, ({ data }) => store.set("run", data), { every: 1, live: true });

function titled() {
  const count = (store.get("alarms")?.length ?? 0) + ledger.awaiting.length;
  const run = store.get("run");
  document.title = `${count ? `(${count}) ` : ""}${run?.title || run?.name || "Headrace"}${run ? " · Headrace" : ""}`;
}

store.on("run", titled);
function waiting() {
  count("steering", ledger.awaiting.length, "warning", "wait for approval");
  titled();
}

ledger.on(waiting);
store.on("run", (run, before) => run?.state !== before?.state && waiting());
store.on("alarms", (alarms) => {
  count(
    "overview",
    alarms.length,
    alarms.some((alarm) => alarm.level === "error") ? "error" : "warning",
    "alarms",
  );
  titled();
});

// -- keys --------------------------------------------------------------------------------------

const KEYS = [
  [
    "Everywhere",
    [
      ["1 – 7", "Views"],
      ["/", "Filter of the view"],
      ["Space", "Play or pause the replay"],
      ["l", "Back to the present"],
      ["t", "Light or dark"],
      ["?", "This help"],
      ["Esc", "Close, or leave a field"],
    ],
  ],
  [
    "Embedding",
    [
      ["+ −", "Zoom; or the wheel, or two fingers"],
      ["← ↑ → ↓", "Move; or drag"],
      ["0", "Show everything; or a double click"],
      ["Enter", "Choose the frame nearest to the middle, with Shift one more; or click"],
      [". ,", "Next and previous frame of its simulation"],
      ["Shift+drag", "Choose a region; or turn on Options, Drag chooses frames"],
      ["Esc", "Choose nothing"],
    ],
  ],
  [
    "Molecule, series and histograms",
    [
      ["← ↑ → ↓", "Turn the molecule; move the cursor of a plot"],
      ["+ −", "Zoom the molecule, or the time of the series"],
      ["0", "Show everything"],
    ],
  ],
  [
    "Lists of decisions and events",
    [
      ["↑ ↓", "Next and previous line"],
      ["Home End", "First and last line"],
    ],
  ],
];

function help() {
  if (document.querySelector("dialog[open]")) return;
  dialog(
    "Keys",
    () =>
      h(
        "div",
        { class: "stack" },
        h(
          "div",
          { class: "key-groups" },
          KEYS.map(([title, keys]) =>
            h(
              "section",
              { class: "stack" },
              h("h3", {}, title),
              h(
                "dl",
                { class: "keys" },
                keys.map(([key, text]) => [
                  h(
                    "dt",
                    {},
                    key.split(" ").map((one) => (one === "–" ? "to" : h("kbd", {}, one))),
                  ),
                  h("dd", {}, text),
                ]),
              ),
            ),
          ),
        ),
        h(
          "p",
          { class: "muted" },
          "Everything on this page can also be asked for by a program: ",
          h(
            "a",
            { href: api.address("openapi.json").href, target: "_blank", rel: "noopener" },
            "description of the interface",
          ),
          ", ",
          h(
            "a",
            { href: api.address("/metrics").href, target: "_blank", rel: "noopener" },
            "figures for Prometheus",
          ),
          ", ",
          h(
            "a",
            { href: api.address("report.html").href, target: "_blank", rel: "noopener" },
            "report that opens without a server",
          ),
          ".",
        ),
      ),
    { testid: "help-dialog", wide: true },
  );
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
  else if (event.key === " " && !target.matches?.("button, a, summary, input, [role=button]"))
    bottom.toggle();
  else return;
  event.preventDefault();
}

document.addEventListener("keydown", pressed);
// The part behind # is the view's: to follow the link would leave it.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  root.focus();
});

// -- begin -------------------------------------------------------------------------------------

header([themeButton, iconButton("help", "Keys and help (?)", help, { testid: "help" })]);
rail();
themed();
bar(document.getElementById("alarms"));
addEventListener("hashchange", route);
route();

// The other views are fetched while nothing else is to be done: the dashboard of a run ends with it,
// and a view that was not opened before could not be had any more.
const idle = window.requestIdleCallback ?? ((work) => setTimeout(work, 200));

function fetchAhead([view, ...rest]) {
  if (!view) return;
  idle(() =>
    import(`./views/${view.name}.js`)
      .catch(() => null) // Whoever opens it is told.
      .then(() => fetchAhead(rest)),
  );
}

const first = store.on("overview", () => {
  first();
  setTimeout(() => fetchAhead(VIEWS.filter((view) => view !== current)), 1000);
});
