// Building and renewing the document. Nothing here, or anywhere on this page, reads a text as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. `attributes` that are null or false are left out; strings among `children` become text. */
function el(tag, attributes, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
function svg(tag, attributes, ...children) {
  return furnish(document.createElementNS(SVG, tag), attributes, children);
}

function furnish(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== undefined && value !== false) {
      node.setAttribute(name, value === true ? "" : String(value));
    }
  }
  // Text nodes beside each other would not be found again by `renew`.
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false && child !== ""));
  return node;
}

/** A name that somebody else chose: isolated, so that it can not turn the words around it. */
function named(text) {
  return el("bdi", null, String(text));
}

/** What `record` itself has under `key`; what every object inherits does not count. */
function own(record, key) {
  return record && Object.hasOwn(record, key) ? record[key] : undefined;
}

/** Make the children of `node` those of `wanted`, and touch only what differs: focus and selection stay. */
function renew(node, wanted) {
  const fresh = [...wanted.childNodes];
  const present = [...node.childNodes];
  fresh.forEach((next, index) => {
    const now = present[index];
    if (!now) {
      node.append(next);
    } else if (!alike(now, next)) {
      now.replaceWith(next);
    } else if (now.nodeType === Node.TEXT_NODE) {
      if (now.data !== next.data) now.data = next.data;
    } else {
      renewAttributes(now, next);
      renew(now, next);
    }
  });
  present.slice(fresh.length).forEach((left) => left.remove());
}

function alike(one, other) {
  return one.nodeType === other.nodeType && one.nodeName === other.nodeName && one.id === other.id;
}

function renewAttributes(now, next) {
  for (const { name } of [...now.attributes]) {
    // Whether details are open is the reader's choice.
    if (!next.hasAttribute(name) && name !== "open") now.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (now.getAttribute(name) !== value) now.setAttribute(name, value);
  }
}

const quietly = ["legend", "versions-table"]; // tables whose caption stands above them already

/** A table with a caption. `rows` are lists of cells; a cell is a child, or a list of children. */
function table(caption, headings, rows, kind = "") {
  // Roles are written out: a narrow window lays rows out as blocks, and tables lose their meaning by that.
  const cell = (content, column) =>
    column === 0
      ? el("th", { scope: "row", role: "rowheader" }, content)
      : el("td", { role: "cell", "data-label": headings[column] }, el("span", { class: "value" }, content));
  return el("table", { class: `facts ${kind}`, role: "table" },
    el("caption", null, el("span", { class: quietly.includes(kind) ? "unseen" : null }, caption)),
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" },
      headings.map((text) => el("th", { scope: "col", role: "columnheader" }, text)))),
    el("tbody", { role: "rowgroup" }, rows.map((row) => el("tr", { role: "row" }, row.map(cell)))));
}
