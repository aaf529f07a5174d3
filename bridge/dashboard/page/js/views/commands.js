// Manual commands: forms made from what each simulation declares that it lets others do. What is
// checked here saves a round trip; the server decides.

import { memory } from "../state.js";
import { button, confirm, format, h, put, select, toast } from "../ui.js";

const number = (value) => {
  const parsed = value === null || value === undefined || value === "" ? NaN : Number(value);
  return Number.isFinite(parsed) ? parsed : null;
};

/** Who acts, for the ledger; remembered by this browser. */
export function author() {
  return memory.get("author", "").trim();
}

/** What the server said of a command, as a toast. */
export function tell(answer, what) {
  const verdict = answer?.verdict ?? answer?.state ?? "sent";
  const level = ["refused", "denied", "failed"].includes(verdict)
    ? "error"
    : answer?.problem
      ? "warning"
      : verdict === "sent"
        ? "ok"
        : "info";
  // Why it is not on its way yet is the last sentence of the reason.
  const words = answer?.problem && verdict === "sent" ? "not on its way yet" : verdict;
  toast(`${what}: ${format.words(words)}${answer?.reason ? `. ${answer.reason}` : "."}`, {
    level,
    ...(level === "warning" && { seconds: 10 }),
  });
  return level;
}

/** The unit that a capability declares; "1" is how many codes say that there is none. */
const unitOf = ({ unit }) => (unit && unit !== "1" ? unit : "");

function bounds(capability) {
  const [low, high] = [number(capability.minimum), number(capability.maximum)];
  const unit = unitOf(capability) && ` ${unitOf(capability)}`;
  if (low !== null && high !== null)
    return `${format.short(low, 5)} to ${format.short(high, 5)}${unit}`;
  if (low !== null) return `at least ${format.short(low, 5)}${unit}`;
  if (high !== null) return `at most ${format.short(high, 5)}${unit}`;
  return unit && `in${unit}`;
}

