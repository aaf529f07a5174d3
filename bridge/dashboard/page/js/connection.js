// One WebSocket for the whole page. The server has at most one message in flight for each
// subscription and makes the next from the newest state once this one is acknowledged, which
// happens after its handler has returned: a slow page is behind by one message, never by a queue.

import { base } from "./api.js";

const FIRST_WAIT = 0.4;
const LONGEST_WAIT = 10;
const PING_EVERY = 5;
const SILENT_AFTER = 20;
const ARRAYS = {
  "<f4": Float32Array,
  "<f8": Float64Array,
  "<i4": Int32Array,
  "<u4": Uint32Array,
  "<i2": Int16Array,
  "<u2": Uint16Array,
  "|u1": Uint8Array,
  "|i1": Int8Array,
  "<u1": Uint8Array,
  "<i1": Int8Array,
  "|b1": Uint8Array,
  "<i8": BigInt64Array,
  "<u8": BigUint64Array,
};

/** `window.__stats`: messages shown, messages not made as the page was busy, age of what is shown
 * (median of the last 31), and messages by channel. */
export const stats = { frames: 0, dropped: 0, lag_ms: 0, received: {} };

/** Header and arrays of a binary message; arrays are views of `buffer`. 64-bit integers become
 * Float64Array, exact up to 2^53, since nobody wants to draw with BigInt. */
export function decode(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const start = Math.ceil((4 + length) / 8) * 8;
  const arrays = {};
  for (const { name, dtype, shape, offset } of header.arrays ?? []) {
    const Type = ARRAYS[dtype];
    if (!Type)
      throw new Error(`The array "${name}" has the type ${dtype}, which this page does not read.`);
    const count = shape.reduce((a, b) => a * b, 1);
    let array = new Type(buffer, start + offset, count);
    if (Type === BigInt64Array || Type === BigUint64Array)
      array = whole(buffer, start + offset, count);
    array.shape = shape;
    arrays[name] = array;
  }
  return { ...header, arrays };
}

// By halves, which is twenty times as fast as by way of BigInt.
function whole(buffer, start, count) {
  const low = new Uint32Array(buffer, start, 2 * count);
  const high = new Int32Array(buffer, start, 2 * count);
  const numbers = new Float64Array(count);
  for (let i = 0; i < count; i += 1) numbers[i] = low[2 * i] + high[2 * i + 1] * 4294967296;
  return numbers;
}

export class Connection {
  #socket = null;
  #subscriptions = new Map();
  #next = 1;
  #at = null;
  #tries = 0;
  #timer = null;
  #listeners = new Set();
  #lags = [];
  #offsets = [];
  #heard = 0;
  #stopped = false;

  /** "connecting", "open", "waiting" (for the next try), "refused" (the token is not valid). */
  state = "connecting";
  /** Unix time in ms of the next try while `state` is "waiting". */
  retryAt = 0;
  /** What the server said as it ended, a sentence; empty if it did not. */
  farewell = "";
  /** Seconds that the server's clock is ahead of ours. */
  offset = 0;

