// The rows of the stretch that is looked at, where those of the whole run are too few for it.

import { SeriesSet } from "./series_data.js";

/** Milliseconds without a change of the range before its rows are asked for. */
const SETTLED = 250;

/** `panel` says what to ask for: its `asked`, `set`, `stamps`, and `place`. */
export class Detail {
  constructor(panel) {
    this._panel = panel;
    this._range = null;
    this._timer = 0;
    this._subscriptions = [];
    /** Key to series; empty while there is nothing finer. */
    this.series = new Map();
  }

  end() {
    clearTimeout(this._timer);
    for (const subscription of this._subscriptions) subscription.close();
    this._subscriptions = [];
    this.series = new Map();
    this._range = null;
  }

  /** Look at a stretch of the axis; null for all of it. */
  follow(range) {
    if (String(range) === String(this._range)) return;
    this.end();
    this._range = range;
    if (!range) return;
    // Until the finer rows are there, the coarse ones are shown.
    this._timer = setTimeout(() => this._ask(range), SETTLED);
  }

  _ask(range) {
    const panel = this._panel;
    if (!panel.set.all.some((series) => series.stride > 1.01)) return;
    const sets = new SeriesSet(panel.set.limit);
    for (const { run, options } of panel.asked) {
      const begin = panel.stamps.get(run) ?? 0;
      const between = range.map((x) => x - begin);
      const take = (message) => {
        panel.place(message, run);
        sets.take(message, run);
        this.series = new Map(sets.all.map((series) => [series.key, series]));
        panel.later();
      };
      this._subscriptions.push(
        panel.shared.context.connection.subscribe("series", { ...options, between }, take, { every: 1 }),
      );
    }
  }
}