/** The panel's contents; `update(capabilities)` and `choose(simulation)` bring it up to date. */
export function commandForms({ api, store }) {
  const chooser = h("select", {
    "aria-label": "Simulation",
    testid: "command-simulation",
    onchange: () => choose(chooser.value),
  });
  const reason = h("input", {
    type: "text",
    maxlength: 500,
    placeholder: "Why, for the ledger",
    "aria-label": "Reason",
    testid: "command-reason",
  });
  const forms = h("div", { class: "stack" });
  const element = h(
    "div",
    { class: "stack", testid: "commands" },
    h("label", { class: "field" }, h("span", {}, "Simulation"), chooser),
    forms,
    h("label", { class: "field" }, h("span", {}, "Reason"), reason),
  );
  let [all, chosen, shown] = [{}, null, ""];

  async function send(fields, what, control) {
    control.disabled = true;
    try {
      const body = { simulation: chosen, reason: reason.value.trim(), ...fields };
      if (author()) body.author = author();
      const answer = await api.post("commands", body);
      if (tell(answer, `${chosen}: ${what}`) !== "error") reason.value = "";
    } catch (error) {
      toast(error.message, { level: "error" });
    } finally {
      control.disabled = false;
    }
  }

  function valueForm(capability) {
    const { kind, parameter = "", description = "" } = capability;
    const unit = unitOf(capability);
    const [low, high] = [number(capability.minimum), number(capability.maximum)];
    const label = kind === "interval" ? "Steps between frames" : format.words(parameter);
    const testid = `command-${kind}${parameter ? `-${parameter}` : ""}`;
    const said = h("span", { class: "field-error", role: "alert" });
    const step = kind === "interval" ? 1 : "any";
    const input = h("input", {
      type: "number",
      step,
      inputmode: "decimal",
      required: true,
      testid: `${testid}-value`,
      "aria-label": `${label}${unit ? ` in ${unit}` : ""}`,
      oninput: check,
    });
    if (low !== null) input.min = low;
    if (high !== null) input.max = high;
    const go = button(kind === "set" ? "Set" : "Change", null, { testid, type: "submit" });

    function check() {
      const value = number(input.value);
      let text = "";
      if (input.value !== "" && value === null) text = "This is not a number.";
      else if (value !== null && low !== null && value < low)
        text = `The lowest value allowed is ${format.short(low, 5)}.`;
      else if (value !== null && high !== null && value > high)
        text = `The highest value allowed is ${format.short(high, 5)}.`;
      else if (value !== null && kind === "interval" && !Number.isInteger(value))
        text = "A number of steps is whole.";
      put(said, text);
      input.setAttribute("aria-invalid", String(Boolean(text)));
      return value !== null && !text;
    }

    return h(
      "form",
      {
        class: "command",
        novalidate: true,
        onsubmit: (event) => {
          event.preventDefault();
          if (!check()) return input.focus();
          const fields =
            kind === "set"
              ? { kind, parameter, value: Number(input.value) }
              : { kind, value: Number(input.value) };
          send(fields, `${label} = ${format.value(Number(input.value), unit)}`, go);
        },
      },
      h(
        "div",
        { class: "command-head" },
        h("strong", {}, label),
        h("span", { class: "muted" }, bounds(capability)),
      ),
      description && h("p", { class: "muted" }, description),
      h("div", { class: "command-line" }, input, unit && h("span", { class: "unit" }, unit), go),
      said,
    );
  }

  function restartForm(capability) {
    const source = h("input", {
      type: "text",
      testid: "command-restart-simulation",
      "aria-label": "Simulation of the frame",
      value: store.get("frames")?.[0]?.simulation ?? chosen,
    });
    const offset = h("input", {
      type: "number",
      min: 0,
      step: 1,
      required: true,
      testid: "command-restart-offset",
      "aria-label": "Offset of the frame",
      placeholder: "frame",
      value: store.get("frames")?.[0]?.offset ?? "",
    });
    const velocities = select(
      "Velocities",
      [
        { value: "redraw", label: "draw velocities anew" },
        { value: "keep", label: "keep velocities" },
      ],
      "redraw",
      () => {},
      { testid: "command-restart-velocities" },
    );
    const go = button("Restart", null, { testid: "command-restart", type: "submit" });
    const take = button(
      "Chosen frame",
      () => {
        const frame = store.get("frames")?.[0];
        if (!frame)
          return toast(
            "No frame is chosen: click a point in the embedding, or a frame in the ledger.",
          );
        source.value = frame.simulation;
        offset.value = frame.offset;
      },
      { kind: "quiet small" },
    );
    return h(
      "form",
      {
        class: "command",
        novalidate: true,
        onsubmit: (event) => {
          event.preventDefault();
          const value = number(offset.value);
          if (value === null || value < 0 || !Number.isInteger(value) || !source.value.trim()) {
            toast("Name the frame to restart from: a simulation and a whole number from 0.", {
              level: "warning",
            });
            return offset.focus();
          }
          send(
            {
              kind: "restart",
              frame: { simulation: source.value.trim(), offset: value },
              velocities: velocities.value,
            },
            `restart from frame ${value} of ${source.value.trim()}`,
            go,
          );
        },
      },
      h("div", { class: "command-head" }, h("strong", {}, "Restart from a frame"), take),
      capability.description && h("p", { class: "muted" }, capability.description),
      h("div", { class: "command-line" }, source, offset),
      h("div", { class: "command-line" }, velocities, go),
    );
  }

  function plainButtons(capabilities) {
    const kinds = ["pause", "resume", "stop"].filter((kind) =>
      capabilities.some((one) => one.kind === kind),
    );
    if (!kinds.length) return null;
    return h(
      "div",
      { class: "command" },
      h(
        "div",
        { class: "line" },
        kinds.map((kind) => {
          const go = button(
            format.words(kind[0].toUpperCase() + kind.slice(1)),
            async () => {
              if (
                kind === "stop" &&
                !(await confirm(
                  `Stop ${chosen}?`,
                  "It ends in good order, and cannot be resumed.",
                  { action: "Stop it", testid: "command-stop-confirm", reason: false },
                ))
              )
                return;
              send({ kind }, kind, go);
            },
            {
              testid: `command-${kind}`,
              kind: kind === "stop" ? "danger" : "",
              icon: { pause: "pause", resume: "play", stop: "stop" }[kind],
              title: capabilities.find((one) => one.kind === kind)?.description || null,
            },
          );
          return go;
        }),
      ),
    );
  }

  function build() {
    const capabilities = all[chosen] ?? [];
    const signature = JSON.stringify([chosen, capabilities]);
    if (signature === shown) return;
    shown = signature;
    forms.replaceChildren(
      ...[
        plainButtons(capabilities),
        ...capabilities
          .filter((one) => one.kind === "set" || one.kind === "interval")
          .map(valueForm),
        ...capabilities
          .filter((one) => one.kind === "restart")
          .slice(0, 1)
          .map(restartForm),
        capabilities.length === 0 &&
          h(
            "p",
            { class: "muted" },
            chosen
              ? "This simulation lets nobody steer it."
              : "No simulation has said yet what it lets others do.",
          ),
      ].filter(Boolean),
    );
  }

  function choose(name) {
    chosen = name;
    if (chooser.value !== name) chooser.value = name ?? "";
    build();
  }

  return {
    element,
    choose: (name) => name && name in all && choose(name),
    update(capabilities) {
      all = capabilities ?? {};
      const names = Object.keys(all).sort(new Intl.Collator(undefined, { numeric: true }).compare);
      if (names.join("\0") !== [...chooser.options].map((option) => option.value).join("\0")) {
        chooser.replaceChildren(...names.map((name) => h("option", { value: name }, name)));
      }
      const preferred =
        [chosen, store.get("simulation"), names[0]].find((name) => name && name in all) ?? null;
      choose(preferred);
    },
  };
}
