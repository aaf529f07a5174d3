// The numbers behind a series panel: what the server sent, kept bounded, smoothed and laid over a
// common x axis. Nothing here touches the document, so that tests can run it alone.

const GROW = 1024;

/** Rows of one column of one simulation. A NaN in `y` is a gap: the line is broken there. */
export class Series {
  constructor({ run = "", simulation, column }) {
    this.run = run;
    this.simulation = simulation;
    this.column = column;
    this.total = 0;
    this.stride = 1;
    this.length = 0;
    this.breaks = [];
    this._x = new Float64Array(GROW);
    this._y = new Float64Array(GROW);
    this._epoch = null;
  }

  get key() {
    return [this.run, this.simulation, this.column].join("\u0000");
  }

  get x() {
    return this._x.subarray(0, this.length);
  }

  get y() {
    return this._y.subarray(0, this.length);
  }

  /** See `gapsOf`; remembered until there are more rows. */
  get gaps() {
    if (this._gapsAt !== this.length) {
      this._gapsAt = this.length;
      this._gaps = gapsOf(this.x);
    }
    return this._gaps;
  }

  /** Take in rows; a change of epoch (a restart that took effect) breaks the line. */
  append(x, y, epochs = null) {
    for (let i = 0; i < x.length; i += 1) {
      const epoch = epochs ? epochs[i] : null;
      if (epoch !== null && this._epoch !== null && epoch !== this._epoch) {
        const before = this.length ? this._x[this.length - 1] : x[i];
        this.breaks.push(x[i]);
        this._push((before + x[i]) / 2, NaN);
      }
      if (epoch !== null) this._epoch = epoch;
      this._push(x[i], y[i]);
    }
  }

  /** Keep at most `limit` rows: the least and the greatest of each bucket, so that spikes stay. */
  thin(limit) {
    if (this.length <= limit) return;
    const wide = Math.ceil((2 * this.length) / limit) * 2;
    const { x, y } = thin(this.x, this.y, wide);
    this._x.set(x);
    this._y.set(y);
    this.stride *= wide / 2;
    this.length = x.length;
  }

  _push(x, y) {
    if (this.length === this._x.length) {
      this._x = grown(this._x);
      this._y = grown(this._y);
    }
    this._x[this.length] = x;
    this._y[this.length] = y;
    this.length += 1;
  }
}

function grown(array) {
  const next = new Float64Array(array.length * 2);
  next.set(array);
  return next;
}

/** The least and greatest of each `bucket` rows, in the order in which they came; gaps stay. */
export function thin(x, y, bucket) {
  const outX = [];
  const outY = [];
  for (let start = 0; start < x.length; start += bucket) {
    const stop = Math.min(x.length, start + bucket);
    let low = -1;
    let high = -1;
    let gap = -1;
    for (let i = start; i < stop; i += 1) {
      if (Number.isNaN(y[i])) gap = i;
      else {
        if (low < 0 || y[i] < y[low]) low = i;
        if (high < 0 || y[i] > y[high]) high = i;
      }
    }
    const rows = [...new Set([low, high, low < 0 ? gap : -1])].filter((i) => i >= 0);
    for (const i of rows.sort((a, b) => a - b)) {
      outX.push(x[i]);
      outY.push(y[i]);
    }
  }
  return { x: outX, y: outY };
}

/** Moving average over `width` rows around each row; it never reaches across a gap. */
export function smooth(y, width) {
  const half = Math.floor(width / 2);
  const out = new Float64Array(y.length).fill(NaN);
  let start = 0;
  while (start < y.length) {
    if (Number.isNaN(y[start])) {
      start += 1;
      continue;
    }
    let stop = start;
    while (stop < y.length && !Number.isNaN(y[stop])) stop += 1;
    let sum = 0;
    let from = start;
    let to = start;
    for (let i = start; i < stop; i += 1) {
      const high = Math.min(stop, i + half + 1);
      const low = Math.max(start, i - half);
      while (to < high) sum += y[to++];
      while (from < low) sum -= y[from++];
      out[i] = sum / (to - from);
    }
    start = stop;
  }
  return out;
}

