// The time slider: shows the run as it was at some moment, and plays it.

import { connection } from "./context.js";
import { store } from "./state.js";
import { attribute, format, h, icon, iconButton, put, segmented } from "./ui.js";

const TICK = 0.2;
const SPEEDS = [
  { value: "1", label: "1×", title: "As fast as it was" },
  { value: "10", label: "10×", title: "Ten times as fast" },
  { value: "100", label: "100×", title: "A hundred times as fast" },
  { value: "fit", label: "1 min", title: "The whole run in one minute" },
];

/** Fills `root` and keeps it up to date; returns {toggle, live}. */
export function replay(root) {
  let [start, end, alive, playing, speed, timer] = [0, 0, false, false, "10", null];

  const slider = h("input", {
    type: "range",
    min: 0,
    max: 1000,
    value: 1000,
    step: 1,
    testid: "replay-slider",
    "aria-label": "Time shown",
  });
  const play = iconButton("play", "Play", () => toggle(), {
    testid: "replay-play",
    "aria-keyshortcuts": "Space",
  });
  const shown = h("output", { class: "replay-time", testid: "replay-time" });
  const from = h("span", { class: "muted replay-end" });
  const to = h("span", { class: "muted replay-end" });
  const now = h(
    "button",
    { type: "button", class: "button replay-live", testid: "replay-live", onclick: () => live() },
    "Live",
  );
  const speeds = segmented(
    "Speed of replay",
    SPEEDS,
    speed,
    (value) => {
      speed = value;
    },
    { testid: "replay-speed" },
  );
  root.append(play, speeds, from, slider, to, shown, now);
  slider.addEventListener("input", () => show(start + (slider.value / 1000) * (end - start)));

  function show(at) {
    const last = at === null || at >= end - 1e-3;
    connection.at = last ? null : at;
    store.set("at", last ? null : at);
    draw();
  }

  function live() {
    stop();
    show(null);
  }

  function stop() {
    playing = false;
    clearInterval(timer);
    draw();
  }

  function toggle() {
    if (end <= start) return;
    if (playing) return stop();
    if (connection.at === null) show(start);
    playing = true;
    timer = setInterval(() => {
      const factor = speed === "fit" ? Math.max(1, (end - start) / 60) : Number(speed);
      const next = (connection.at ?? end) + TICK * factor;
      if (next >= end) return live();
      show(next);
    }, TICK * 1000);
    draw();
  }

  function draw() {
    const at = connection.at;
    const share = at === null ? 1 : (at - start) / Math.max(1e-9, end - start);
    if (document.activeElement !== slider || playing) slider.value = Math.round(share * 1000);
    slider.style.setProperty("--share", `${(share * 100).toFixed(2)}%`);
    attribute(
      slider,
      "aria-valuetext",
      at === null ? (alive ? "now" : "end of the run") : format.date(at),
    );
    put(from, format.clock(start));
    put(to, format.clock(end));
    put(shown, at === null ? "" : `${format.clock(at)} · ${format.duration(at - start)} in`);
    put(now, alive ? "Live" : "End");
    attribute(now, "aria-pressed", String(at === null));
    attribute(play, "aria-label", playing ? "Pause" : "Play");
    play.replaceChildren(icon(playing ? "pause" : "play"));
    root.dataset.replaying = String(at !== null);
  }

  function follow(run) {
    const range = run?.replay;
    root.hidden = !(range && range.start > 0 && range.end > range.start);
    if (root.hidden) return;
    alive = Boolean(run.live) && run.state !== "ended";
    start = range.start;
    end = alive ? Math.max(range.end, connection.now()) : range.end;
    draw();
  }

  store.on("run", follow);
  follow(store.get("run"));
  setInterval(() => alive && follow(store.get("run")), 1000);
  return { toggle, live };
}
