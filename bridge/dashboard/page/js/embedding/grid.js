// Which point is nearest? An index of cells over the data, made when somebody asks first.

const PER_CELL = 4;

export class Grid {
  #revision = -1;
  #points = null;
  #order = null;
  #starts = null;

  constructor(points) {
    this.#points = points;
  }

  /**
   * The point nearest to (x, y), at most `radius` pixels away, or -1. `px`, `py` are pixels for one
   * unit of the data; of points at the same place the newest wins. `shown` as in drawPoints.
   */
  nearest(x, y, radius, px, py, shown = null) {
    this.#build();
    let best = -1;
    let least = radius * radius;
    const points = this.#points;
    this.#visit(x - radius / px, x + radius / px, y - radius / py, y + radius / py, (i) => {
      if (shown !== null && shown[points.simulation[i]] === 0) return;
      const dx = (points.x[i] - x) * px;
      const dy = (points.y[i] - y) * py;
      const far = dx * dx + dy * dy;
      if (far < least || (far === least && i > best)) {
        least = far;
        best = i;
      }
    });
    return best;
  }

  /** All points in a box of the data for which `keep(i)`. */
  within(x0, x1, y0, y1, keep) {
    this.#build();
    const found = [];
    const { x, y } = this.#points;
    this.#visit(x0, x1, y0, y1, (i) => {
      if (x[i] >= x0 && x[i] <= x1 && y[i] >= y0 && y[i] <= y1 && keep(i)) found.push(i);
    });
    return found.sort((a, b) => a - b);
  }

  #visit(x0, x1, y0, y1, visitor) {
    if (!this.#starts) return;
    const last = this.side - 1;
    const cell = (value, low, scale) => Math.min(last, Math.max(0, Math.floor((value - low) * scale)));
    const [left, right] = [cell(x0, this.x0, this.sx), cell(x1, this.x0, this.sx)];
    const [bottom, top] = [cell(y0, this.y0, this.sy), cell(y1, this.y0, this.sy)];
    for (let row = bottom; row <= top; row += 1) {
      const from = this.#starts[row * this.side + left];
      const to = this.#starts[row * this.side + right + 1];
      for (let k = from; k < to; k += 1) visitor(this.#order[k]);
    }
  }

  #build() {
    const points = this.#points;
    if (points.revision === this.#revision) return;
    this.#revision = points.revision;
    this.#starts = null;
    const xs = points.range("x");
    const ys = points.range("y");
    if (!xs || !ys) return;
    const { x, y, n } = points;
    const side = Math.max(1, Math.min(512, Math.ceil(Math.sqrt(n / PER_CELL))));
    this.side = side;
    [this.x0, this.y0] = [xs[0], ys[0]];
    this.sx = side / (xs[1] - xs[0] || 1);
    this.sy = side / (ys[1] - ys[0] || 1);
    const cells = new Int32Array(n);
    const starts = new Uint32Array(side * side + 1);
    for (let i = 0; i < n; i += 1) {
      // NaN is nowhere.
      if (!(x[i] - x[i] === 0 && y[i] - y[i] === 0)) {
        cells[i] = -1;
        continue;
      }
      const column = Math.min(side - 1, ((x[i] - this.x0) * this.sx) | 0);
      const row = Math.min(side - 1, ((y[i] - this.y0) * this.sy) | 0);
      cells[i] = row * side + column;
      starts[cells[i] + 1] += 1;
    }
    for (let k = 0; k < side * side; k += 1) starts[k + 1] += starts[k];
    const next = starts.slice();
    const order = new Uint32Array(n);
    for (let i = 0; i < n; i += 1) if (cells[i] >= 0) order[next[cells[i]]++] = i;
    this.#order = order;
    this.#starts = starts;
  }
}

/** Is (x, y) inside a polygon, [[x, y], ...]? */
export function inside(polygon, x, y) {
  let odd = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i, i += 1) {
    const [ax, ay] = polygon[i];
    const [bx, by] = polygon[j];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) odd = !odd;
  }
  return odd;
}
