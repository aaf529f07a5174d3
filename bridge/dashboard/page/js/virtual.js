// A list of which only the rows on the screen exist.

import { attribute, h, keyed } from "./ui.js";

let lists = 0;

/**
 * Options: `label`, `testid`, `rowHeight` in pixels (`narrowHeight` on a phone), `key(item)`, `make(item)` to {node, ...},
 * `update(parts, item)`, `onSelect(item)`. Returns {element, set(items), select(key)}. What somebody
 * has scrolled to stays where it is when rows come in above it.
 */
export function virtualList({
  label,
  testid = null,
  rowHeight: wideHeight,
  narrowHeight = wideHeight,
  key,
  make,
  update,
  onSelect = null,
}) {
  const id = `list-${++lists}`;
  const space = h("div", { class: "virtual-space" });
  const element = h(
    "div",
    { class: "virtual", testid, role: "listbox", tabindex: 0, "aria-label": label },
    space,
  );
  const nodes = new Map();
  const narrow = matchMedia("(max-width: 560px)");
  let rowHeight = narrow.matches ? narrowHeight : wideHeight;
  let [items, chosen, pending] = [[], null, false];

  function draw() {
    pending = false;
    const first = Math.max(0, Math.floor(element.scrollTop / rowHeight) - 6);
    const count = Math.ceil((element.clientHeight || 600) / rowHeight) + 12;
    const part = items.slice(first, first + count).map((item, i) => ({ item, index: first + i }));
    keyed(
      space,
      nodes,
      part,
      ({ item }) => key(item),
      ({ item }) => {
        const parts = make(item);
        parts.node.classList.add("virtual-row");
        attribute(parts.node, "role", "option");
        parts.node.id = `${id}-${key(item)}`;
        parts.node.addEventListener("click", () => pick(parts.item));
        return parts;
      },
      (parts, { item, index }) => {
        parts.item = item;
        if (parts.index !== index) {
          parts.index = index;
          parts.node.style.setProperty("transform", `translateY(${index * rowHeight}px)`);
        }
        attribute(parts.node, "aria-selected", String(key(item) === chosen));
        attribute(parts.node, "aria-posinset", index + 1);
        attribute(parts.node, "aria-setsize", items.length);
        update(parts, item);
      },
    );
    attribute(
      element,
      "aria-activedescendant",
      chosen !== null && nodes.has(chosen) ? `${id}-${chosen}` : null,
    );
  }

  function soon() {
    if (pending) return;
    pending = true;
    requestAnimationFrame(draw);
  }

  function pick(item) {
    chosen = key(item);
    draw();
    onSelect?.(item);
  }

  element.addEventListener("scroll", soon, { passive: true });
  element.addEventListener("keydown", (event) => {
    const jump = {
      ArrowDown: 1,
      ArrowUp: -1,
      PageDown: 10,
      PageUp: -10,
      Home: -Infinity,
      End: Infinity,
    }[event.key];
    if (jump === undefined || !items.length || event.target !== element) return;
    event.preventDefault();
    const here = items.findIndex((item) => key(item) === chosen);
    const next = Math.min(items.length - 1, Math.max(0, here < 0 ? 0 : here + jump));
    const top = next * rowHeight;
    if (top < element.scrollTop) element.scrollTop = top;
    if (top + rowHeight > element.scrollTop + element.clientHeight)
      element.scrollTop = top + rowHeight - element.clientHeight;
    pick(items[next]);
  });
  function turned() {
    rowHeight = narrow.matches ? narrowHeight : wideHeight;
    for (const parts of nodes.values()) parts.index = -1;
    space.style.setProperty("height", `${items.length * rowHeight}px`);
    soon();
  }

  narrow.addEventListener("change", turned);
  const sized = new ResizeObserver(soon);
  sized.observe(element);

  return {
    element,
    set(next) {
      const scrolled = element.scrollTop;
      const anchor =
        scrolled > 0 && items.length
          ? Math.min(items.length - 1, Math.floor(scrolled / rowHeight))
          : -1;
      const name = anchor >= 0 ? key(items[anchor]) : null;
      items = next;
      space.style.setProperty("height", `${items.length * rowHeight}px`);
      if (name !== null) {
        const now = items.findIndex((item) => key(item) === name);
        if (now >= 0 && now !== anchor) element.scrollTop = scrolled + (now - anchor) * rowHeight;
      }
      draw();
    },
    select(name) {
      chosen = name;
      draw();
    },
    close() {
      sized.disconnect();
      narrow.removeEventListener("change", turned);
    },
  };
}
