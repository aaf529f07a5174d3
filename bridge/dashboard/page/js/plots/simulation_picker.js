// Which simulations a panel shows: a list to tick, with a filter, that folds away.

/** `onChange({simulations})` gets the names, or null for the first ones, whichever they are. */
export function simulationPicker(shared, config, onChange) {
  const { h } = shared.context.ui;
  const names = shared.context.run.simulations ?? [];
  const chosen = () => new Set(shared.simulations(config));
  const summary = h("summary", { "data-testid": "series-simulations" });
  const say = () => {
    summary.textContent = `${chosen().size} of ${names.length} simulations`;
  };
  const filter = h("input", {
    type: "search", placeholder: "filter", "aria-label": "Filter the simulations", class: "obs-column",
  });
  const list = h("div", { class: "obs-ticks", role: "group", "aria-label": "Simulations" });
  const boxes = new Map();
  const tell = () => {
    const ticked = names.filter((name) => boxes.get(name)?.checked);
    onChange({ simulations: ticked });
    say();
  };
  const button = (text, wanted) =>
    shared.context.ui.button(
      text,
      () => {
        for (const [name, box] of boxes) if (matches(name)) box.checked = wanted;
        tell();
      },
      { kind: "quiet" },
    );
  const matches = (name) => name.toLowerCase().includes(filter.value.trim().toLowerCase());
  const fold = h(
    "details",
    { class: "obs-fold" },
    summary,
    h("div", { class: "obs-popup" }, h("div", { class: "obs-row" }, filter, button("All", true), button("None", false)), list),
  );
  // 200 boxes are made when they are first looked at.
  fold.addEventListener("toggle", () => {
    if (!fold.open || boxes.size) return;
    const shown = chosen();
    for (const name of names) {
      const box = h("input", { type: "checkbox" });
      box.checked = shown.has(name);
      box.addEventListener("change", tell);
      boxes.set(name, box);
      list.append(h("label", { class: "obs-check" }, box, name));
    }
  });
  fold.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && fold.open) {
      fold.open = false;
      summary.focus();
      event.stopPropagation();
    }
  });
  filter.addEventListener("input", () => {
    for (const [name, box] of boxes) box.parentElement.hidden = !matches(name);
  });
  say();
  return fold;
}
