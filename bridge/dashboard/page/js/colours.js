// Colours that the colour-blind tell apart.

// Okabe and Ito (2008), in an order that keeps neighbours apart; the yellow, which is lost on
// white, comes last. https://jfly.uni-koeln.de/color/
const OKABE_ITO = [
  "#0072b2",
  "#e69f00",
  "#009e73",
  "#d55e00",
  "#cc79a7",
  "#56b4e9",
  "#8c8c8c",
  "#c7b200",
];
const VIRIDIS = [
  [68, 1, 84],
  [71, 44, 122],
  [59, 81, 139],
  [44, 113, 142],
  [33, 144, 141],
  [39, 173, 129],
  [92, 200, 99],
  [170, 220, 50],
  [253, 231, 37],
];

/** Viridis at `fraction` in [0, 1], as [red, green, blue] from 0 to 255. */
export function viridis(fraction) {
  const place =
    Math.min(1, Math.max(0, Number.isFinite(fraction) ? fraction : 0)) * (VIRIDIS.length - 1);
  const left = Math.min(VIRIDIS.length - 2, Math.floor(place));
  const share = place - left;
  return VIRIDIS[left].map((value, i) =>
    Math.round(value + (VIRIDIS[left + 1][i] - value) * share),
  );
}

/** `n` colours that the colour-blind tell apart: Okabe–Ito up to eight, else viridis by rank. */
export function palette(n) {
  if (n <= OKABE_ITO.length) return OKABE_ITO.slice(0, Math.max(0, n));
  return Array.from({ length: n }, (_, i) => {
    const [red, green, blue] = viridis(0.04 + (0.9 * i) / (n - 1));
    return `rgb(${red}, ${green}, ${blue})`;
  });
}
