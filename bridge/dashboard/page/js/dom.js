// Elements, made and brought up to date in place. Data only ever becomes text nodes and attributes:
// a simulation called "<script>" is shown as such.

const SVG = "http://www.w3.org/2000/svg";

// They turn the order of all that follows in a line: a name may not make "approved" read as it likes.
const TURNING = /[\u202a-\u202e\u2066-\u2069]/g;

function tame(child) {
  return typeof child === "string" ? child.replace(TURNING, "\ufffd") : child;
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on") && typeof value === "function") {
      node.addEventListener(name.slice(2).toLowerCase(), value);
    } else if (name === "class") {
      node.setAttribute("class", Array.isArray(value) ? value.filter(Boolean).join(" ") : value);
    } else if (name === "style") {
      // Through the CSSOM: the content-security policy forbids style attributes.
      for (const [key, text] of Object.entries(value)) node.style.setProperty(key, text);
    } else if (name === "dataset") {
      for (const [key, text] of Object.entries(value)) node.dataset[key] = text;
    } else if (name === "testid") {
      node.setAttribute("data-testid", value);
    } else if (
      name === "value" ||
      name === "checked" ||
      name === "disabled" ||
      name === "selected"
    ) {
      node[name] = value;
    } else {
      node.setAttribute(name, value === true ? "" : String(value));
    }
  }
  node.append(
    ...children
      .flat(Infinity)
      .filter((child) => child !== null && child !== undefined && child !== false)
      .map(tame),
  );
  return node;
}

/** An HTML element: `h("button", {class: "quiet", testid: "go", onclick: f}, "Go")`. */
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Set the text of `node` in place, if it has changed. */
export function put(node, text) {
  const next = text === null || text === undefined ? "" : tame(String(text));
  if (node.headraceText === next) return;
  node.headraceText = next;
  if (node.firstChild?.nodeType === Node.TEXT_NODE && node.childNodes.length === 1)
    node.firstChild.data = next;
  else node.textContent = next;
}

/** Set an attribute, if it has changed; null removes it. */
export function attribute(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) {
    node.setAttribute(name, value);
  }
}

/**
 * Make the children of `parent` be one node for each item, reusing those that are there.
 * `nodes` is a Map that the caller keeps: key to {node, ...}; `make(item)` returns such an object,
 * `update(object, item)` brings it up to date. Nodes move only where the order has changed.
 */
export function keyed(parent, nodes, items, key, make, update) {
  const wanted = new Set();
  let before = null;
  for (const item of items) {
    const name = key(item);
    if (wanted.has(name)) continue;
    wanted.add(name);
    let object = nodes.get(name);
    if (!object) {
      object = make(item);
      nodes.set(name, object);
    }
    update?.(object, item);
    const next = before ? before.nextSibling : parent.firstChild;
    if (object.node !== next) parent.insertBefore(object.node, next);
    before = object.node;
  }
  for (const [name, object] of nodes) {
    if (wanted.has(name)) continue;
    object.node.remove();
    nodes.delete(name);
  }
}
