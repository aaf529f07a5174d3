// Mouse, touch and keys of the picture, turned into zoom, hover, choice of a point or of a region.

import { inside } from "./grid.js";

const STILL = 4;
const STEP = 40;
// Pixels about a finger in which a point is meant, and in which a tap does not count as a drag.
const [FINGER, UNSTEADY] = [22, 10];

/** Make `figure` listen; what was chosen goes to `figure.events.pick(i, more)` and `.region(list)`. */
export function steer(figure) {
  const { canvas } = figure;
  const pointers = new Map();
  let drag = null;
  let pinch = null;

  const where = (event) => {
    const edge = canvas.getBoundingClientRect();
    return [event.clientX - edge.left, event.clientY - edge.top];
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    const at = where(event);
    pointers.set(event.pointerId, at);
    canvas.setPointerCapture?.(event.pointerId);
    figure.leave();
    if (pointers.size === 2) {
      pinch = between(pointers);
      drag = null;
      figure.region = null;
    } else if (pointers.size === 1) {
      drag = { start: at, last: at, moved: false, places: event.shiftKey || figure.selecting ? [at] : null, more: event.ctrlKey || event.metaKey };
    }
  });

  canvas.addEventListener("pointermove", (event) => {
    const at = where(event);
    if (!pointers.has(event.pointerId)) {
      figure.hover(...at);
      return;
    }
    pointers.set(event.pointerId, at);
    if (pinch !== null && pointers.size === 2) {
      const now = between(pointers);
      // What is between the fingers stays there.
      figure.pan(now.x - pinch.x, now.y - pinch.y);
      if (now.apart > 0 && pinch.apart > 0) figure.zoom(pinch.apart / now.apart, now.x, now.y);
      pinch = now;
      return;
    }
    if (!drag) return;
    const still = event.pointerType === "touch" ? UNSTEADY : STILL;
    drag.moved ||= Math.hypot(at[0] - drag.start[0], at[1] - drag.start[1]) > still;
    if (!drag.moved) return;
    if (drag.places) {
      if (figure.regionKind === "lasso") drag.places.push(at);
      else drag.places = corners(drag.start, at);
      figure.region = drag.places;
    } else {
      figure.pan(at[0] - drag.last[0], at[1] - drag.last[1]);
    }
    drag.last = at;
  });

  const end = (event) => {
    const at = pointers.get(event.pointerId);
    pointers.delete(event.pointerId);
    if (pointers.size < 2) pinch = null;
    const done = drag;
    drag = null;
    if (!done || !at || event.type === "pointercancel") {
      figure.region = null;
      return;
    }
    if (!done.moved) {
      const touched = event.pointerType === "touch";
      const i = touched ? figure.at(...at, FINGER) : figure.at(...at);
      if (i >= 0) figure.events.pick(i, done.more || Boolean(done.places));
      figure.region = null;
    } else if (done.places) {
      figure.region = null;
      figure.events.region(enclosed(figure, done.places), done.more);
    }
  };
  canvas.addEventListener("pointerup", end);
  canvas.addEventListener("pointercancel", end);
  canvas.addEventListener("pointerleave", () => figure.leave());
  canvas.addEventListener("dblclick", () => figure.fit());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1;
    figure.zoom(Math.exp(Math.max(-1, Math.min(1, event.deltaY * lines * 0.0016))), ...where(event));
  }, { passive: false });

  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { left, top, width, height } = figure.box;
    const middle = [left + width / 2, top + height / 2];
    const action = {
      ArrowLeft: () => figure.pan(STEP, 0), ArrowRight: () => figure.pan(-STEP, 0),
      ArrowUp: () => figure.pan(0, STEP), ArrowDown: () => figure.pan(0, -STEP),
      "+": () => figure.zoom(0.8, ...middle), "=": () => figure.zoom(0.8, ...middle), "-": () => figure.zoom(1.25, ...middle),
      0: () => figure.fit(), Home: () => figure.fit(),
      Escape: () => figure.events.region([], false),
      Enter: () => {
        const i = figure.at(...middle, Infinity);
        if (i >= 0) figure.events.pick(i, event.shiftKey);
      },
      ",": () => figure.events.next(-1), ".": () => figure.events.next(1),
    }[event.key];
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  });
}

function between(pointers) {
  const [a, b] = [...pointers.values()];
  return { x: (a[0] + b[0]) / 2, y: (a[1] + b[1]) / 2, apart: Math.hypot(a[0] - b[0], a[1] - b[1]) };
}

function corners([x0, y0], [x1, y1]) {
  return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]];
}

function enclosed(figure, places) {
  const polygon = places.map(([px, py]) => figure.data(px, py));
  const xs = polygon.map(([x]) => x);
  const ys = polygon.map(([, y]) => y);
  const { points, shown } = figure;
  return figure.grid.within(Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys), (i) =>
    (shown === null || shown[points.simulation[i]] !== 0) && inside(polygon, points.x[i], points.y[i]));
}