  constructor() {
    this.url = new URL("ws", base);
    this.url.protocol = this.url.protocol === "https:" ? "wss:" : "ws:";
    addEventListener("online", () => this.retry());
    document.addEventListener("visibilitychange", () => document.hidden || this.retry());
    addEventListener("pagehide", () => this.#socket?.close());
    setInterval(() => this.#beat(), PING_EVERY * 1000);
    this.#open();
  }

  /** Unix time in seconds on the server's clock. */
  now() {
    return Date.now() / 1000 + this.offset;
  }

  /** Time that is shown: null for now. Merged into the options of every subscription. */
  get at() {
    return this.#at;
  }

  set at(value) {
    if (this.#at === value) return;
    this.#at = value;
    for (const [id, one] of this.#subscriptions) {
      if (one.live) continue;
      this.#send({ type: "update", id, options: this.#options(one) });
    }
  }

  /** Call `listener(state)` when the state of the connection changes; returns how to end this. */
  onState(listener) {
    this.#listeners.add(listener);
    listener(this.state);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Follow a channel. `onMessage({data | meta, arrays, stamp, seq, first})` may be async; the
   * next message comes after it has returned. `first` is true for the first message after each
   * (re)connection: what was collected before may then be replaced.
   * Options: `every` seconds between two messages at least; `live` true to ignore replay;
   * `onError(sentence)`.
   */
  subscribe(
    channel,
    options = {},
    onMessage = () => {},
    { every = 0.2, live = false, onError = null } = {},
  ) {
    const id = this.#next++;
    const one = { channel, options: { ...options }, onMessage, every, live, onError, first: true };
    this.#subscriptions.set(id, one);
    this.#subscribe(id, one);
    return {
      id,
      update: (changed) => {
        one.options = { ...one.options, ...changed };
        this.#send({ type: "update", id, options: this.#options(one) });
      },
      close: () => {
        if (this.#subscriptions.delete(id)) this.#send({ type: "unsubscribe", id });
      },
    };
  }

  /** Try again now instead of at the end of the wait. */
  retry() {
    if (this.state !== "waiting" && this.state !== "refused") return;
    clearTimeout(this.#timer);
    this.#open();
  }

  #options(one) {
    return one.live || this.#at === null
      ? { ...one.options, at: null }
      : { ...one.options, at: this.#at };
  }

  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #subscribe(id, one) {
    one.first = true;
    const { channel, every } = one;
    this.#send({ type: "subscribe", id, channel, options: this.#options(one), every });
  }

  #become(state) {
    this.state = state;
    for (const listener of this.#listeners) listener(state);
  }

  #open() {
    if (this.#stopped) return;
    this.#become("connecting");
    const socket = new WebSocket(this.url, "headrace.1");
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    socket.onopen = () => {
      this.#tries = 0;
      this.farewell = "";
      this.#heard = Date.now();
      this.#offsets = [];
      this.#become("open");
      this.#ping();
      for (const [id, one] of this.#subscriptions) this.#subscribe(id, one);
    };
    socket.onmessage = (event) => {
      this.#heard = Date.now();
      this.#receive(socket, event.data);
    };
    socket.onclose = (event) => {
      if (socket !== this.#socket) return;
      if (event.reason) this.farewell = event.reason;
      this.#wait();
    };
  }

  async #wait() {
    this.#socket = null;
    // Whoever said good-bye is not back in a moment.
    const full = this.farewell
      ? LONGEST_WAIT
      : Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.#tries++);
    const wait = full * (0.75 + 0.5 * Math.random());
    this.retryAt = Date.now() + wait * 1000;
    this.#become("waiting");
    this.#timer = setTimeout(() => this.#open(), wait * 1000);
    // A socket that is refused does not say why; a request does.
    try {
      const answer = await fetch(new URL("api/run", base), { cache: "no-store" });
      if (answer.status === 401 || answer.status === 403) {
        clearTimeout(this.#timer);
        this.#become("refused");
        this.#timer = setTimeout(() => this.#open(), LONGEST_WAIT * 1000);
      }
    } catch {
      // Nobody there: the next try will tell.
    }
  }

  #beat() {
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    if (Date.now() - this.#heard > SILENT_AFTER * 1000) {
      // A cut cable closes nothing; silence although we ping means that nobody is there.
      const socket = this.#socket;
      this.#socket = null;
      socket.onclose = null;
      socket.onmessage = null;
      socket.close();
      this.#wait();
    } else {
      this.#ping();
    }
  }

  #ping() {
    this.#send({ type: "ping", t: Date.now() / 1000 });
  }

  #pong(message) {
    const now = Date.now() / 1000;
    const server = message.now ?? message.stamp ?? message.server;
    if (typeof server !== "number" || typeof message.t !== "number") return;
    this.#offsets.push({ trip: now - message.t, offset: server - (now + message.t) / 2 });
    if (this.#offsets.length > 12) this.#offsets.shift();
    // The quickest round trip has the least room for an error.
    this.offset = this.#offsets.reduce((a, b) => (b.trip < a.trip ? b : a)).offset;
  }

  async #receive(socket, raw) {
    let message;
    try {
      message = typeof raw === "string" ? JSON.parse(raw) : decode(raw);
    } catch (error) {
      console.error("A message could not be read.", error);
      return;
    }
    if (message.type === "pong") return this.#pong(message);
    const one = this.#subscriptions.get(message.id);
    if (message.type === "error") {
      console.warn(message.error);
      one?.onError?.(message.error);
      return;
    }
    if (!one) return;
    message.first = one.first;
    one.first = false;
    stats.received[message.channel] = (stats.received[message.channel] ?? 0) + 1;
    // Made no more, as the page was busy with the one before.
    stats.dropped += message.skipped ?? 0;
    try {
      await one.onMessage(message);
    } catch (error) {
      console.error(`The page could not show a message of "${message.channel}".`, error);
    }
    stats.frames += 1;
    this.#lag(message.stamp);
    if (socket.readyState === WebSocket.OPEN) {
      socket.send(JSON.stringify({ type: "ack", id: message.id, seq: message.seq }));
    }
  }

  #lag(stamp) {
    if (typeof stamp !== "number") return;
    this.#lags.push(Math.max(0, (this.now() - stamp) * 1000));
    if (this.#lags.length > 31) this.#lags.shift();
    const sorted = [...this.#lags].sort((a, b) => a - b);
    stats.lag_ms = Math.round(sorted[sorted.length >> 1] * 10) / 10;
  }
}
