// The points as the page keeps them: columns that grow, and never beyond a limit.

const COLUMNS = {
  x: Float32Array, y: Float32Array, colour: Float32Array, simulation: Uint16Array,
  offset: Float64Array, step: Float64Array, time: Float32Array, stamp: Float64Array, version: Uint32Array,
};
const ABSENT = { colour: NaN, time: NaN, step: NaN, offset: -1, stamp: 0, simulation: 0, version: 0 };
// The server begins anew with an even sample when it has sent twice the limit; this is for one that
// does not.
const KEEP = 2.5;

export class Points {
  n = 0;
  /** Grows with every change; `base` grows when points that were there are there no more. */
  revision = 0;
  base = 0;
  meta = {};
  has = {};
  /** Model versions, in order: [{version, stamp (Unix time of its first point), count}]. */
  versions = [];
  /** Points there are, of which these may be a sample. */
  total = 0;
  /** True once old points had to go. */
  cut = false;
  #capacity = 0;

  constructor() {
    this.#reserve(1024);
  }

  /** Take in a message; returns the number of the first point that is new. */
  take(meta, arrays, limit = Infinity) {
    const count = arrays.x?.length ?? 0;
    if (meta.reset !== false) this.clear();
    this.meta = { ...this.meta, ...meta };
    this.total = meta.of ?? this.total + (meta.total ?? count);
    if (meta.versions?.length) this.#note(meta.versions);
    // Who asked for no colour got the time as one.
    if (!arrays.time && meta.columns?.colour === "time") arrays = { ...arrays, time: arrays.colour };
    for (const name of Object.keys(COLUMNS)) if (arrays[name]) this.has[name] = true;
    if (this.n + count > KEEP * limit) this.#drop(Math.min(this.n, this.n + count - limit));
    const first = this.n;
    this.#reserve(first + count);
    for (const name of Object.keys(COLUMNS)) {
      if (arrays[name]) this[name].set(arrays[name], first);
      else this[name].fill(ABSENT[name], first, first + count);
    }
    this.n = first + count;
    this.revision += 1;
    return first;
  }

  clear() {
    this.n = 0;
    this.total = 0;
    this.cut = false;
    this.has = {};
    this.versions = [];
    this.base += 1;
    this.revision += 1;
  }

  /** Take in the versions that have changed. */
  #note(changed) {
    const known = new Map(this.versions.map((one) => [one.version, one]));
    for (const one of changed) known.set(one.version, one);
    this.versions = [...known.values()].sort((a, b) => a.version - b.version);
  }

  get newest() {
    return this.versions.at(-1)?.version ?? 0;
  }

  name(i) {
    return this.meta.simulations?.[this.simulation[i]] ?? String(this.simulation[i]);
  }

  /** Lowest and highest finite value of a column, null if there is none; from point `first` on. */
  range(name, first = 0) {
    const values = this[name];
    let low = Infinity;
    let high = -Infinity;
    for (let i = first; i < this.n; i += 1) {
      const value = values[i];
      if (value < low && value > -Infinity) low = value;
      if (value > high && value < Infinity) high = value;
    }
    return low <= high ? [low, high] : null;
  }

  /** Numbers of the points that are frames of `wanted`, [{simulation, offset}], from `first` on. */
  find(wanted, first = 0) {
    const bySimulation = new Map();
    for (const { simulation, offset } of wanted) {
      const number = this.meta.simulations?.indexOf(simulation) ?? -1;
      if (number < 0) continue;
      if (!bySimulation.has(number)) bySimulation.set(number, new Set());
      bySimulation.get(number).add(offset);
    }
    const found = [];
    if (!bySimulation.size) return found;
    for (let i = first; i < this.n; i += 1) {
      if (bySimulation.get(this.simulation[i])?.has(this.offset[i])) found.push(i);
    }
    return found;
  }

  #drop(count) {
    for (const name of Object.keys(COLUMNS)) this[name].copyWithin(0, count, this.n);
    this.n -= count;
    this.cut = true;
    this.base += 1;
  }

  #reserve(wanted) {
    if (wanted <= this.#capacity) return;
    this.#capacity = Math.max(wanted, Math.ceil(this.#capacity * 1.5));
    for (const [name, Type] of Object.entries(COLUMNS)) {
      const grown = new Type(this.#capacity);
      if (this.n) grown.set(this[name].subarray(0, this.n));
      this[name] = grown;
    }
  }
}