/**
 * Lay series over one x axis, as uPlot wants them: `[x, y1, y2, ...]` where `undefined` is "no row
 * here, draw through" and `null` is a gap.
 *
 * Few rows keep their own x. Where there are more than `positions` different ones in sight, each
 * series is reduced to the least and greatest in each of `positions / 2` columns; `thinned` says so.
 */
export function align(all, { range = null, positions = 4000, values = (s) => s.y, gaps = false } = {}) {
  const rows = all.map((series) => {
    const seen = visible(series, values(series), range);
    if (!gaps) return seen;
    return broken(seen, seen.x.length === series.length ? series.gaps : gapsOf(seen.x));
  });
  const total = rows.reduce((n, r) => n + r.x.length, 0);
  if (total <= positions * Math.max(1, all.length)) {
    const xs = distinct(rows);
    if (xs.length <= positions) {
      return { data: [xs, ...rows.map((r) => onto(xs, r))], thinned: false };
    }
  }
  return { data: columns(rows, Math.floor(positions / 2)), thinned: true };
}

/** Rows behind which far fewer came than around them: frames that were dropped, or a pause. */
export function gapsOf(x) {
  const found = [];
  for (let i = 1; i < x.length; i += 1) {
    const jump = x[i] - x[i - 1];
    let usual = 0;
    for (let k = Math.max(1, i - 4); k <= Math.min(x.length - 1, i + 4); k += 1) {
      if (k !== i && x[k] - x[k - 1] < jump) usual = Math.max(usual, x[k] - x[k - 1]);
    }
    if (usual > 0 && jump > 8 * usual) found.push(i);
  }
  return found;
}

function visible(series, y, range) {
  const x = series.x;
  if (!range || !x.length || !sorted(x)) return { x, y };
  // One row more at each side, so that lines run out of the picture.
  const from = Math.max(0, search(x, range[0]) - 1);
  const to = Math.min(x.length, search(x, range[1]) + 2);
  return { x: x.subarray(from, to), y: y.subarray(from, to) };
}

/** The rows with a gap (NaN) in the middle of each jump. */
function broken({ x, y }, at) {
  if (!at.length) return { x, y };
  const [outX, outY] = [new Float64Array(x.length + at.length), new Float64Array(x.length + at.length)];
  let from = 0;
  at.concat(x.length).forEach((to, k) => {
    outX.set(x.subarray(from, to), from + k);
    outY.set(y.subarray(from, to), from + k);
    if (to < x.length) {
      outX[to + k] = (x[to - 1] + x[to]) / 2;
      outY[to + k] = NaN;
    }
    from = to;
  });
  return { x: outX, y: outY };
}

function sorted(x) {
  for (let i = 1; i < x.length; i += 1) if (x[i] < x[i - 1]) return false;
  return true;
}

