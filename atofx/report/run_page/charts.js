/* Drawings by Observable Plot. Colours are the page's, so they follow its light and dark scheme. */
(() => {
  "use strict";

  const { Plot } = globalThis;
  const BEFORE = "var(--before)", AFTER = "var(--after)", OTHER = "var(--other)";
  const ROW = 18; // pixels of a bar

  /** Room for the longest of some names, in pixels. */
  const margin = (names) => Math.min(260, 20 + 6.5 * Math.max(1, ...names.map((name) => name.length)));

  /** Before and after, a row a name: {name, before, after}. */
  function bars(rows, { label, percent = false, width = 620 }) {
    const names = rows.map((row) => row.name);
    return Plot.plot({
      width,
      height: 56 + ROW * rows.length,
      marginBottom: 36,
      marginLeft: margin(names),
      x: { label, grid: true, percent },
      y: { domain: names, label: null },
      marks: [
        Plot.barX(rows, { x: "before", y: "name", fill: BEFORE, fillOpacity: 0.35, stroke: BEFORE }),
        Plot.barX(rows, { x: "after", y: "name", fill: AFTER, insetTop: 3, insetBottom: 3, channels: { before: "before" }, tip: true }),
        Plot.ruleX([0]),
      ],
    });
  }

  /** Lines over epochs: [{points: [[x, y]], colour, dashed}], and horizontal rules [{y, colour}]. */
  function lines(series, { label, rules = [], percent = false }) {
    return Plot.plot({
      width: 620,
      height: 310,
      marginBottom: 42,
      x: { label: "epoch", tickFormat: (value) => (Number.isInteger(value) ? String(value) : "") },
      y: { label, grid: true, percent, nice: true },
      marks: [
        ...rules.map(({ y, colour }) => Plot.ruleY([y], { stroke: colour, strokeDasharray: "2 4", strokeWidth: 2 })),
        ...series.map(({ points, colour, dashed }) => Plot.line(points, { stroke: colour, strokeWidth: 2, strokeDasharray: dashed ? "6 4" : null })),
        ...series.map(({ points, colour }) => Plot.dot(points, { r: 2.5, fill: colour, tip: true })),
      ],
    });
  }

  /** Kept shares: a row a group, a column an epoch. */
  function heatMap(groups, epochs, kept) {
    const cells = kept.flatMap((shares, column) => shares.map((share, row) => ({ epoch: epochs[column], group: groups[row], kept: share })));
    const step = Math.max(1, Math.ceil(epochs.length / 20));
    return Plot.plot({
      width: 620,
      height: 56 + ROW * groups.length,
      marginBottom: 36,
      marginLeft: margin(groups),
      x: { label: "epoch", domain: epochs, ticks: epochs.filter((_, index) => index % step === 0) },
      y: { domain: groups, label: null },
      color: { scheme: "viridis", domain: [0, 1], legend: true, label: "kept", marginLeft: 12 },
      marks: [Plot.cell(cells, { x: "epoch", y: "group", fill: "kept", inset: 0, tip: true })],
    });
  }

  /** Medians as bars and quartiles as lines: {name, lower, median, upper, colour}. */
  function times(rows, label) {
    return Plot.plot({
      width: 620,
      height: 56 + 30 * rows.length,
      marginBottom: 36,
      marginLeft: margin(rows.map((row) => row.name)),
      x: { label, grid: true },
      y: { domain: rows.map((row) => row.name), label: null },
      marks: [
        Plot.barX(rows, { x: "median", y: "name", fill: (row) => row.colour, insetTop: 4, insetBottom: 4, tip: true }),
        Plot.ruleY(rows, { x1: "lower", x2: "upper", y: "name", strokeWidth: 2, marker: "tick-x" }),
        Plot.ruleX([0]),
      ],
    });
  }

  /** Points with names: {x, y, name, colour, symbol}. */
  function scatter(points, { x, y }) {
    return Plot.plot({
      width: 760,
      height: 420,
      marginRight: 120,
      marginBottom: 42,
      inset: 20,
      x: { label: x, grid: true, nice: true, percent: true },
      y: { label: y, grid: true, nice: true },
      marks: [
        Plot.dot(points, { x: "x", y: "y", fill: (point) => point.colour, symbol: (point) => point.symbol, r: 6, channels: { run: "name" }, tip: true }),
        Plot.text(points, { x: "x", y: "y", text: "name", dx: 10, textAnchor: "start" }),
      ],
    });
  }

  globalThis.atofx.charts = { BEFORE, AFTER, OTHER, bars, heatMap, lines, scatter, times };
})();
