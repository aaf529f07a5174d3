// What stands above every view: the run and its totals, and how the page is connected.

import * as api from "./api.js";
import { stats } from "./connection.js";
import { connection } from "./context.js";
import { store } from "./state.js";
import { attribute, badge, format, h, icon, put, toast } from "./ui.js";

const name = h("h1", { class: "run-name", testid: "run-name" }, "Headrace");
const state = badge("waiting", { testid: "run-state" });
const figures = ["simulations", "frames/s", "lag", "dropped", "set aside"].map((label) => {
  const value = h("span", { class: "figure-value" }, format.none);
  return {
    label,
    value,
    node: h(
      "div",
      { class: "figure", testid: `total-${label.replace(/\W/, "-")}` },
      value,
      h("span", { class: "figure-label" }, label),
    ),
  };
});
const age = h("span", {
  class: "muted tabular",
  testid: "lag",
  title: "From the server's stamp to the screen, median",
});
const link = badge("waiting", { testid: "connection-state" });
// The alarms tell those who listen of a lost connection; a countdown would be read each second.
link.setAttribute("aria-live", "off");

/** Fills the header; `buttons` stand at its end. */
export function header(buttons) {
  document.getElementById("top").replaceChildren(
    h(
      "a",
      { class: "brand", href: "#/overview", "aria-label": "Headrace, overview" },
      h("img", {
        src: new URL("static/favicon.svg", api.base).href,
        alt: "",
        width: 22,
        height: 22,
      }),
    ),
    h("div", { class: "run" }, name, state),
    h(
      "div",
      { class: "figures" },
      figures.map((figure) => figure.node),
    ),
    h(
      "div",
      { class: "top-right" },
      age,
      link,
      h(
        "a",
        {
          class: "button icon-only",
          href: api.address("report.html").href,
          target: "_blank",
          rel: "noopener",
          testid: "report",
          title: "Report of the run, one file that opens without a server",
          "aria-label": "Report of the run",
        },
        icon("export"),
      ),
      buttons,
    ),
  );
}

const TEXT = {
  open: ["ok", "Live"],
  connecting: ["waiting", "Connecting…"],
  refused: ["error", "Not allowed"],
};

function connected() {
  let title = null;
  if (connection.farewell && connection.state !== "open") {
    link.set("finished", "Dashboard over");
    // Its last word may have come before it could say how the run ended.
    if (connection.farewell.startsWith("The run has ended") && store.get("run")?.state !== "ended")
      state.set("ended", "ended");
  } else if (connection.state === "waiting") {
    const left = Math.max(0, Math.ceil((connection.retryAt - Date.now()) / 1000));
    link.set("warning", left > 0 ? `Reconnecting in ${left} s` : "Reconnecting…");
  } else if (connection.state === "open" && connection.at !== null) {
    link.set("info", "Replay");
  } else if (connection.state === "open" && store.get("run")?.state === "lost") {
    link.set("warning", "Run unheard");
  } else if (connection.state === "open" && store.get("run")?.live === false) {
    link.set("ok", "Connected");
  } else if (connection.state === "open" && store.get("run")?.slower > 1) {
    const times = format.number(store.get("run").slower, 2);
    link.set("ok", "Live, slowed");
    title = `The run keeps every processor of its machine busy: this page is told ${times} times less often.`;
  } else {
    link.set(...TEXT[connection.state]);
  }
  attribute(link, "title", title);
  document.body.dataset.connection = connection.state;
}

let refusedOnce = false;

function connectionChanged(now) {
  connected();
  if (now === "open") refusedOnce = false;
  if (now === "refused" && !refusedOnce) {
    refusedOnce = true;
    toast(
      "The server no longer takes this page's token: open the address that `headrace dashboard` printed last.",
      { level: "error", seconds: 60 },
    );
  }
}

function showRun(run) {
  put(name, run?.title || run?.name || "Headrace");
  attribute(name, "title", run?.name);
  const outcome =
    run?.state === "ended" && run.outcome ? `ended: ${format.words(run.outcome)}` : undefined;
  state.set(run?.state ?? "waiting", outcome);
}

function showTotals(data) {
  put(figures[1].node.lastChild, data.totals?.mean ? "/s mean" : "frames/s");
  const list = data.simulations ?? [];
  put(figures[0].node.lastChild, list.length === 1 ? "simulation" : "simulations");
  const totals = data.totals ?? {};
  const sum = (key) => list.reduce((all, one) => all + (one[key] || 0), 0);
  const running = list.filter((one) => one.state === "running").length;
  const texts = [
    running === list.length || list.every((one) => one.state === "finished")
      ? format.integer(list.length)
      : `${running} of ${format.integer(list.length)}`,
    format.rate("rate" in totals ? totals.rate : sum("rate")),
    format.integer(totals.lag ?? sum("lag")),
    format.integer(totals.dropped ?? sum("dropped")),
    format.integer(totals.quarantined ?? sum("quarantined")),
  ];
  figures.forEach((figure, i) => put(figure.value, texts[i]));
  figures[3].node.dataset.bad = String((totals.dropped ?? sum("dropped")) > 0);
  figures[4].node.dataset.bad = String((totals.quarantined ?? sum("quarantined")) > 0);
}

store.on("run", showRun);
store.on("run", connected);
store.on("overview", showTotals);
store.on("at", connected);
connection.onState(connectionChanged);
setInterval(() => {
  connected();
  put(age, connection.state === "open" ? `${format.number(stats.lag_ms, 2)} ms` : "");
}, 1000);
