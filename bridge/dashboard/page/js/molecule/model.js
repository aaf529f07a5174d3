// What a molecule is made of, and how its atoms are put together again across the box's faces.

const NM = {
  H: 0.031, C: 0.076, N: 0.071, O: 0.066, F: 0.057, P: 0.107, S: 0.105, CL: 0.102, BR: 0.12, I: 0.139,
  NA: 0.166, K: 0.203, MG: 0.141, CA: 0.176, ZN: 0.122, FE: 0.132,
};
const SLACK = 0.045;
const TRACE = 0.45;

// In nm, A. Bondi (1964), 10.1021/j100785a001.
const RADII = { H: 0.12, C: 0.17, N: 0.155, O: 0.152, F: 0.147, P: 0.18, S: 0.18, CL: 0.175, NA: 0.227, K: 0.275, MG: 0.173, ZN: 0.139 };

export class Model {
  /** From what `/api/topology` says; `positions` (nm) of one frame, for bonds that nobody named. */
  constructor(topology, positions) {
    const n = positions.length / 3;
    const list = (values, fallback) => (values?.length === n ? values : new Array(n).fill(fallback));
    this.n = n;
    /** In nanometres? Model systems have units of their own. */
    this.metric = topology.unit === "nm";
    this.names = list(topology.names, "");
    this.residues = list(topology.residues, "");
    this.ids = list(topology.residue_ids, 1);
    this.elements = list(topology.elements, "").map((given, i) => symbol(given, this.names[i]));
    this.backbone = Int32Array.from(topology.backbone ?? []);
    const trace = this.backbone.length === n && n > 1;
    const bonds = (topology.bonds ?? []).filter(([a, b]) => a < n && b < n);
    if (bonds.length) this.bonds = Int32Array.from(bonds.flat());
    else if (trace) this.bonds = this.#trace(positions);
    else this.bonds = this.metric ? near(positions, this.elements) : new Int32Array(0);
    this.trace = trace;
    this.chains = this.#chains();
    this.#walk();
  }

  /** van der Waals radius of an atom, in nm, or what suits a model system. */
  radius(i) {
    return this.metric ? RADII[this.elements[i]] ?? 0.17 : 0.3;
  }

  /** Has it a backbone that a ribbon can follow? */
  get ribbon() {
    return this.backbone.length >= 4;
  }

  // Alpha carbons of neighbours in the sequence, where they are near each other.
  #trace(positions) {
    const found = [];
    for (let i = 1; i < this.n; i += 1) if (far(positions, i - 1, i) < TRACE) found.push(i - 1, i);
    return Int32Array.from(found);
  }

  // A new chain begins where the numbers of the residues go back, or jump.
  #chains() {
    const chains = new Uint16Array(this.n);
    let chain = 0;
    for (let i = 1; i < this.n; i += 1) {
      const step = this.ids[i] - this.ids[i - 1];
      if (step < 0 || step > 1) chain += 1;
      chains[i] = chain;
    }
    return chains;
  }

  // An order in which each atom comes after the one that it is bound to.
  #walk() {
    const { n, bonds } = this;
    const counts = new Int32Array(n + 1);
    for (const atom of bonds) counts[atom + 1] += 1;
    for (let i = 0; i < n; i += 1) counts[i + 1] += counts[i];
    const neighbours = new Int32Array(bonds.length);
    const next = counts.slice();
    for (let k = 0; k < bonds.length; k += 2) {
      neighbours[next[bonds[k]]++] = bonds[k + 1];
      neighbours[next[bonds[k + 1]]++] = bonds[k];
    }
    const seen = new Uint8Array(n);
    const order = new Int32Array(n);
    const parents = new Int32Array(n).fill(-1);
    let filled = 0;
    for (let root = 0; root < n; root += 1) {
      if (seen[root]) continue;
      seen[root] = 1;
      order[filled] = root;
      for (let k = filled++; k < filled; k += 1) {
        const atom = order[k];
        for (let at = counts[atom]; at < counts[atom + 1]; at += 1) {
          const other = neighbours[at];
          if (seen[other]) continue;
          seen[other] = 1;
          parents[other] = atom;
          order[filled++] = other;
        }
      }
    }
    this.order = order;
    this.parents = parents;
  }

  /** Move atoms by whole box vectors so that no bond crosses the box; in place. */
  whole(positions, box) {
    const inverse = box && invert(box);
    if (!inverse) return positions;
    for (const atom of this.order) {
      const parent = this.parents[atom];
      if (parent < 0) continue;
      const [a, b] = [3 * atom, 3 * parent];
      const d = [positions[a] - positions[b], positions[a + 1] - positions[b + 1], positions[a + 2] - positions[b + 2]];
      for (let k = 0; k < 3; k += 1) {
        const turns = Math.round(d[0] * inverse[k] + d[1] * inverse[3 + k] + d[2] * inverse[6 + k]);
        if (turns === 0) continue;
        for (let axis = 0; axis < 3; axis += 1) positions[a + axis] -= turns * box[3 * k + axis];
      }
    }
    return positions;
  }
}