function search(x, value) {
  let low = 0;
  let high = x.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (x[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

function distinct(rows) {
  let first = rows.length ? rows[0].x : new Float64Array(0);
  if (rows.every((r) => same(r.x, first)) && strictly(first)) return Float64Array.from(first);
  const size = rows.reduce((n, r) => n + r.x.length, 0);
  const every = new Float64Array(size);
  let at = 0;
  for (const r of rows) {
    every.set(r.x, at);
    at += r.x.length;
  }
  every.sort();
  let kept = 0;
  for (let i = 0; i < size; i += 1) {
    if (!kept || every[i] !== every[kept - 1]) every[kept++] = every[i];
  }
  return every.slice(0, kept);
}

function strictly(x) {
  for (let i = 1; i < x.length; i += 1) if (!(x[i] > x[i - 1])) return false;
  return true;
}

function same(a, b) {
  if (a.length !== b.length) return false;
  if (a === b) return true;
  for (let i = 0; i < a.length; i += 1) if (a[i] !== b[i]) return false;
  return true;
}

function onto(xs, { x, y }) {
  const out = new Array(xs.length).fill(undefined);
  for (let i = 0; i < x.length; i += 1) {
    const at = search(xs, x[i]);
    out[at] = Number.isNaN(y[i]) ? null : y[i];
  }
  return widened(out);
}

/** Let each gap reach to the rows on both sides of it, over places that only others have rows at. */
function widened(values) {
  for (let i = 0; i < values.length; i += 1) {
    if (values[i] !== null) continue;
    for (let k = i - 1; k >= 0 && values[k] === undefined; k -= 1) values[k] = null;
    for (let k = i + 1; k < values.length && values[k] === undefined; k += 1) values[k] = null;
  }
  return values;
}

function columns(rows, count) {
  let low = Infinity;
  let high = -Infinity;
  for (const { x } of rows) {
    for (const v of x) {
      if (v < low) low = v;
      if (v > high) high = v;
    }
  }
  const width = (high - low) / count || 1;
  const xs = new Float64Array(2 * count);
  for (let i = 0; i < count; i += 1) {
    xs[2 * i] = low + (i + 0.25) * width;
    xs[2 * i + 1] = low + (i + 0.75) * width;
  }
  return [xs, ...rows.map((r) => extremes(r, low, width, count))];
}

function extremes({ x, y }, low, width, count) {
  const out = new Array(2 * count).fill(undefined);
  const last = new Int32Array(count).fill(-1);
  const first = new Int32Array(count).fill(-1);
  for (let i = 0; i < x.length; i += 1) {
    const at = Math.min(count - 1, Math.floor((x[i] - low) / width));
    if (Number.isNaN(y[i])) {
      if (out[2 * at] === undefined) {
        out[2 * at] = null;
        out[2 * at + 1] = null;
      }
      continue;
    }
    if (first[at] < 0) {
      first[at] = last[at] = i;
    } else {
      if (y[i] < y[first[at]]) first[at] = i;
      if (y[i] > y[last[at]]) last[at] = i;
    }
  }
  for (let at = 0; at < count; at += 1) {
    if (first[at] < 0) continue;
    const rising = first[at] <= last[at];
    out[2 * at] = y[rising ? first[at] : last[at]];
    out[2 * at + 1] = y[rising ? last[at] : first[at]];
  }
  return widened(out);
}

/** All series of a panel, from one or several subscriptions. */
export class SeriesSet {
  constructor(limit) {
    this.limit = limit;
    this.meta = {};
    // This run comes first, whoever answers first.
    this._runs = new Map([["", new Map()]]);
  }

  /** Every series, in the order in which the server names them, this run before others. */
  get all() {
    return [...this._runs.values()].flatMap((known) => [...known.values()]);
  }

  /** Take in one message; returns whether the list of series changed. */
  take(message, run = "") {
    const meta = message.meta;
    const fresh = meta.reset || message.first || !this._runs.has(run);
    const known = fresh ? new Map() : this._runs.get(run);
    const before = fresh ? "" : [...known.keys()].join();
    const begin = meta.x === "wall" ? (meta.stamp0 ?? 0) : 0;
    for (const entry of meta.series ?? []) {
      const name = `${entry.simulation}\u0000${entry.column}`;
      if (!known.has(name)) known.set(name, new Series({ ...entry, run }));
      const series = known.get(name);
      const given = message.arrays[`x${entry.index}`];
      const rows = entry.total ?? given.length;
      series.total += rows;
      if (given.length && rows > given.length) series.stride = Math.max(series.stride, rows / given.length);
      series.append(begin ? given.map((x) => x + begin) : given, message.arrays[`y${entry.index}`], message.arrays[`e${entry.index}`]);
      series.thin(2 * this.limit);
    }
    this.sampled = Boolean(meta.sampled);
    this._runs.set(run, known);
    this.meta = { ...this.meta, ...meta };
    return fresh || before !== [...known.keys()].join();
  }

  forget(run) {
    this._runs.delete(run);
  }
}
