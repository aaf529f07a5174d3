// Colours as 32-bit pixels (0xAABBGGRR, as a canvas keeps them on little-endian machines), in
// tables that a loop over many points can index.

// Every 16th colour of matplotlib's maps (CC0): viridis, S. van der Walt and N. Smith; cividis, made
// for the colour-blind, Nuñez, Anderton and Renslow (2018), 10.1371/journal.pone.0199239.
const MAPS = {
  viridis: "440154481a6c472f7d41448739568c31688e2a788e23888e1f988b22a88435b77954c5687ad151a5db36d2e21bfde725",
  cividis: "00224e052f5d1e3a6f2f456d404f6c4e5a6c5b666d67716f737d7280887697947aa9a178b7ac72c8b966d9c658fee838",
};

export const MAP_NAMES = Object.keys(MAPS);

const tables = new Map();

/** 256 pixels of a map, darkest first. */
export function table(name = "viridis") {
  if (!tables.has(name)) {
    const anchors = MAPS[name].match(/.{6}/g).map((hex) => channels(`#${hex}`));
    const made = new Uint32Array(256);
    for (let i = 0; i < 256; i += 1) {
      const at = (i / 255) * (anchors.length - 1);
      const low = Math.min(anchors.length - 2, Math.floor(at));
      made[i] = pixel(anchors[low].map((v, k) => Math.round(v + (anchors[low + 1][k] - v) * (at - low))));
    }
    tables.set(name, made);
  }
  return tables.get(name);
}

/** Red, green and blue of "#rrggbb" or "rgb(r, g, b)". */
export function channels(colour) {
  if (colour.startsWith("#")) return [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  return (colour.match(/[\d.]+/g) ?? [0, 0, 0]).slice(0, 3).map((v) => Math.round(Number(v)));
}

/** One pixel, opaque. */
export function pixel([red, green, blue]) {
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/** "rgb(...)" of a pixel. */
export function css(value) {
  return `rgb(${value & 255}, ${(value >>> 8) & 255}, ${(value >>> 16) & 255})`;
}

/** `share` of the way from one pixel to another. */
export function mix(from, to, share) {
  const part = (shift) => {
    const a = (from >>> shift) & 255;
    return Math.round(a + (((to >>> shift) & 255) - a) * share);
  };
  return pixel([part(0), part(8), part(16)]);
}
