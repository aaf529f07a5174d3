// Alarms: those that the server tells, and that it is out of reach. Shown above every view, told to
// screen readers, and, where somebody wants it, heard.

import { connection } from "./context.js";
import { memory, store } from "./state.js";
import { attribute, h, keyed, put } from "./ui.js";

const GRAVITY = { error: 0, warning: 1, info: 2 };
const SHOWN = 3;

let audio = null;

/** Whether alarms are heard. */
export const sound = {
  get on() {
    return memory.get("sound", false);
  },
  set on(value) {
    memory.set("sound", Boolean(value));
    if (value) beep();
  },
};

/** Two short tones. Browsers allow this only once the page was clicked. */
export function beep() {
  try {
    audio ??= new AudioContext();
    audio.resume();
    [
      [0, 660],
      [0.18, 880],
    ].forEach(([wait, pitch]) => {
      const tone = audio.createOscillator();
      const volume = audio.createGain();
      const start = audio.currentTime + wait;
      tone.frequency.value = pitch;
      volume.gain.setValueAtTime(0, start);
      volume.gain.linearRampToValueAtTime(0.12, start + 0.02);
      volume.gain.exponentialRampToValueAtTime(0.001, start + 0.16);
      tone.connect(volume).connect(audio.destination);
      tone.start(start);
      tone.stop(start + 0.17);
    });
  } catch (error) {
    console.warn("This browser makes no sound.", error);
  }
}

/** The server's alarms in one form, gravest and newest first. */
export function sorted(alarms) {
  return (alarms ?? [])
    .map((alarm) => ({
      level: "warning",
      simulation: "",
      ...alarm,
      kind: alarm.kind ?? alarm.rule ?? "alarm",
      message:
        alarm.message ??
        alarm.text ??
        String(alarm.rule ?? alarm.kind ?? "alarm").replaceAll("_", " "),
      key: alarm.id ?? `${alarm.rule ?? alarm.kind}/${alarm.simulation ?? ""}`,
      since: alarm.since ?? alarm.stamp ?? 0,
    }))
    .sort((a, b) => (GRAVITY[a.level] ?? 1) - (GRAVITY[b.level] ?? 1) || b.since - a.since);
}

/** Many alarms of one rule as one line: the gravest stands for the others. */
function together(alarms) {
  const groups = new Map();
  for (const alarm of alarms) {
    const name = `${alarm.level}/${alarm.kind}`;
    if (groups.has(name)) groups.get(name).others += 1;
    else groups.set(name, { ...alarm, others: 0 });
  }
  return [...groups.values()];
}

/** Fills `root` with the alarms that are on. */
export function bar(root) {
  const nodes = new Map();
  const list = h("ul", {});
  const more = h("a", { class: "alarms-more", href: "#/events", hidden: true });
  root.append(list, more);
  let [known, cut] = [null, null];

  function draw() {
    const alarms = sorted(store.get("overview")?.alarms);
    if (cut !== null && (connection.farewell || Date.now() - cut > 3000)) {
      alarms.unshift({
        key: "connection",
        kind: "connection",
        level: connection.farewell ? "info" : "error",
        simulation: "",
        since: cut / 1000,
        message:
          connection.farewell ||
          "The dashboard's server is out of reach: what is shown is old. The run itself does not depend on it.",
      });
    }
    const run = store.get("run");
    if (run?.state === "lost") {
      alarms.unshift({
        key: "stager",
        kind: "stager",
        level: "error",
        simulation: "",
        since: 0,
        message:
          `Nothing is heard from the run: its stager does not answer. ${run.error ?? ""}`.trim(),
      });
    }
    root.hidden = alarms.length === 0;
    const groups = together(alarms);
    keyed(list, nodes, groups.slice(0, SHOWN), (alarm) => alarm.key, make, update);
    more.hidden = groups.length === alarms.length && groups.length <= SHOWN;
    put(more, `All ${alarms.length}`);
    const keys = new Set(alarms.map((alarm) => alarm.key));
    const news = known && [...keys].some((key) => !known.has(key));
    const changed = !known || news || keys.size !== known.size;
    if (news && sound.on) beep();
    known = keys;
    // That a dashboard has ended with its run is nothing to count.
    if (changed) store.set("alarms", alarms.filter((alarm) => alarm.level !== "info"));
  }

  function make() {
    const glyph = h("span", { class: "glyph", "aria-hidden": "true" });
    const where = h("strong", {});
    const text = h("span", {});
    const others = h("strong", {});
    return {
      node: h("li", { testid: "alarm" }, glyph, where, text, others),
      glyph,
      where,
      text,
      others,
    };
  }

  function update(parts, alarm) {
    attribute(parts.node, "data-level", alarm.level);
    put(parts.glyph, alarm.level === "error" ? "✕" : alarm.level === "info" ? "ℹ" : "▲");
    put(parts.where, alarm.message.includes(alarm.simulation) ? "" : alarm.simulation);
    put(parts.text, alarm.message);
    put(parts.others, alarm.others ? `and ${alarm.others} more` : "");
  }

  store.set("alarms", []);
  store.on("overview", draw);
  store.on("run", (run, before) => run?.state !== before?.state && draw());
  connection.onState((state) => {
    cut = state === "open" ? null : (cut ?? Date.now());
    draw();
  });
  setInterval(() => cut !== null && draw(), 1000);
}
