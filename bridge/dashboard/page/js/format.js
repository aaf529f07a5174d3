// Numbers and times as people read them.

const NONE = "–";
const THIN = "\u202f";
const finite = (value) => typeof value === "number" && Number.isFinite(value);

function integer(value) {
  if (!finite(value)) return NONE;
  const digits = String(Math.abs(Math.round(value)));
  const text = digits.length > 4 ? digits.replace(/\B(?=(\d{3})+$)/g, THIN) : digits;
  return (Math.round(value) < 0 ? "−" : "") + text;
}

function number(value, digits = 3) {
  if (value === null || value === undefined) return NONE;
  if (typeof value !== "number") return String(value);
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) {
    const [mantissa, power] = value.toExponential(Math.max(0, digits - 1)).split("e");
    return `${mantissa.replace("-", "−")}e${power.replace("+", "").replace("-", "−")}`;
  }
  const places = Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
  const text = value.toFixed(Math.min(6, places));
  const [whole, rest] = text.split(".");
  const head = integer(Number(whole));
  const sign = whole.startsWith("-") && !head.startsWith("−") ? "−" : "";
  return rest === undefined ? integer(value) : `${sign}${head}.${rest}`;
}

function duration(seconds) {
  if (!finite(seconds)) return NONE;
  const size = Math.abs(seconds);
  if (size < 1e-3) return `${number(seconds * 1e6, 2)}${THIN}µs`;
  if (size < 1) return `${number(seconds * 1e3, 3)}${THIN}ms`;
  if (size < 60) return `${seconds.toFixed(size < 10 ? 1 : 0)}${THIN}s`;
  const whole = Math.round(size);
  const [days, hours, minutes] = [
    Math.floor(whole / 86400),
    Math.floor(whole / 3600) % 24,
    Math.floor(whole / 60) % 60,
  ];
  const two = (value) => String(value).padStart(2, "0");
  if (days) return `${days}${THIN}d ${two(hours)}${THIN}h`;
  if (hours) return `${hours}${THIN}h ${two(minutes)}${THIN}min`;
  return `${minutes}:${two(whole % 60)}${THIN}min`;
}

function bytes(value) {
  if (!finite(value)) return NONE;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let power = 0;
  while (Math.abs(value) >= 1000 && power < units.length - 1) {
    value /= 1000;
    power += 1;
  }
  return `${power ? number(value, 3) : integer(value)}${THIN}${units[power]}`;
}

const clocks = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hour12: false,
});
const dates = new Intl.DateTimeFormat(undefined, {
  year: "numeric",
  month: "short",
  day: "numeric",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hour12: false,
});

export const format = {
  none: NONE,
  integer,
  /** `digits` significant ones. */
  number,
  /** The same without zeros at the end: 250, 0.5, 3.1416. */
  short: (value, digits = 5) =>
    Number.isInteger(value) && Math.abs(value) < 1e12
      ? integer(value)
      : finite(value) && Math.abs(value) < 1e6 && (value === 0 || Math.abs(value) >= 1e-4)
        ? number(value, digits)
            .replace(/(\.\d*?)0+$/, "$1")
            .replace(/\.$/, "")
        : number(value, digits),
  /** 1 234 frames/s, 0.52 frames/s. */
  rate: (value) => (finite(value) ? number(value, value >= 100 ? 4 : 3) : NONE),
  percent: (share) =>
    finite(share) ? `${(share * 100).toFixed(share < 0.0995 ? 1 : 0)}${THIN}%` : NONE,
  bytes,
  duration,
  /** 12.3 ns: simulated time with its unit; ps become ns and µs where that is shorter. */
  time: (value, unit = "") => {
    if (!finite(value)) return NONE;
    if (unit === "ps" && Math.abs(value) >= 1e6) return `${number(value / 1e6, 4)}${THIN}µs`;
    if (unit === "ps" && Math.abs(value) >= 1e3) return `${number(value / 1e3, 4)}${THIN}ns`;
    return unit ? `${number(value, 4)}${THIN}${unit}` : number(value, 4);
  },
  value: (value, unit = "") =>
    unit ? `${format.short(value)}${THIN}${unit}` : format.short(value),
  /** 14:03:22, of Unix seconds. */
  clock: (stamp) => (finite(stamp) && stamp > 0 ? clocks.format(stamp * 1000) : NONE),
  date: (stamp) => (finite(stamp) && stamp > 0 ? dates.format(stamp * 1000) : NONE),
  words: (name) => String(name ?? "").replaceAll("_", " "),
};
