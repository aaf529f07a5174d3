// Which columns make a map.

import { numbersOf } from "../plots/columns.js";

/** Pairs of columns that make a map: what the run names first, then whatever has two numbers. */
export function spacesOf(run) {
  const spaces = [];
  const add = (title, x, y, more = {}) => {
    if (x && y && !spaces.some((one) => one.x === x && one.y === y)) spaces.push({ title, x, y, ...more });
  };
  const map = (one) => add(one.title || one.name || `${one.x}, ${one.y}`, one.x, one.y, { labels: one.labels, degrees: one.degrees, version: one.version });
  const { embedding } = run;
  if (embedding) map((run.maps ?? []).find((one) => one.x === embedding.x && one.y === embedding.y) ?? embedding);
  for (const one of run.maps ?? []) map(one);
  for (const { name, size = 1 } of run.columns ?? []) if (size >= 2) add(name, `${name}[0]`, `${name}[1]`);
  const numbers = numbersOf(run.columns);
  if (!spaces.length && numbers.length >= 2) add(`${numbers[0].text}, ${numbers[1].text}`, numbers[0].text, numbers[1].text);
  return spaces;
}
