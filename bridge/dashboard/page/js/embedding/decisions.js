// Where decisions were taken on the map: a restart at the frame that it begins from, with a line
// from where the simulation stood when it was applied; any other command where the simulation stood.

import { stateOf } from "../models.js";

const NEWEST = 150;

/** Marks for `lines` of the ledger, newest first: [{x, y, from?, kind, lines: [text]}]. */
export function marksOf(lines, points, format) {
  const numbers = new Map((points.meta.simulations ?? []).map((name, i) => [name, i]));
  const wanted = new Map();
  const want = (simulation, column, value) => {
    const number = numbers.get(simulation);
    if (number === undefined || !Number.isFinite(value) || !points.has[column]) return null;
    const one = { column, value, i: -1, far: Infinity };
    if (!wanted.has(number)) wanted.set(number, []);
    wanted.get(number).push(one);
    return one;
  };
  const found = lines.slice(0, NEWEST).map((line) => ({
    line,
    target: line.frame && want(line.frame.simulation, "offset", line.frame.offset),
    stood: want(line.simulation, "step", line.step ?? NaN),
  }));
  // One walk over the points; with many of them, only some are near in time to each decision.
  for (let i = 0; i < points.n; i += 1) {
    const list = wanted.get(points.simulation[i]);
    if (list === undefined) continue;
    for (const one of list) {
      const far = Math.abs(points[one.column][i] - one.value);
      if (far < one.far) {
        one.far = far;
        one.i = i;
      }
    }
  }
  const place = (one) => (one && one.i >= 0 ? [points.x[one.i], points.y[one.i]] : null);
  return found.flatMap(({ line, target, stood }) => {
    const at = place(target) ?? place(stood);
    if (!at) return [];
    const restart = line.kind === "restart" || Boolean(line.frame);
    const from = target && place(target) ? place(stood) : null;
    const state = stateOf(line);
    return [{
      x: at[0], y: at[1], from, kind: restart ? "restart" : "command", id: line.id,
      lines: [line.what || line.kind, `${line.simulation}: ${format.words(state)}${Number.isFinite(line.step) ? ` at step ${format.integer(line.step)}` : ""}`, line.why].filter(Boolean),
    }];
  });
}
