// A structure as the text that NGL reads; its positions are then replaced frame by frame.

const CHAINS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/** PDB text of a model; `positions` in nm. Names are cut down to what the format can hold. */
export function pdbText(model, positions) {
  const lines = [];
  for (let i = 0; i < model.n; i += 1) {
    const element = word(model.elements[i], 2) || "C";
    const name = word(model.names[i], 4) || element;
    const shown = name.length < 4 && element.length < 2 ? ` ${name}`.padEnd(4) : name.padEnd(4);
    const place = [0, 1, 2].map((axis) => fixed(positions[3 * i + axis] * 10)).join("");
    lines.push(`ATOM  ${String((i + 1) % 100000).padStart(5)} ${shown} ${(word(model.residues[i], 3) || "UNK").padStart(3)} `
      + `${CHAINS[model.chains[i] % CHAINS.length]}${String(Math.abs(model.ids[i]) % 10000).padStart(4)}    ${place}  1.00  0.00          ${element.padStart(2)}`);
  }
  const bound = new Map();
  for (let k = 0; k < model.bonds.length; k += 2) {
    const [a, b] = [model.bonds[k], model.bonds[k + 1]];
    if (!bound.has(a)) bound.set(a, []);
    bound.get(a).push(b);
  }
  for (const [a, others] of bound) {
    for (let k = 0; k < others.length; k += 4) {
      lines.push(`CONECT${[a, ...others.slice(k, k + 4)].map((i) => String(i + 1).padStart(5)).join("")}`);
    }
  }
  return `${lines.join("\n")}\nEND\n`;
}

function word(text, length) {
  return String(text ?? "").replace(/[^A-Za-z0-9'*+-]/g, "").slice(0, length).toUpperCase();
}

function fixed(value) {
  return Math.max(-999, Math.min(9999, Number.isFinite(value) ? value : 0)).toFixed(3).padStart(8);
}