/** Middle of the atoms. */
export function middle(positions) {
  const sum = [0, 0, 0];
  const n = positions.length / 3 || 1;
  for (let i = 0; i < positions.length; i += 3) {
    sum[0] += positions[i];
    sum[1] += positions[i + 1];
    sum[2] += positions[i + 2];
  }
  return sum.map((value) => value / n);
}

/** The twelve edges of a box (rows are its vectors) as pairs of corners, seen from `origin`. */
export function edges(box, origin) {
  const corner = (i, j, k) => [0, 1, 2].map((axis) => i * box[axis] + j * box[3 + axis] + k * box[6 + axis] - origin[axis]);
  const found = [];
  for (const [u, v] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
    found.push([corner(0, u, v), corner(1, u, v)], [corner(u, 0, v), corner(u, 1, v)], [corner(u, v, 0), corner(u, v, 1)]);
  }
  return found;
}

function symbol(given, name) {
  const text = String(given ?? "").trim().toUpperCase();
  if (text) return text;
  // PDB names begin with the element, after digits: "1HB2" is a hydrogen.
  const letters = String(name ?? "").replace(/^[^A-Za-z]+/, "").toUpperCase();
  return /^(CL|BR|NA|MG|ZN|FE)/.test(letters) && letters.length <= 2 ? letters : letters.slice(0, 1);
}

function far(positions, i, j) {
  return Math.hypot(positions[3 * i] - positions[3 * j], positions[3 * i + 1] - positions[3 * j + 1], positions[3 * i + 2] - positions[3 * j + 2]);
}

// Pairs of atoms that are as near as bound ones are; cells keep this from being a square.
function near(positions, elements) {
  const side = 0.3;
  const n = elements.length;
  const cells = new Map();
  const at = (i, axis) => Math.floor(positions[3 * i + axis] / side);
  const key = (x, y, z) => `${x} ${y} ${z}`;
  for (let i = 0; i < n; i += 1) {
    const name = key(at(i, 0), at(i, 1), at(i, 2));
    if (!cells.has(name)) cells.set(name, []);
    cells.get(name).push(i);
  }
  const found = [];
  for (let i = 0; i < n; i += 1) {
    const mine = NM[elements[i]] ?? 0.077;
    for (let x = -1; x <= 1; x += 1) for (let y = -1; y <= 1; y += 1) for (let z = -1; z <= 1; z += 1) {
      for (const j of cells.get(key(at(i, 0) + x, at(i, 1) + y, at(i, 2) + z)) ?? []) {
        if (j <= i || (elements[i] === "H" && elements[j] === "H")) continue;
        if (far(positions, i, j) < mine + (NM[elements[j]] ?? 0.077) + SLACK) found.push(i, j);
      }
    }
  }
  return Int32Array.from(found);
}

function invert(m) {
  const cofactor = (a, b, c, d) => m[a] * m[d] - m[b] * m[c];
  const [x, y, z] = [cofactor(4, 5, 7, 8), -cofactor(3, 5, 6, 8), cofactor(3, 4, 6, 7)];
  const size = m[0] * x + m[1] * y + m[2] * z;
  if (!(Math.abs(size) > 1e-12)) return null;
  return [
    x, -cofactor(1, 2, 7, 8), cofactor(1, 2, 4, 5),
    y, cofactor(0, 2, 6, 8), -cofactor(0, 2, 3, 5),
    z, -cofactor(0, 1, 6, 7), cofactor(0, 1, 3, 4),
  ].map((value) => value / size);
}
