// What plots take from the page: its colours, and a set of line styles that the common kinds of
// colour blindness can tell apart.

// Okabe and Ito, "Color Universal Design" (2008), without black, yellow darkened for white paper.
const LINES_LIGHT = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#b58900", "#6f6f6f"];
const LINES_DARK = ["#56b4e9", "#e69f00", "#2fc49b", "#e08fbb", "#5d9bff", "#f0e442", "#b8b8b8"];
const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3]];

/** Colour and dash of the k-th line: seven colours, then the same ones dashed, and so on. */
export function lineStyle(k, dark) {
  const colours = dark ? LINES_DARK : LINES_LIGHT;
  const turn = Math.floor(k / colours.length) % DASHES.length;
  return { colour: colours[k % colours.length], dash: DASHES[turn] };
}

export const PAPER = {
  dark: false,
  text: "#1c1c1c",
  muted: "#5a5a5a",
  grid: "#e2e2e2",
  background: "#ffffff",
  target: "#00785a",
};

/** Colours of the page where `element` stands. */
export function themeOf(element) {
  const text = channels(getComputedStyle(element).color);
  const background = channels(backgroundOf(element));
  const dark = luminance(background) < 0.4;
  const mix = (share) =>
    `rgb(${text.map((v, i) => Math.round(v * share + background[i] * (1 - share))).join(",")})`;
  return {
    dark,
    text: mix(1),
    muted: mix(0.72),
    grid: mix(0.13),
    background: `rgb(${background.join(",")})`,
    target: dark ? "#3fd6a8" : "#00785a",
  };
}

function backgroundOf(element) {
  for (let at = element; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (colour && colour !== "transparent" && !/, 0\)$/.test(colour)) return colour;
  }
  return "rgb(255,255,255)";
}

// A canvas knows every way of writing a colour.
let probe = null;

function channels(colour) {
  const plain = /^rgba?\((\d+), (\d+), (\d+)/.exec(colour);
  if (plain) return plain.slice(1, 4).map(Number);
  probe ??= document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  probe.fillStyle = colour;
  probe.fillRect(0, 0, 1, 1);
  return [...probe.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}

function luminance([r, g, b]) {
  return (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
}

/** Call `change` whenever the page turns light or dark; returns what ends that. */
export function onTheme(change) {
  const observer = new MutationObserver(change);
  observer.observe(document.documentElement, { attributes: true });
  observer.observe(document.body, { attributes: true, attributeFilter: ["class", "data-theme"] });
  const media = matchMedia("(prefers-color-scheme: dark)");
  media.addEventListener("change", change);
  return () => {
    observer.disconnect();
    media.removeEventListener("change", change);
  };
}

/** Round numbers from `low` to `high`, about `count` of them. */
export function ticks(low, high, count = 6) {
  const span = high - low;
  if (!(span > 0)) return [low];
  const raw = span / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n += 1) {
    found.push(n * step);
  }
  return found;
}

/** A number as an axis shows it. */
export function label(value) {
  if (value === 0 || Math.abs(value) < 1e-12) return "0";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(1).replace("e+", "e");
  return String(Number(value.toPrecision(5)));
}
