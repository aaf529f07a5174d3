// Columns of the results as people name them: `rg`, or one number of several, `dihedrals[0]`.

const LISTED = 32;

/** Every number that can be plotted, as {text, unit}; of a long column only the first ones. */
export function numbersOf(columns) {
  const found = [];
  for (const { name, size = 1, unit = "" } of columns ?? []) {
    if (size === 1) found.push({ text: name, unit });
    else for (let i = 0; i < Math.min(size, LISTED); i += 1) found.push({ text: `${name}[${i}]`, unit });
  }
  return found;
}

/** What is wrong with a name, as a sentence; an empty text if nothing is. */
export function faultOf(columns, text) {
  const match = /^([^[\]]+)(?:\[(\d+)\])?$/.exec(text);
  const column = match && (columns ?? []).find((c) => c.name === match[1]);
  if (!column) return `There is no column “${text}”.`;
  const size = column.size ?? 1;
  if (match[2] === undefined && size > 1) return `“${text}” has ${size} numbers; write ${text}[0].`;
  if (match[2] !== undefined && Number(match[2]) >= size) {
    return `“${match[1]}” has ${size} ${size === 1 ? "number" : "numbers"}, counted from 0.`;
  }
  return "";
}

/** The unit that a column is declared in, an empty text where none is known. */
export function unitOf(columns, text) {
  const root = text.replace(/\[\d+\]$/, "");
  return (columns ?? []).find((c) => c.name === root)?.unit ?? "";
}

/**
 * How the numbers of a column are shown: their unit, and what to multiply them by. Angles come in
 * radians, and are read in degrees; "1" is how many codes say that there is no unit.
 */
export function shownOf(columns, text) {
  const unit = unitOf(columns, text);
  if (unit === "rad") return { unit: "°", factor: 180 / Math.PI };
  return { unit: unit === "1" ? "" : unit, factor: 1 };
}

/** A number of a column with its unit, as tooltips have it. */
export function valueOf(format, value, { unit, factor }) {
  const number = format.short(value * factor);
  return unit === "°" ? `${number}°` : `${number}${unit && "\u202f"}${unit}`;
}

/** Numbers of a column as they are shown. */
export function scaled(values, factor) {
  return factor === 1 ? values : Float64Array.from(values, (value) => value * factor);
}

/** A name with its unit, as axes and heads of tables have it. */
export function withUnit(text, unit) {
  return unit ? `${text} / ${unit}` : text;
}

/** An input that knows the columns; `onPick` gets a valid name, faults are shown beside it. */
export function columnPicker(ui, { columns, label, value = "", testid, onPick, optional = false }) {
  const id = `obs-columns-${Math.random().toString(36).slice(2)}`;
  const input = ui.h("input", {
    type: "text",
    list: id,
    value,
    placeholder: label,
    "aria-label": label,
    "data-testid": testid,
    autocomplete: "off",
    spellcheck: "false",
    class: "obs-column",
  });
  const list = ui.h("datalist", { id });
  for (const { text, unit } of numbersOf(columns)) {
    list.append(ui.h("option", { value: text }, unit));
  }
  const fault = ui.h("span", { class: "obs-fault", role: "status" });
  input.addEventListener("change", () => {
    const text = input.value.trim();
    const wrong = text || !optional ? faultOf(columns, text) : "";
    fault.textContent = wrong && text ? wrong : "";
    input.setAttribute("aria-invalid", String(Boolean(wrong && text)));
    if (!wrong) onPick(text, input);
  });
  return ui.h("span", { class: "obs-picker" }, input, list, fault);
}
