// Ledger and events as the page keeps them: fed by small messages with what is new, bounded.

import { store } from "./state.js";

const EVENTS = 5000;
const LINES = 5000;

/** State of a ledger line in one word, at `at` (null for now). */
export function stateOf(line, at = null) {
  const answered = line.outcome && (at === null || !line.answered || line.answered <= at);
  if (answered) return line.outcome;
  const approval = line.approval?.state;
  if (approval === "awaiting") return "awaiting";
  if (approval === "denied" || line.verdict === "denied") return "denied";
  if (line.verdict === "awaiting_approval")
    return approval === "approved" ? "approved" : "awaiting";
  if (line.verdict === "refused") return "refused";
  if (line.verdict === "dry_run") return "dry run";
  if (approval === "approved" && !line.verdict) return "approved";
  // Of a run that is over: its simulation was killed before it could answer.
  if (at === null && store.get("run")?.state === "ended") return "unanswered";
  return approval === "approved" ? "approved" : "sent";
}

class Model {
  #listeners = new Set();

  /** Call `listener(model)` after changes, at most once a frame; returns how to end this. */
  on(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  changed() {
    for (const listener of [...this.#listeners]) {
      try {
        listener(this);
      } catch (error) {
        console.error("A list could not be shown.", error);
      }
    }
  }
}

/** Decisions, newest first in `lines`. */
export class Ledger extends Model {
  lines = [];
  loaded = false;
  #byId = new Map();

  constructor(connection) {
    super();
    connection.subscribe("ledger", { limit: 1000 }, (message) => this.#take(message), {
      every: 0.25,
      live: true,
    });
  }

  get(id) {
    return this.#byId.get(id);
  }

  /** Lines that a person may still answer: none once the run is over. */
  get awaiting() {
    return store.get("run")?.state === "ended"
      ? []
      : this.lines.filter((line) => stateOf(line) === "awaiting");
  }

  #take({ data, first }) {
    if (first || data.reset) this.#byId.clear();
    for (const line of data.lines ?? []) {
      this.#byId.delete(line.id);
      this.#byId.set(line.id, line);
    }
    this.lines = [...this.#byId.values()].sort((a, b) => (b.decided ?? 0) - (a.decided ?? 0));
    for (const line of this.lines.splice(LINES)) this.#byId.delete(line.id);
    this.loaded = true;
    this.changed();
  }
}

/** Events, oldest first in `list`. */
export class Events extends Model {
  list = [];
  loaded = false;
  /** Numbers of events that came while the page was open start after this one. */
  opened = null;

  constructor(connection) {
    super();
    connection.subscribe("events", { limit: 1000 }, (message) => this.#take(message), {
      every: 0.25,
      live: true,
    });
  }

  #take({ data, first }) {
    if (first || data.reset) this.list = [];
    const last = this.list.length ? this.list[this.list.length - 1].number : -1;
    for (const event of data.events ?? []) if (event.number > last) this.list.push(event);
    if (this.list.length > EVENTS) this.list.splice(0, this.list.length - EVENTS);
    this.opened ??= data.last ?? last;
    this.loaded = true;
    this.changed();
  }
}
