// What the colour of a point says.

import { shownOf, withUnit } from "../plots/columns.js";
import { channels, css, pixel, table } from "../viridis.js";

/** What can be had without asking the server for a column. */
export const OWN = [
  { value: ":time", label: "time" },
  { value: ":stamp", label: "wall time" },
  { value: ":simulation", label: "simulation" },
  { value: ":version", label: "model version" },
];

const NONE_LIGHT = "#b9bec6";
const NONE_DARK = "#4a525d";
const NAMED = 8;

const byName = new Intl.Collator(undefined, { numeric: true }).compare;

/** A colour for each simulation, in the order of `names`; given out in the order of the alphabet. */
export function simulationColours(ui, names, theme) {
  const colours = spread(ui, names.length, theme);
  const ranks = [...names.keys()].sort((a, b) => byName(names[a], names[b]));
  const found = new Array(names.length);
  ranks.forEach((number, rank) => { found[number] = colours[rank % colours.length]; });
  return found;
}

// More classes than have names of their own: a scale, without the end that is lost on the ground.
function spread(ui, count, theme) {
  if (count <= NAMED) return ui.palette(Math.max(1, count));
  const scale = readable("viridis", theme);
  return Array.from({ length: count }, (_, i) => css(scale[Math.round((i / (count - 1)) * (scale.length - 1))]));
}

/** The part of a map that can be told from the background. */
export function readable(name, theme) {
  const whole = table(name);
  return theme.dark ? whole.subarray(52) : whole.subarray(0, 236);
}

/**
 * How to colour: {values, table, low, high, none, title, factor?, classes?}, as `drawPoints` takes
 * it; what `factor` multiplies is told at the scale.
 * `ranges` keeps what was seen, so that colours keep their meaning while points come.
 */
export function shadeOf(mode, { points, ranges, theme, ui, map, columns, timeUnit }) {
  const none = pixel(channels(theme.dark ? NONE_DARK : NONE_LIGHT));
  if (mode === ":simulation") {
    const names = points.meta.simulations ?? [];
    const colours = simulationColours(ui, names, theme);
    const classes = names.map((name, i) => ({ name, colour: colours[i] })).sort((a, b) => byName(a.name, b.name));
    return { values: points.simulation, table: pixels(colours.length ? colours : ["#000000"]), none, classes };
  }
  if (mode === ":version") {
    const versions = points.versions.map((one) => one.version);
    const colours = spread(ui, versions.length, theme);
    const list = new Uint32Array((versions.at(-1) ?? 0) + 1).fill(none);
    versions.forEach((version, i) => { list[version] = pixel(channels(colours[i % colours.length])); });
    return { values: points.version, table: list, none, classes: versions.map((version, i) => ({ name: versionName(version), version, colour: colours[i % colours.length] })) };
  }
  const name = mode.startsWith(":") ? mode.slice(1) : "colour";
  const [low, high] = ranges[name] ?? [0, 0];
  const shade = { values: points[name], table: readable(map, theme), low, high: high > low ? high : low + 1, none };
  if (name === "time") return { ...shade, title: withUnit("time", timeUnit) };
  if (name === "stamp") {
    const start = points.meta.stamp0 ?? 0;
    return { ...shade, title: "wall time", format: (value) => ui.format.clock(start + value) };
  }
  const { unit, factor } = shownOf(columns, mode);
  return { ...shade, factor, title: withUnit(mode, unit) };
}

export function versionName(version) {
  return version > 0 ? `v${version}` : "no model";
}

function pixels(colours) {
  return Uint32Array.from(colours, (colour) => pixel(channels(colour)));
}
