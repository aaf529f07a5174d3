// How views talk to each other, and what the page remembers between two visits.
//
// Keys in use:
//   run         what `/api/run` says
//   overview    newest data of the channel "overview"
//   simulation  name of the chosen simulation, or null
//   frames      chosen frames, [{simulation, offset}]
//   alarms      alarms that are on, gravest first
//   at          time shown in replay, Unix seconds; null for now
//   theme       "light" or "dark", as it looks at present

export class Store {
  #values = new Map();
  #listeners = new Map();

  get(key) {
    return this.#values.get(key);
  }

  /** Set a value and tell who listens; the same value again (===) tells nobody. */
  set(key, value) {
    const before = this.#values.get(key);
    if (before === value) return;
    this.#values.set(key, value);
    this.tell(key, before);
  }

  /** Tell listeners of `key` although its value is the same object as before. */
  tell(key, before = undefined) {
    for (const listener of [...(this.#listeners.get(key) ?? [])]) {
      try {
        listener(this.#values.get(key), before);
      } catch (error) {
        console.error(`A listener of "${key}" failed.`, error);
      }
    }
  }

  /** Call `listener(value, before)` at each change; returns a function that ends this. */
  on(key, listener) {
    if (!this.#listeners.has(key)) this.#listeners.set(key, new Set());
    this.#listeners.get(key).add(listener);
    return () => this.#listeners.get(key).delete(listener);
  }
}

export const store = new Store();

/** Small preferences of this browser; storage that is switched off is no error. */
export const memory = {
  get(key, fallback = null) {
    try {
      const text = localStorage.getItem(`headrace.${key}`);
      return text === null ? fallback : JSON.parse(text);
    } catch {
      return fallback;
    }
  },
  set(key, value) {
    try {
      localStorage.setItem(`headrace.${key}`, JSON.stringify(value));
    } catch {
      // The preference holds for this visit alone.
    }
  },
};
