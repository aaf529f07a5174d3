// The ledger, what waits for approval, and manual commands.

import { stateOf } from "../models.js";
import { memory } from "../state.js";
import {
  attribute,
  badge,
  blank,
  button,
  confirm,
  format,
  h,
  iconButton,
  panel,
  put,
  select,
  toast,
} from "../ui.js";
import { virtualList } from "../virtual.js";
import { approvals, whatOf } from "./approvals.js";
import { author, commandForms } from "./commands.js";
import { evidenceTable, frameButtons, framesOf } from "./evidence.js";

const STATES = [
  "awaiting",
  "approved",
  "sent",
  "applied",
  "denied",
  "refused",
  "expired",
  "unanswered",
  "dry run",
];
const ROW = 46;

export function mount(root, context) {
  const { api, connection, ledger, store } = context;
  let [query, state, simulation, chosen] = ["", "all", "all", null];

  // -- everything at once
  async function everything(kind, reason) {
    try {
      const body = { kind, confirm: true, reason };
      if (author()) body.author = author();
      const answers = await api.post("all", body);
      const list = Array.isArray(answers) ? answers : (answers.results ?? []);
      // Without a verdict it could not be sent at all; with a problem it is not on its way yet.
      const failed = list.filter((one) => one.verdict !== "sent" || one.problem);
      toast(
        `${format.words(kind[0].toUpperCase() + kind.slice(1))}: sent to ${list.length - failed.length} of ${list.length} simulations.${failed[0]?.reason ? ` ${failed[0].reason}` : ""}`,
        { level: failed.length ? "warning" : "ok" },
      );
    } catch (error) {
      toast(error.message, { level: "error" });
    }
  }
  const howMany = () =>
    store.get("overview")?.simulations?.filter((one) => one.state !== "finished").length ?? 0;
  const pauseAll = button(
    "Pause all",
    async () => {
      const answer = await confirm(
        "Pause all simulations?",
        `${howMany()} simulations stop after their present step, and wait to be resumed.`,
        { action: "Pause all", kind: "primary", testid: "pause-all-confirm" },
      );
      if (answer) everything("pause", answer.reason);
    },
    { icon: "pause", testid: "pause-all" },
  );
  const resumeAll = button("Resume all", () => everything("resume", ""), {
    icon: "play",
    testid: "resume-all",
  });
  const stopAll = button(
    "Stop all",
    async () => {
      const answer = await confirm(
        "Stop all simulations?",
        `${howMany()} simulations end for good, in good order. This cannot be undone.`,
        { action: "Stop all", typed: "stop", testid: "stop-all-confirm" },
      );
      if (answer) everything("stop", answer.reason);
    },
    { kind: "danger", icon: "stop", testid: "stop-all" },
  );
  const name = h("input", {
    type: "text",
    maxlength: 100,
    placeholder: "Your name, for the ledger",
    "aria-label": "Your name, for the ledger",
    value: memory.get("author", ""),
    testid: "author",
    class: "author",
    oninput: (event) => memory.set("author", event.target.value),
  });
  const note = h("p", { class: "note", testid: "steering-note", hidden: true });

  // -- approvals
  const asked = approvals(context);
  const waiting = panel("Waiting for approval", { testid: "awaiting", class: "awaiting" });
  waiting.body.append(asked.element);
  const denyAll = button("Deny all", () => asked.all("deny"), {
    kind: "quiet small",
    testid: "deny-all",
  });
  const approveAll = button("Approve all", () => asked.all("approve"), {
    kind: "quiet small",
    testid: "approve-all",
  });
  waiting.header.querySelector(".actions").append(approveAll, denyAll);

  // -- ledger
  const search = h("input", {
    type: "search",
    placeholder: "Filter the ledger  /",
    "aria-label": "Filter the ledger",
    "data-filter": true,
    testid: "ledger-filter",
    oninput: (event) => {
      query = event.target.value.trim().toLowerCase();
      draw();
    },
  });
  const states = select(
    "State",
    [{ value: "all", label: "All states" }, ...STATES.map((value) => ({ value, label: value }))],
    state,
    (value) => {
      state = value;
      draw();
    },
    { testid: "ledger-state" },
  );
  const who = h(
    "select",
    {
      "aria-label": "Simulation",
      testid: "ledger-simulation",
      onchange: () => {
        simulation = who.value;
        draw();
      },
    },
    h("option", { value: "all" }, "All simulations"),
  );
  const shown = h("span", { class: "muted" });
  const list = virtualList({
    label: "Ledger, newest first",
    testid: "ledger",
    rowHeight: ROW,
    narrowHeight: 84,
    key: (line) => line.id,
    onSelect: (line) => choose(line.id),
    make(line) {
      const parts = {
        time: h("span", { class: "muted tabular" }),
        state: badge(),
        what: h("span", { class: "what clip" }),
        why: h("span", { class: "why clip" }),
        who: h("span", { class: "clip" }),
        word: h("span", { class: "clip" }),
        step: h("span", { class: "right tabular" }),
        latency: h("span", { class: "right tabular muted" }),
      };
      parts.node = h(
        "div",
        { class: "ledger-row", testid: `ledger-row-${line.id}` },
        parts.time,
        parts.state,
        h("div", { class: "ledger-main" }, parts.what, parts.why),
        h("div", { class: "ledger-who" }, parts.who, parts.word),
        h("div", { class: "ledger-when" }, parts.step, parts.latency),
      );
      return parts;
    },
    update(parts, line) {
      const now = stateOf(line, store.get("at") ?? null);
      put(parts.time, format.clock(line.decided || line.answered));
      parts.state.set(now);
      attribute(parts.node, "data-state", now);
      put(parts.what, `${whatOf(line)} · ${line.simulation || "run"}`);
      put(
        parts.why,
        [line.why, line.outcome_reason || line.verdict_reason].filter(Boolean).join(" — "),
      );
      put(parts.who, line.author);
      attribute(parts.who, "title", line.author);
      const { state: word, by } = line.approval ?? {};
      put(
        parts.word,
        (word === "approved" || word === "denied") && now !== "awaiting"
          ? `${word}${by ? ` by ${by}` : ""}`
          : "",
      );
      attribute(parts.word, "title", parts.word.headraceText);
      put(
        parts.step,
        line.step !== null && line.step !== undefined && line.step >= 0 && now !== "awaiting"
          ? `step ${format.integer(line.step)}`
          : "",
      );
      put(parts.latency, Number.isFinite(line.latency) ? format.duration(line.latency) : "");
    },
  });
  const empty = blank(
    "The ledger is empty",
    "Each decision of a policy, and each command of a person, is written here with its reason and with what became of it.",
  );
  const ledgerPanel = panel("Ledger", {
    testid: "ledger-panel",
    class: "ledger-panel",
    actions: [shown],
  });
  ledgerPanel.body.classList.add("flush");
  ledgerPanel.body.append(
    h("div", { class: "toolbar inside" }, search, states, who),
    list.element,
    empty,
  );

  // -- beside it
  const forms = commandForms(context);
  const commands = panel("New command", { testid: "command-panel" });
  commands.body.append(forms.element);
  const details = panel("Decision", {
    testid: "ledger-details",
    class: "details",
    actions: [iconButton("close", "Close", () => choose(null))],
  });
  details.hidden = true;
  const side = h("div", { class: "side stack" }, details, commands);

  root.append(
    h(
      "div",
      { class: "steering" },
      h(
        "div",
        { class: "toolbar" },
        pauseAll,
        resumeAll,
        stopAll,
        h("span", { class: "grow" }),
        name,
      ),
      note,
      h("div", { class: "split" }, h("div", { class: "split-main" }, waiting, ledgerPanel), side),
    ),
  );

  let detailed = "";

  function choose(id) {
    chosen = id;
    list.select(id);
    describe();
  }

  function describe() {
    const line = chosen === null ? null : ledger.get(chosen);
    details.hidden = !line;
    if (!line) return;
    const signature = JSON.stringify(line);
    if (signature === detailed) return;
    detailed = signature;
    const now = stateOf(line);
    const approval = line.approval;
    const mark = badge(now);
    const facts = [
      ["State", mark],
      ["Simulation", line.simulation || format.none],
      ["Decided by", line.author || format.none],
      ["Decided", format.date(line.decided)],
      line.verdict && [
        "The guard said",
        [format.words(line.verdict), line.verdict_reason].filter(Boolean).join(": "),
      ],
      approval?.state &&
        approval.state !== "awaiting" && [
          approval.state === "approved" ? "Approved by" : "Denied by",
          [approval.by, approval.reason].filter(Boolean).join(": ") || format.none,
        ],
      line.outcome && [
        "The simulation said",
        [format.words(line.outcome), line.outcome_reason].filter(Boolean).join(": "),
      ],
      line.step >= 0 && line.step !== null && ["At step", format.integer(line.step)],
      Number.isFinite(line.time) &&
        line.time !== null && [
          "At time",
          format.time(line.time, store.get("run")?.time_unit ?? ""),
        ],
      line.answered > 0 && ["Answered", format.date(line.answered)],
      Number.isFinite(line.latency) &&
        line.latency !== null && ["Latency", format.duration(line.latency)],
      line.answers > 1 && ["Answers", `${line.answers}: it was answered more than once`],
      ["Command", h("code", {}, line.id)],
    ].filter(Boolean);
    details.setTitle(whatOf(line));
    details.body.replaceChildren(
      ...[
        line.why && h("p", { class: "reason" }, line.why),
        frameButtons(framesOf(line.frame, line.evidence, line.simulation), {
          testid: "ledger-frame",
        }),
        evidenceTable(line.evidence, { testid: "ledger-evidence" }),
        h(
          "dl",
          { class: "facts" },
          facts.map(([label, value]) => [h("dt", {}, label), h("dd", {}, value)]),
        ),
      ].filter(Boolean),
    );
    details.body.classList.add("stack");
  }

  function keep(line, at) {
    if (at !== null && (line.decided || line.answered) > at) return false;
    if (simulation !== "all" && line.simulation !== simulation) return false;
    if (state !== "all" && stateOf(line, at) !== state) return false;
    return (
      !query ||
      `${whatOf(line)} ${line.simulation} ${line.why} ${line.author} ${line.outcome_reason} ${line.verdict_reason} ${line.id}`
        .toLowerCase()
        .includes(query)
    );
  }

  function draw() {
    const at = store.get("at") ?? null;
    const lines = ledger.lines.filter((line) => keep(line, at));
    list.set(lines);
    const none = lines.length === 0;
    list.element.hidden = none;
    empty.hidden = !none;
    put(
      empty.firstChild,
      ledger.lines.length ? "No decision fits the filter" : "The ledger is empty",
    );
    put(
      shown,
      lines.length === ledger.lines.length
        ? `${format.integer(lines.length)} decision${lines.length === 1 ? "" : "s"}`
        : `${format.integer(lines.length)} of ${format.integer(ledger.lines.length)}`,
    );
    const count = asked.draw();
    waiting.hidden = count === 0;
    denyAll.hidden = approveAll.hidden = count < 2;
    waiting.setTitle(`Waiting for approval (${count})`);
    const names = [...new Set(ledger.lines.map((line) => line.simulation).filter(Boolean))].sort(
      new Intl.Collator(undefined, { numeric: true }).compare,
    );
    if (names.length + 1 !== who.options.length) {
      who.replaceChildren(
        h("option", { value: "all" }, "All simulations"),
        ...names.map((one) => h("option", { value: one, selected: one === simulation }, one)),
      );
    }
    describe();
  }

  function allowed() {
    const run = store.get("run");
    const reason = store.get("at")
      ? "A moment of the past is shown; the ledger is as it was, and commands go to the present."
      : run?.state === "ended"
        ? "The run is over: nothing listens to commands any more."
        : run?.state === "lost"
          ? "The run's stager does not answer at present; it is tried again and again."
          : run?.live === false
            ? "The run is shown from its files: nothing listens to commands."
            : "";
    note.hidden = !reason;
    put(note, reason);
    const over = run?.state === "ended" || run?.live === false;
    for (const control of [pauseAll, resumeAll, stopAll]) control.disabled = over;
    commands.hidden = over;
  }

  const capabilities = connection.subscribe(
    "capabilities",
    {},
    ({ data }) => forms.update(data.capabilities ?? data),
    { every: 2, live: true },
  );
  const ends = [
    ledger.on(draw),
    store.on("at", () => {
      draw();
      allowed();
    }),
    store.on("run", (run, before) => {
      allowed();
      if (run?.state !== before?.state) draw();
    }),
    store.on("simulation", (one) => forms.choose(one)),
  ];
  const ticking = setInterval(() => asked.tick(), 500);
  draw();
  allowed();
  return {
    unmount() {
      capabilities.close();
      clearInterval(ticking);
      ends.forEach((end) => end());
      list.close();
    },
  };
}
