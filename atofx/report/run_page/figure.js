/* A section of the report: what it shows, the drawing, and the same figures as a table. */
(() => {
  "use strict";

  const { make } = globalThis.atofx.dom;

  /** Rows of cells as a table; the first row is the head. */
  function table([head, ...rows]) {
    const cells = (row, tag) => make("tr", {}, row.map((cell) => make(tag, {}, String(cell))));
    return make("div", { className: "scroll" }, make("table", {}, make("thead", {}, cells(head, "th")), make("tbody", {}, rows.map((row) => cells(row, "td")))));
  }

  /** What the colours mean: [class, colour, text]. */
  function key(entries) {
    return make("div", { className: "key quiet" }, entries.map(([kind, colour, text]) => {
      const swatch = make("i", { className: kind });
      swatch.style[kind === "box" ? "background" : "borderTopColor"] = colour;
      return make("span", {}, swatch, text);
    }));
  }

  /** A section; `rows` are the figures of the drawing, folded away. */
  function section(id, title, { note = "", legend = [], drawing = null, rows = null, content = [], wide = false }) {
    const parts = [make("h2", { id: `${id}-title` }, title)];
    if (note) parts.push(make("p", { className: "quiet" }, note));
    if (legend.length) parts.push(key(legend));
    if (drawing) {
      drawing.setAttribute("aria-label", `${title}. The figures are in the table below.`);
      drawing.setAttribute("role", "img");
      parts.push(make("figure", {}, drawing));
    }
    parts.push(...content);
    if (rows) parts.push(make("details", {}, make("summary", {}, "Figures"), table(rows)));
    return make("section", { id, className: wide ? "wide" : "", "aria-labelledby": `${id}-title` }, parts);
  }

  globalThis.atofx.figure = { section, table };
})();
