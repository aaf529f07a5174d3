// Colours of atoms, after Corey, Pauling and Koltun, with a carbon that shows on both grounds.

const LIGHT = { H: "#b8bcc2", C: "#5c6570", N: "#2f5fd0", O: "#d6402b", S: "#c9a200", P: "#d9730d", F: "#4caf50", CL: "#3fa34d", NA: "#8a5cd6", K: "#8a5cd6", X: "#3b8ea5" };
const DARK = { H: "#e8ebef", C: "#9aa5b1", N: "#6f9bff", O: "#ff6b57", S: "#f0d000", P: "#ff9d45", F: "#7fd483", CL: "#6fd07c", NA: "#b794f6", K: "#b794f6", X: "#66c2d9" };

export function elementColour(element, dark) {
  const colours = dark ? DARK : LIGHT;
  return colours[element] ?? colours.X;
}
